"""`dataset.split_seed=seed`: a validation split for each seed of the run, and one way for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.errors import HydraException

from grow_cli.analysis import ways as compared
from grow_cli.analysis.notes import notes_of
from grow_cli.analysis.runs import read_records
from grow_cli.commands.train import compose
from grow_cli.data.tensors import Data, load_data
from grow_cli.errors import UserError


def _data(split_seed: object, seed: int | None, tmp_path: Path) -> Data:
    config = compose([f"dataset.split_seed={split_seed}", "dataset=digits"])
    return load_data(config.dataset, data_dir=tmp_path, subset=500, device=torch.device("cpu"), seed=seed)


@pytest.mark.slow
def test_the_word_seed_draws_split_subset_and_probe_as_the_number_of_the_runs_seed_does(tmp_path: Path) -> None:
    word, number, other = _data("seed", 3, tmp_path), _data(3, 0, tmp_path), _data("seed", 4, tmp_path)
    for split in ("train", "val", "test"):
        assert torch.equal(getattr(word, split).y, getattr(number, split).y)
    assert torch.equal(word.train.x, number.train.x)
    assert torch.equal(word.probe(50).x, number.probe(50).x)
    assert not torch.equal(word.val.x, other.val.x)
    assert torch.equal(word.test.y, other.test.y), "the test split is the dataset's own"


def test_any_other_word_is_refused_and_so_is_seed_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises((UserError, HydraException), match="or seed"):
        _data("seeds", 0, tmp_path)
    with pytest.raises(UserError, match="needs the seed of a run"):
        _data("seed", None, tmp_path)


@pytest.mark.slow
def test_runs_of_several_seeds_are_one_way_and_are_measured_again_on_their_own_splits(
    grow: Callable, tmp_path: Path
) -> None:
    words = ["subset=200", "stop.epochs=1", "progress=off", "dataset.split_seed=seed", "method=static"]
    assert grow("train", "-m", *words, "seed=0,1", "run_dir=sweep").code == 0
    records = read_records([tmp_path / "sweep"])
    assert {r.label for r in records} == {"static"}
    assert [r.config["dataset"]["split_seed"] for r in records] == ["seed", "seed"]
    for record in records:
        again = grow("eval", record.folder.path, "--json")
        found = json.loads(again.out) if again.code == 0 else {}
        assert found.get("val_accuracy") == record.summary["val_accuracy"], again
    ways = compared.ways_of([*records, *(replace(r, label="other") for r in records)])
    assert any(
        "its own validation split" in note
        for note in notes_of(ways, compared.tests_of(ways, "test_accuracy", None, None))
    )
