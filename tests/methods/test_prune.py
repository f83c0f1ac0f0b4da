"""Pruning: which units and blocks go, what stays as it is, and how it is taken back."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from grow_cli.data.base import DataSpec
from grow_cli.methods.prune import Prune, block_costs, stood_in_for, unit_costs
from grow_cli.models.cnn import CNNOption
from grow_cli.models.gpt import GPTOption
from grow_cli.models.mlp import MLPOption
from grow_cli.models.residual_mlp import ResidualMLPOption
from grow_cli.records.events import growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.surgery.apply import apply
from grow_cli.surgery.proposal import BlockRemoval, UnitRemoval
from grow_cli.surgery.undo import Undo
from grow_cli.tasks import TASKS
from grow_cli.training.event import grow as grow_once

IMAGES = DataSpec("images", "classification", (1, 6, 6), 3)
NETS: dict[str, tuple[Any, DataSpec]] = {
    "mlp": (MLPOption(hidden=[6, 5], activation="tanh"), IMAGES),
    "mlp, batch norm": (MLPOption(hidden=[6, 5], norm="batch", activation="selu"), IMAGES),
    "mlp, no bias": (MLPOption(hidden=[6, 5], bias=False, activation="selu"), IMAGES),
    "cnn": (CNNOption(channels=[[3, 4]], hidden=[5], activation="relu"), IMAGES),
    "gpt": (GPTOption(dim=8, heads=2, mlp=[6, 5]), DataSpec("text", "language", (7,), 256)),
    "residual": (ResidualMLPOption(width=4, hidden=[5, 3, 4]), IMAGES),
}


@pytest.fixture
def judged() -> Callable[[str], Any]:
    """As much of a run as judging takes: a net in float64, its loss, and samples in two batches."""

    def build(name: str) -> Any:
        torch.manual_seed(2)
        option, ends = NETS[name]
        net = option.build(ends)
        x = net.example(9)
        net.train()(x)  # norms whose statistics are not those of the start
        net.double().eval()
        y = torch.randint(256, x.shape) if ends.task == "language" else torch.randint(3, (9,))
        x = x if ends.task == "language" else x.double()
        found = SimpleNamespace(model=net, loss=TASKS[ends.task].loss(), x=x, y=y, stop_if_interrupted=lambda: None)
        found.sample = [(x[:4], y[:4]), (x[4:], y[4:])]
        return found

    return build


def entering(now: Any, site: Any, change: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The net's outputs where what enters the consumer is changed."""
    handle = site.consumer.register_forward_pre_hook(lambda _, given: (change(given[0]), *given[1:]))
    try:
        return now.model(x)
    finally:
        handle.remove()


def entries(site: Any, unit: int, like: Tensor) -> Tensor:
    """Ones where an entry of the consumer's input is one of this unit's."""
    mask = torch.zeros(site.units, site.columns_per_unit, dtype=like.dtype)
    mask[unit] = 1
    return mask.view(-1, *[1] * 2) if like.ndim == 4 else mask.flatten()


