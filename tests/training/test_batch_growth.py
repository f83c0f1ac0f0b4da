"""The batch size may change at growth events, and a run may be measured without being trained by gradient."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from grow_cli.methods.base import Settling
from grow_cli.methods.depth import DepthMethod
from grow_cli.moment import Moment
from grow_cli.training.interrupts import Interrupts

# 300 samples: batches of 15, 30 and 60 divide them, so nothing is dropped that a test would have to count
WHOLE = ("method=copy", "batch_size=15", "evaluate.unit=epochs", "evaluate.every=0.2", "trigger.unit=epochs")
WHOLE += ("trigger.every=1", "stop.epochs=10", "growth.until=0.5", "schedule=anneal", "schedule.warmup=0")


@pytest.fixture
def doubling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each growth event doubles the batch size."""
    settle = DepthMethod.settle

    def settled(self: DepthMethod, now: Moment, flops_per_sample: int) -> Settling:
        return replace(settle(self, now, flops_per_sample), batch_size=2 * now.batch_size)

    monkeypatch.setattr(DepthMethod, "settle", settled)


def _rows(loop: Any) -> pd.DataFrame:
    loop.train()
    return pd.read_csv(loop.folder.metrics)


@pytest.mark.slow
def test_the_budgets_epochs_are_passes_whatever_the_batch_size(doubling: None, make: Any) -> None:
    loop = make(*WHOLE)
    rows = _rows(loop)
    progress = loop.session.progress
    assert rows["batch_size"].unique().tolist() == [15, 30, 60]
    assert progress.epoch == pytest.approx(10)
    assert progress.step == 20 + 10 + 8 * 5
    assert progress.samples == 10 * 300
    assert rows["epoch"].diff().iloc[1:].tolist() == pytest.approx([0.2] * (len(rows) - 1))
    assert rows["epoch"].iloc[-1] == 10
    assert (rows["samples"] / 300).tolist() == pytest.approx(rows["epoch"].tolist())
    lr = rows["lr"] / loop.session.config.optimizer.lr
    assert (lr[rows["epoch"] <= 5] == 1).all()
    assert lr.iloc[-1] == pytest.approx(1 / 25), "25 steps of it after growth.until, the last one a step before the end"
    assert loop.session.budget.used(progress.step, 0.0, 0.0) == pytest.approx(1)


def test_changes_in_the_middle_of_an_epoch_lose_no_samples(doubling: None, make: Any) -> None:
    loop = make(*WHOLE, "batch_size=14", "trigger.every=0.6", "growth.max_events=3")
    used: list[float] = []
    train = loop.train_until_next_evaluation

    def noted() -> None:
        before = loop.session.budget.used(loop.session.progress.step, 0.0, 0.0)
        train()
        used.extend([before, loop.session.budget.used(loop.session.progress.step, 0.0, 0.0)])

    loop.train_until_next_evaluation = noted
    rows = _rows(loop)
    assert rows["batch_size"].iloc[-1] == 112
    full = {14: 294, 28: 280, 56: 280, 112: 224}  # a pass without the incomplete batch
    epochs = sum(rows["samples"].diff().fillna(rows["samples"]) / rows["batch_size"].map(full))
    assert 10 <= epochs < 10 + 112 / 224
    assert loop.session.progress.epoch == pytest.approx(epochs)
    assert used[2::2] == pytest.approx(used[1:-1:2]), "no event moves the budget"
    assert used[-1] == 1


def test_steps_stay_steps(doubling: None, make: Any) -> None:
    loop = make(*WHOLE, "evaluate.unit=steps", "evaluate.every=6", "stop.steps=50")
    rows = _rows(loop)
    assert rows["step"].tolist() == [*range(6, 50, 6), 50]
    assert rows["batch_size"].nunique() > 1


