"""`init=RUN`: a run begins with the net of another, as far as that had grown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

_STILL = (
    "method=static",
    "trigger=never",
    "stop.steps=2",
    "stop.epochs=null",
    "optimizer.lr=1e-20",
    "schedule.warmup=0",
)
"""A run that leaves its weights as they are."""


@pytest.fixture
def grown(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> Path:
    """The run to begin with, which keeps its net before each event."""
    assert grow("train", *small, "stop.epochs=10", "checkpoint.events=true", "run_dir=grown").code == 0
    return tmp_path / "grown"


def _still(small: tuple[str, ...]) -> tuple[str, ...]:
    data = (o for o in small if o.split("=")[0].split(".")[0] in ("dataset", "subset", "logger", "device"))
    return (*data, *_STILL)


def test_it_begins_with_the_weights_and_the_architecture_of_the_last_net_or_of_the_file_that_is_named(
    grow: Callable, small: tuple[str, ...], grown: Path, tmp_path: Path
) -> None:
    for given, file in (("grown", "last"), ("grown/checkpoints/before-1.pt", "before-1")):
        done = grow("train", *_still(small), f"init={given}", f"run_dir={file}")
        assert done.code == 0, done.err
        theirs = torch.load(grown / f"checkpoints/{file}.pt", weights_only=True)
        mine = torch.load(tmp_path / file / "checkpoints/last.pt", weights_only=True)
        assert mine["architecture"] == theirs["architecture"]
        for name, tensor in theirs["model"].items():
            torch.testing.assert_close(mine["model"][name], tensor, rtol=1e-6, atol=1e-7)
        assert f"{file}.pt" in (tmp_path / file / ".hydra/config.yaml").read_text(), "the config names the file"
    same = [json.loads((p / "summary.json").read_text())["test_loss"] for p in (grown, tmp_path / "last")]
    assert same[0] == pytest.approx(same[1], rel=1e-5), "inputs are normalised as they were"


@pytest.mark.slow
def test_it_is_resumed_to_the_last_bit_although_the_other_run_is_gone(
    grow: Callable, small: tuple[str, ...], grown: Path, tmp_path: Path
) -> None:
    own = [o for o in small if not o.startswith("model")]
    own += ["init=grown", "schedule=constant", "evaluate.every=9"]
    assert grow("train", *own, "stop.epochs=2", "run_dir=whole").code == 0
    assert grow("train", *own, "stop.epochs=1", "run_dir=half").code == 0
    shutil.rmtree(grown)
    assert grow("resume", "half", "stop.epochs=2").code == 0
    whole, half = (pd.read_csv(tmp_path / name / "metrics.csv") for name in ("whole", "half"))
    for column in ("step", "train_loss", "val_loss", "parameters"):
        assert list(whole[column])[-1] == list(half[column])[-1], column


@pytest.mark.slow
def test_its_controls_from_scratch_are_refused_for_they_would_lack_the_first_training(
    grow: Callable, small: tuple[str, ...], grown: Path
) -> None:
    own = [o for o in small if not o.startswith("model")]
    assert grow("train", *own, "stop.epochs=10", "init=grown", "label=on", "run_dir=on").code == 0
    outcome = grow("controls", "on", "--only", "static-flops,static-best")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("it started from the net of") == 2
    assert "grow train method=static init=" in outcome.out
    assert "on started from the net of another run" in " ".join(grow("compare", "grown", "on").out.split())


@pytest.mark.slow
def test_what_cannot_be_begun_with_is_refused_in_a_sentence(
    grow: Callable, small: tuple[str, ...], grown: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("no checkpoint")
    for typed, says in {
        ("init=grown", "model.norm=layer"): "leave one of the two out",
        ("init=grown", "dataset=moons"): "the data have inputs of shape (2,)",
        ("init=empty",): "it is neither a run folder nor a checkpoint",
        ("init=text.pt",): "truncated or damaged",
        ("init=none.pt",): "there is no checkpoint at",
    }.items():
        refused = grow("train", "method=static", *typed, "run_dir=no")
        assert refused.code == 2, typed
        assert says in refused.err, refused.err
        assert refused.err.count("\n") == 1, refused.err
        assert not (tmp_path / "no").exists()