@pytest.mark.parametrize("name", NETS)
def test_a_units_cost_is_that_of_a_mask_about_its_mean(name: str, judged: Callable[[str], Any]) -> None:
    now = judged(name)
    sites = now.model.width_sites()
    for site, found in zip(sites, unit_costs(now, sites, now.sample), strict=True):
        seen: list[Tensor] = []
        entering(now, site, lambda t, seen=seen: seen.append(t.detach()) or t, now.x)  # type: ignore[misc,func-returns-value]
        for unit in range(site.units):
            own = entries(site, unit, seen[0])
            over = [d for d in range(seen[0].ndim) if d != (1 if seen[0].ndim == 4 else seen[0].ndim - 1)]
            mean = seen[0].mean(over, keepdim=True)[0] if site.consumer.bias is not None else 0.0
            expected = 0.0
            for n in range(len(now.x)):
                m = torch.ones((), dtype=torch.float64, requires_grad=True)
                outputs = entering(
                    now,
                    site,
                    lambda t, m=m, own=own, mean=mean: t + own * (m - 1) * (t - mean),
                    now.x[n : n + 1],  # type: ignore[misc]
                )
                (d,) = torch.autograd.grad(now.loss(outputs, now.y[n : n + 1]), m)
                expected += float(d**2 / 2 - d) / len(now.x)
            assert float(found[unit]) == pytest.approx(expected, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("name", ["mlp", "mlp, batch norm", "gpt", "residual"])
def test_a_unit_that_is_removed_acts_as_its_mean(name: str, judged: Callable[[str], Any]) -> None:
    now = judged(name)
    site, removed = now.model.width_sites()[0], torch.tensor([1, 3])
    seen: list[Tensor] = []
    entering(now, site, lambda t: seen.append(t.detach()) or t, now.x)  # type: ignore[func-returns-value]
    mean = seen[0].flatten(0, -2).mean(0)
    own = torch.zeros(site.units, dtype=torch.float64).index_fill(0, removed, 1)
    expected = entering(now, site, lambda t: t + own * (mean - t), now.x)
    apply(UnitRemoval(site, removed, replace=stood_in_for(now, site, removed, now.sample)), now.model, None)
    assert now.model.widths()[0] == site.units == len(own) - 2
    torch.testing.assert_close(now.model(now.x), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in NETS if name != "mlp, no bias"])
def test_the_mean_of_what_reads_a_removed_unit_stays(name: str, judged: Callable[[str], Any]) -> None:
    """At the border of an image too, where a kernel reads zeros."""
    for index in range(len(judged(name).model.width_sites())):
        now = judged(name)
        site, removed = now.model.width_sites()[index], torch.tensor([0, 2])
        means = []
        for _ in range(2):
            seen: list[Tensor] = []
            handle = site.consumer.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.detach()))
            now.model(now.x)
            handle.remove()
            out = seen[0].movedim(1, -1) if seen[0].ndim == 4 else seen[0]
            means.append(out.flatten(0, -2).mean(0))
            if len(means) == 1:
                apply(UnitRemoval(site, removed, replace=stood_in_for(now, site, removed, now.sample)), now.model, None)
        torch.testing.assert_close(means[1], means[0], rtol=1e-9, atol=1e-12)


def test_units_behind_a_flatten_and_of_kernels_are_removed_with_all_that_is_theirs(
    judged: Callable[[str], Any],
) -> None:
    for index in (0, 1):  # kernels that kernels read, and kernels that a flatten leads to a linear map
        now = judged("cnn")
        site = now.model.width_sites()[index]
        gone = entries(site, 2, torch.zeros(1, 1, 1, 1) if index == 0 else torch.zeros(1, 1)).double()
        expected = entering(now, site, lambda t, gone=gone: t * (1 - gone), now.x)  # type: ignore[misc]
        apply(UnitRemoval(site, torch.tensor([2])), now.model, None)
        torch.testing.assert_close(now.model(now.x), expected, rtol=1e-9, atol=1e-12)


def test_what_stays_keeps_its_memory_in_the_optimizer() -> None:
    torch.manual_seed(0)
    net = MLPOption(hidden=[4, 3], norm="batch").build(IMAGES)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    net(net.example(8)).square().mean().backward()
    optimizer.step()
    site, kept = net.width_sites()[0], torch.tensor([0, 2])
    maps = ((site.producer, 0), (site.consumer, 1))
    before = [optimizer.state[m.weight]["exp_avg"].index_select(dim, kept) for m, dim in maps]
    apply(UnitRemoval(site, torch.tensor([1, 3])), net, optimizer)
    for (m, _), old in zip(maps, before, strict=True):
        assert torch.equal(optimizer.state[m.weight]["exp_avg"], old)
        assert old.abs().sum() > 0
    net(net.example(8)).square().mean().backward()
    optimizer.step()
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in net.parameters()}
    assert set(map(id, optimizer.state)) == {id(p) for p in net.parameters()}


