"""The run folder is appended to, trimmed to what a checkpoint knows, and never read half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from grow_cli.errors import UserError
from grow_cli.files import write_atomically, write_text
from grow_cli.records.folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A claimed folder with three rows and two events."""
    folder = RunFolder(tmp_path / "r")
    folder.create({"config": {"seed": 1}})
    for step in (10, 20, 30):
        folder.append_metrics({"step": step, "val_loss": float("nan") if step == 10 else 0.5, "widths": "64-64"})
    for number in (1, 2):
        folder.append_growth({"event": number, "loss_after": float("inf"), "nested": [float("nan"), 1.0]})
    yield folder
    folder.close()


def test_missing_values_are_empty_cells_and_nulls(folder: RunFolder) -> None:
    metrics = pd.read_csv(folder.metrics)
    assert metrics["val_loss"].isna().tolist() == [True, False, False]
    assert metrics["widths"].tolist() == ["64-64"] * 3
    first = json.loads(folder.growth.read_text().splitlines()[0])
    assert first == {"event": 1, "loss_after": None, "nested": [None, 1.0]}


def test_trimming_cuts_to_what_the_checkpoint_knows_and_appending_goes_on(folder: RunFolder) -> None:
    with folder.metrics.open("a") as file:
        file.write("40,0.")
    folder.trim(rows=2, lines=1)
    assert pd.read_csv(folder.metrics)["step"].tolist() == [10, 20]
    assert len(folder.growth.read_text().splitlines()) == 1
    folder.append_metrics({"step": 31, "val_loss": 0.1, "widths": "9"})
    assert pd.read_csv(folder.metrics)["step"].tolist() == [10, 20, 31]
    folder.trim(rows=0, lines=0)
    assert folder.metrics.read_text() == ""


def test_a_file_shorter_than_the_checkpoint_knows_is_refused(folder: RunFolder) -> None:
    with pytest.raises(UserError, match="the checkpoint expects"):
        folder.trim(rows=4, lines=1)
    folder.growth.write_text('{"event": 1}')  # a line without its end was not written whole
    with pytest.raises(UserError, match="the checkpoint expects"):
        folder.trim(rows=3, lines=1)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_text(path, "old")

    def breaks(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, breaks)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_with_a_run_is_refused_and_an_empty_one_is_not(folder: RunFolder, tmp_path: Path) -> None:
    folder.close()
    second = RunFolder(tmp_path / "r")
    with pytest.raises(UserError, match="already holds a run"):
        second.create({})
    second.discard_unless_trained()
    assert (tmp_path / "r/.hydra/config.yaml").exists()
    (tmp_path / "empty").mkdir()
    other = RunFolder(tmp_path / "empty")
    other.create({"config": {}})
    other.discard_unless_trained()
    assert not (tmp_path / "empty").exists()
    folder.discard_unless_trained()
    assert folder.metrics.exists(), "what was trained is never discarded"
