"""Growth that did not help is taken back: weights, optimizer, batch size and the method's memory are as before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from growing_nets import NETS, grow_at_random

from grow_cli.surgery.undo import Snapshot, Undo
from grow_cli.training.event import grow as grow_once
from grow_cli.training.step import make_step

GROWTHS = ["method=net2net", "method=random_width", "method=copy", "method=fold"]


def trained(make: Any, method: str, *overrides: str) -> Any:
    model = {"method=copy": "model=residual_mlp", "method=fold": "model=mlp_fold"}.get(method, "model=mlp_tiny")
    loop = make(method, model, *overrides)
    step = make_step(loop.session)
    for _ in range(20):
        step(*loop.session.batches.next())
    return loop


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "natural"])
@pytest.mark.parametrize("method", GROWTHS)
def test_a_restored_net_trains_on_as_if_it_had_never_grown(method: str, optimizer: str, make: Any) -> None:
    given = (f"optimizer={optimizer}", *(("optimizer.iterations=5",) if optimizer == "natural" else ()))
    plain, back = (trained(make, method, *given) for _ in range(2))
    snapshot = Snapshot.take(back.session.model, back.session.optimizer)
    identity = id(back.session.model)
    assert grow_once(back.session).units_added > 0
    place = back.session.batches.state_dict()
    step = make_step(back.session)
    for _ in range(5):
        step(*back.session.batches.next())
    snapshot.restore(back.session.model, back.session.optimizer)
    back.session.batches.load_state_dict(place)
    for group, other in zip(back.session.optimizer.param_groups, plain.session.optimizer.param_groups, strict=True):
        group["lr"] = other["lr"]  # the loop's: a warm-up had its own
    assert id(back.session.model) == identity
    assert back.session.model.architecture() == plain.session.model.architecture()
    torch.manual_seed(0)
    steps = [(loop.session, make_step(loop.session)) for loop in (plain, back)]
    for _ in range(5):
        for run, step in steps:
            step(*run.batches.next())
    for a, b in zip(plain.session.model.parameters(), back.session.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_snapshot_is_not_changed_by_what_comes_after(make: Any) -> None:
    loop = trained(make, "method=net2net")
    before = {name: t.clone() for name, t in loop.session.model.state_dict().items()}
    snapshot = Snapshot.take(loop.session.model, loop.session.optimizer)
    step = make_step(loop.session)
    for _ in range(3):
        step(*loop.session.batches.next())
    assert any(not torch.equal(t, before[name]) for name, t in loop.session.model.state_dict().items())
    assert all(torch.equal(t, before[name]) for name, t in snapshot.model.items())
    snapshot.restore(loop.session.model, loop.session.optimizer)
    for _ in range(3):
        make_step(loop.session)(*loop.session.batches.next())
    assert all(torch.equal(t, before[name]) for name, t in snapshot.model.items())


ROLLING = (
    "method=fold",
    "method.neurons_per_event=1",
    "model=mlp_fold",
    "model.hidden=[3]",
    "subset=400",
    "optimizer=adam",
    "trigger=every",
    "trigger.every=2",
    "growth.rollback=true",
    "growth.until=0.9",
    "stop.epochs=20",
)


def events_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "growth.jsonl").read_text().splitlines()]


def test_a_growth_that_helps_is_kept_and_one_that_does_not_is_undone(grow: Callable, tmp_path: Path) -> None:
    """A rate of nearly zero after the first events: no growth can help any more."""
    assert grow("train", *ROLLING, "optimizer.lr=1e-9", "run_dir=r").code == 0
    events = events_of(tmp_path / "r")
    assert [e["kind"] for e in events[:4]] == ["width", "rollback"] * 2
    for grown, undone in zip(events[::2], events[1::2], strict=False):
        assert undone["units_added"] == -grown["units_added"] == -1
        assert undone["widths_after"] == grown["widths_before"]
        assert undone["loss_after"] == pytest.approx(grown["loss_before"], rel=1e-6)
        assert undone["details"]["undone"] == grown["event"]
        assert undone["details"]["score_now"] <= undone["details"]["score_before"]
    assert grow("train", *ROLLING, "optimizer.lr=1e-2", "run_dir=s").code == 0
    kinds = [e["kind"] for e in events_of(tmp_path / "s")]
    assert kinds[:2] == ["width", "width"]


@pytest.mark.slow
def test_a_mistake_whose_neuron_was_taken_back_is_not_tried_again_and_is_told(grow: Callable, tmp_path: Path) -> None:
    import pandas as pd

    outcome = grow("train", *ROLLING, "optimizer.lr=1e-9", "run_dir=r")
    assert "taken back" in outcome.out
    table = pd.read_csv(tmp_path / "r/mistakes/mistakes.csv")
    assert table["rolled_back"].sum() >= 2
    assert table["sample"].is_unique
    summary = json.loads((tmp_path / "r/summary.json").read_text())
    assert summary["mistakes_targeted"] == int((table["rolled_back"] == 0).sum())
    assert grow("explain", "r").code == 0
    page = (tmp_path / "r/explain.html").read_text()
    assert page.count("taken back</span>") == table["rolled_back"].sum()
    assert grow("eval", "r").code == 0
    assert grow("plot", "r").code == 0


def test_without_rollback_nothing_is_remembered(make: Any) -> None:
    loop = trained(make, "method=net2net")
    loop.train_until_next_evaluation()
    loop.session.progress.growth_pending = True
    loop._grow()
    assert loop.session.undo is None


def test_what_can_be_undone_survives_a_checkpoint(make: Any, tmp_path: Path) -> None:
    loop = trained(make, "method=net2net", "growth.rollback=true")
    loop.train_until_next_evaluation()
    loop._grow()
    loop.save(best=False)
    again = Undo.from_state(torch.load(loop.folder.checkpoints / "last.pt", weights_only=True)["undo"])
    undo = loop.session.undo
    assert undo is not None
    assert undo.units > 0
    for name in ("event", "units", "score", "batch_size", "method"):
        assert getattr(again, name) == getattr(undo, name)
    assert again.snapshot.architecture == undo.snapshot.architecture
    assert all(torch.equal(t, undo.snapshot.model[name]) for name, t in again.snapshot.model.items())
    for parameter, state in undo.snapshot.optimizer["state"].items():
        assert torch.equal(again.snapshot.optimizer["state"][parameter]["exp_avg"], state["exp_avg"])


@pytest.mark.parametrize("limit", ["growth.max_units=[4]", "growth.max_events=1", "growth.until=0.15"])
def test_the_last_growth_is_judged_too(limit: str, grow: Callable, tmp_path: Path) -> None:
    assert grow("train", *ROLLING, limit, "optimizer.lr=1e-9", "run_dir=r").code == 0
    events = events_of(tmp_path / "r")
    assert [e["kind"] for e in events[:2]] == ["width", "rollback"]
    assert events[-1]["kind"] == "rollback"
    assert json.loads((tmp_path / "r/summary.json").read_text())["widths"] == "3"


def test_a_growth_that_helped_stays_when_a_later_one_is_undone(make: Any) -> None:
    loop = trained(make, "method=fold", "growth.rollback=true", "method.neurons_per_event=2", "model.hidden=[3]")
    loop.train_until_next_evaluation()
    measured = loop.session.measured
    kinds = []
    for score in (0.5, 0.6, 0.6):  # at the first event, better at the second, no better after it
        measured["val_accuracy"] = score
        loop._grow()
        kinds.append(loop.session.model.widths())
    assert kinds == [[5], [7], [5]]
    assert [known.rolled_back for known in loop.method.state.grown] == [False, False, True, True]
    term = loop.method.regularizer(loop.session.moment())
    assert term is not None
    linear, (_, newest) = loop.session.model.hidden[0].linear, loop.method.state.grown[:2]
    assert newest.unit == 4
    assert len(linear.weight) == 5


def test_the_batch_size_and_the_methods_own_state_come_back(make: Any) -> None:
    loop = trained(make, "method=tiny", "growth.rollback=true", "method.batch_growth=true", "method.significance=false")
    loop.train_until_next_evaluation()
    state, size = loop.method.state_dict(), loop.session.batches.batch_size
    loop._grow()
    assert loop.session.batches.batch_size > size
    assert loop.method.state_dict() != state
    loop._grow()
    assert loop.session.batches.batch_size == size
    assert loop.method.state_dict() == state


@pytest.mark.parametrize("name", NETS)
def test_every_net_can_be_put_back(name: str) -> None:
    model, x = NETS[name].build()
    optimizer = torch.optim.AdamW(model.parameters())
    model(x).square().sum().backward()
    optimizer.step()
    snapshot, outputs = Snapshot.take(model, optimizer), model(x)
    grow_at_random(model, optimizer)
    assert model.architecture() != snapshot.architecture
    snapshot.restore(model, optimizer)
    torch.testing.assert_close(model(x), outputs, rtol=0, atol=0)
    assert [p for g in optimizer.param_groups for p in g["params"]] == list(model.parameters())
    assert len(optimizer.state) == len(list(model.parameters()))


@pytest.mark.parametrize("loss", [-0.01, 0.0, 0.01])
def test_a_tie_in_accuracy_is_broken_by_the_loss(loss: float, make: Any) -> None:
    loop = trained(make, "method=net2net", "growth.rollback=true", "growth.neurons=2")
    loop.train_until_next_evaluation()
    before = loop.session.model.widths()
    loop._grow()
    grown = loop.session.model.widths()
    assert grown != before
    loop.session.measured["val_loss"] += loss
    loop._grow()
    after = loop.session.model.widths()
    assert (sum(after) > sum(grown)) == (loss < 0)
    assert (after == before) == (loss >= 0)
    log = json.loads((loop.folder.path / "growth.jsonl").read_text().splitlines()[-1])
    assert ("without a lower loss" in str(log["details"])) == (loss >= 0)


def test_a_rollback_leaves_data_order_streams_and_restart_point_and_begins_a_new_trajectory(make: Any) -> None:
    loop = trained(make, "method=copy", "growth.rollback=true", "schedule.restart=true", "trigger=tau_kappa")
    loop.train_until_next_evaluation()
    loop._grow()
    loop.train_until_next_evaluation()
    session = loop.session
    session.measured["val_accuracy"] = -1.0
    place, restart = session.batches.state_dict(), (session.progress.restarted_at, session.progress.restart_step)
    streams, step = {n: session.streams[n].get_state() for n in ("data", "growth")}, session.progress.step
    loop._grow()
    assert session.progress.undone == 1
    assert str(session.batches.state_dict()) == str(place)
    assert all(torch.equal(session.streams[n].get_state(), state) for n, state in streams.items())
    assert (session.progress.restarted_at, session.progress.restart_step) == restart != (0.0, 0)
    assert session.progress.step == step
    assert session.progress.snapshots == len(session.history) == 1, "the trajectory begins anew"