def test_removals_that_cannot_be_change_nothing() -> None:
    net = ResidualMLPOption(width=4, hidden=[2]).build(IMAGES)
    before = deepcopy(net.state_dict())
    site = net.width_sites()[0]
    for places, words in (([0, 1], "one must stay"), ([2], "cannot be removed"), ([1, 0], "cannot be removed")):
        with pytest.raises(ValueError, match=words):
            apply(UnitRemoval(site, torch.tensor(places)), net, None)
    with pytest.raises(ValueError, match="no block"):
        apply(BlockRemoval(net.depth_sites()[1]), net, None)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_a_block_costs_what_the_loss_rises_by_without_it(judged: Callable[[str], Any]) -> None:
    now = judged("residual")
    sites = now.model.depth_sites()[:3]
    now.model.requires_grad_(False)
    base = float(now.loss(now.model(now.x), now.y))
    for i, cost in enumerate(block_costs(now, sites, now.sample)):
        other = deepcopy(now.model)
        apply(BlockRemoval(other.depth_sites()[i]), other, None)
        assert cost == pytest.approx(float(now.loss(other(now.x), now.y)) - base, rel=1e-9)
    assert [block.units for block in now.model.blocks] == [5, 3, 4]


def test_an_event_removes_the_cheapest_units_of_the_whole_net_and_leaves_the_fewest_asked_for(make: Any) -> None:
    loop = make("method=prune", "model=mlp", "model.hidden=[8,3]", "method.fraction=0.5", "method.least=3")
    event = grow_once(loop.session).to_json()
    assert loop.session.model.widths() == [3, 3]
    assert event["units_added"] == -5
    assert event["added"] == [{"kind": "removal", "site": "hidden 1", "units": -5}]
    assert event["parameters_after"] < event["parameters_before"]
    assert loop.method.closed(loop.session.moment()) == "no more can be removed (method.least=3)"


def test_the_tolerance_is_for_all_events_together_and_an_event_that_costs_more_is_the_last() -> None:
    method = Prune(name="prune", tolerance=0.01).begin()
    for before, now, kept in (
        (0.9, 0.895, True),
        (0.895, 0.89, True),
        (0.893, 0.889, False),
        (0.95, 0.941, True),
        (0.95, 0.9, False),
    ):
        slack = method.slack(before)
        undo = Undo(snapshot=None, method={}, event=1, units=-1, score=before, batch_size=1, loss=0.3, slack=slack)  # type: ignore[arg-type]
        assert undo.helped(now, 0.1 if not kept else 9.9) is kept
    assert Undo(None, {}, 1, -1, 0.9, 1, slack=0.0).helped(0.9, 9.9)  # type: ignore[arg-type]
    now = SimpleNamespace(model=MLPOption(hidden=[4]).build(IMAGES))
    assert method.closed(now) == ""  # type: ignore[arg-type]
    method.rolled_back(now, method.state_dict())  # type: ignore[arg-type]
    assert method.closed(now) == "the last removal cost more than method.tolerance=0.01"  # type: ignore[arg-type]


