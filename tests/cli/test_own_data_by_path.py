"""A path where a dataset's name belongs is answered with the line to type, and that line composes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from grow_cli.commands.hydra_errors import _OWN
from grow_cli.data import arrays, tables


@pytest.mark.parametrize("typed", ["./img", "ABSOLUTE", *(f"own{suffix}" for suffix in _OWN)])
def test_a_path_is_answered_with_a_line_that_composes(typed: str, grow: Callable, tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    for suffix in _OWN:
        (tmp_path / f"own{suffix}").touch()
    typed = typed.replace("ABSOLUTE", f"{tmp_path}/img")
    left = grow("train", f"dataset={typed}")
    assert left.code == 2
    assert left.err.count("\n") == 1
    said = re.search(rf"type (dataset=\w+ dataset\.path={re.escape(typed)}( dataset\.target=COLUMN)?)", left.err)
    assert said, left.err
    assert grow("train", "--cfg", "job", *said[1].split()).code == 0


def test_every_file_of_arrays_and_tables_has_its_line() -> None:
    assert set(arrays.SUFFIXES) - set(_OWN) == {".npy"}, "one array, which has no targets"
    assert set(tables.SUFFIXES) <= set(_OWN)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    {
        "./nowhere": "there is no such file or folder",
        "nowhere.csv": "there is no such file or folder",
        "notes.doc": "is a file that no dataset reads: give .csv",
        "minst": "(did you mean mnist?); for data of your own use dataset=table dataset.path=FILE",
    }.items(),
)
def test_what_no_dataset_reads_is_one_sentence(typed: str, sentence: str, grow: Callable, tmp_path: Path) -> None:
    (tmp_path / "notes.doc").touch()
    left = grow("train", f"dataset={typed}")
    assert left.code == 2
    assert left.err.count("\n") == 1
    assert sentence in left.err