def test_growth_at_every_tenth_of_an_epoch_is_growth_at_every_evaluation(doubling: None, make: Any) -> None:
    loop = make(
        *WHOLE, "batch_size=8", "evaluate.every=0.1", "trigger.every=0.1", "growth.max_events=4", "stop.epochs=2"
    )
    steps = [json.loads(line)["step"] for line in (loop.train(), loop.folder.growth.read_text())[1].splitlines()]
    assert [b - a for a, b in pairwise([0, *steps])] == [4, 2, 1, 1]  # of 37, 18, 9, 4 steps per epoch


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param(49, id="after one change", marks=pytest.mark.slow),
        pytest.param(70, id="at an evaluation", marks=pytest.mark.slow),
        pytest.param(80, id="after two"),
        pytest.param(88, id="late", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_to_the_bit_as_the_whole_one(
    looks: int, doubling: None, grow: Callable, small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = (*(o for o in small if not o.startswith("method.")), "method.warmup_steps=10", *WHOLE)
    assert grow("train", *typed, "run_dir=whole").code == 0
    looked = 0

    def arrived(self: Interrupts) -> int | None:
        nonlocal looked
        looked += 1
        return signal.SIGTERM if looked >= looks else None

    with monkeypatch.context() as patched:
        patched.setattr(Interrupts, "__call__", arrived)
        assert grow("train", *typed, "run_dir=cut").code == 143
    stopped = torch.load(tmp_path / "cut/checkpoints/last.pt", weights_only=True)
    assert stopped["progress"]["anchor_step"] > 0
    assert grow("resume", "cut").code == 0
    whole, cut = (torch.load(tmp_path / name / "checkpoints/last.pt", weights_only=True) for name in ("whole", "cut"))
    assert stopped["progress"]["step"] < cut["progress"]["step"]
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, cut["model"][name]), name
    clocks = ["seconds", "growth_seconds"]
    rows = [pd.read_csv(tmp_path / name / "metrics.csv").drop(columns=clocks) for name in ("whole", "cut")]
    pd.testing.assert_frame_equal(*rows, check_exact=True)
    for state in (whole, cut):
        state["progress"] = {k: v for k, v in state["progress"].items() if k not in clocks}
    assert whole["progress"] == cut["progress"]


def test_a_checkpoint_from_before_batch_sizes_changed_is_read(make: Any) -> None:
    progress = make().session.progress
    state = {k: v for k, v in progress.state_dict().items() if not k.startswith("anchor_")}
    progress.load_state_dict(state | {"step": 7})
    assert (progress.step, progress.anchor_step, progress.anchor_epoch) == (7, 0, 0.0)


@pytest.mark.parametrize(
    "options", [(), ("model=residual_cnn", "precision=bf16"), ("dataset=curve", "subset=null")], ids=str
)
def test_without_gradients_a_step_only_measures(
    options: tuple[str, ...], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, trained = (
        make("method=static", *options),
        make("method=static", *options, "optimizer=sgd", "optimizer.lr=1e-30"),
    )
    monkeypatch.setattr(type(loop.method), "trains_by_gradient", False)
    loop._model_changed()
    before = {name: p.detach().clone() for name, p in loop.session.model.named_parameters()}
    for each in (loop, trained):
        each.display.start(100, {})
        each.train_until_next_evaluation()
    progress = loop.session.progress
    assert progress.step == 25
    assert progress.flops - progress.growth_flops == loop.flops * progress.samples
    assert all(torch.equal(p, before[name]) for name, p in loop.session.model.named_parameters())
    assert all(p.grad is None for p in loop.session.model.parameters())
    assert not loop.session.optimizer.state
    for name in ("train_loss", "val_loss"):
        assert loop.session.measured[name] == pytest.approx(trained.session.measured[name], rel=1e-3)


def test_without_gradients_the_net_changes_at_growth_only(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = make("method=copy", "method.warmup_steps=3")
    monkeypatch.setattr(type(loop.method), "trains_by_gradient", False)
    loop._model_changed()
    first = {name: p.detach().clone() for name, p in loop.session.model.blocks[0].named_parameters()}
    loop.train()
    progress = loop.session.progress
    assert (progress.events, progress.growth_steps, progress.step) == (2, 6, 180), "warm-ups train"
    assert all(torch.equal(p, first[name]) for name, p in loop.session.model.blocks[0].named_parameters())
    assert progress.flops - progress.growth_flops < 3 * progress.samples * loop.flops