@pytest.mark.parametrize(("tolerance", "kept"), [(0.05, False), (0.5, True)])
def test_an_event_that_removes_blocks_is_taken_back_if_it_costs_more_than_the_tolerance(
    tolerance: float, kept: bool, grow: Callable, tmp_path: Path
) -> None:
    outcome = grow(
        *("train", "method=prune", "method.what=blocks", "method.fraction=0.9", f"method.tolerance={tolerance}"),
        *("growth.rollback=true", "growth.until=1", "trigger=at", "trigger.steps=[72,76,80]", "progress=off"),
        *("model=residual_mlp", "model.width=4", "model.hidden=[8,8,8,8]", "optimizer.lr=1e-2", "subset=300"),
        *("stop.epochs=null", "stop.steps=84", "evaluate.unit=steps", "evaluate.every=4", "run_dir=r"),
    )
    assert outcome.code == 0, outcome.err
    removed, *later = growth_events(RunFolder(tmp_path / "r"))
    assert removed.kind == "removal"
    assert removed.units_added == -24
    assert (removed.widths_before, removed.widths_after) == ("8-8-8-8", "8")
    summary = RunFolder(tmp_path / "r").read_summary()
    if kept:
        assert not later
        assert (summary["widths"], summary["parameters"]) == ("8", removed.parameters_after)
        return
    [back] = later  # the trigger fires at 80 as well: an event that cost more was the last
    assert back.kind == "rollback"
    assert back.units_added == 24
    assert back.details["score_before"] - back.details["score_now"] > tolerance
    assert back.loss_after == pytest.approx(removed.loss_before, rel=1e-6)
    assert (summary["widths"], summary["parameters"]) == ("8-8-8-8", removed.parameters_before)


def test_a_module_of_ones_own_is_pruned_and_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import grow_cli

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    x = torch.randn(120, 8)
    module = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    overrides = ["growth.rollback=true", "trigger.every=1", "stop.epochs=4", "progress=off", "growth.until=1"]
    data = (x, (x[:, 0] > 0).long())
    run = grow_cli.fit(module, data, data, method="prune", trigger="every", overrides=[*overrides, "run_dir=own"])
    events = growth_events(RunFolder(tmp_path / "own"))
    assert events[0].removed
    assert grow_cli.load("own", module=module).net.widths() == run.net.widths()


@pytest.mark.slow
def test_a_grown_net_is_pruned_on_from_its_run_and_its_log_says_so(grow: Callable, tmp_path: Path) -> None:
    short = ("subset=300", "stop.epochs=4", "progress=off", "trigger=every", "trigger.every=1")
    grown = grow("train", "method=net2net", "model=mlp", "model.hidden=[4,4]", *short, "growth.neurons=4", "run_dir=g")
    assert grown.code == 0, grown.err
    pruned = grow("train", "method=prune", "init=g", *short, "method.fraction=0.3", "run_dir=p")
    assert pruned.code == 0, pruned.err
    events = growth_events(RunFolder(tmp_path / "p"))
    assert events
    assert all(event.removed for event in events)
    summary = RunFolder(tmp_path / "p").read_summary()
    assert summary["parameters"] < RunFolder(tmp_path / "g").read_summary()["parameters"]
    assert "-" + events[0].units_text in grow("show", "p").out
    assert "What changed" in grow("show", "p").out
    warned = grow("train", "method=prune", "method.tolerance=0.1", *short, "run_dir=q")
    assert "method.tolerance=0.1 has no effect: set growth.rollback=true as well" in " ".join(warned.err.split())
    refused = grow("controls", "q", "--only", "static-best")
    assert "its net became smaller, and a ladder goes from the initial net upwards" in " ".join(
        (refused.out + refused.err).split()
    )
    refused = grow("controls", "p", "--only", "random-replay")
    assert "it removed units, and a replay only adds" in refused.out + refused.err
    assert f"−{events[0].units_text} (removal)" in (grow("report", "p"), (tmp_path / "p/report.html").read_text())[1]


def test_pruning_is_refused_where_there_is_nothing_to_remove(grow: Callable) -> None:
    for typed, words in (
        (("model=mlp", "model.hidden=[]"), "has no hidden units to remove from model=mlp"),
        (("model=mlp", "method.what=blocks"), "are not blocks of a residual stream: use method.what=units"),
        (("trigger=eta",), "what is removed has no natural expansion score"),
    ):
        refused = grow("train", "method=prune", *typed)
        assert refused.code == 2
        assert words in refused.err
