"""The FLOPs that growth is charged are those that it computes: every method, every kind of net, whole and resumed runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from grow_cli import testing
from grow_cli.methods.fold import clusters
from grow_cli.methods.width import statistics
from grow_cli.records.events import growth_events
from grow_cli.surgery.flops import FlopCounter
from grow_cli.training import event as events
from grow_cli.training.step import make_step

_aten = torch.ops.aten


def _svd(a: Any, vectors: bool) -> float:
    m, n = max(a[-2:]), min(a[-2:])
    if vectors:
        return a[:-2].numel() * min(14 * m * n**2 + 8 * n**3, 6 * m * n**2 + 20 * n**3)
    return a[:-2].numel() * min(4 * m * n**2 - 4 * n**3 / 3, 2 * m * n**2 + 2 * n**3)


def _cube(a: Any) -> int:
    return a[:-2].numel() * a[-1] ** 3


# What torch's own counter does not know, by the shapes; on purpose not the formulas under test.
_OTHERS: dict[Any, Callable[..., float]] = {
    _aten.mv: lambda a, *_, **__: 2 * a.numel(),
    _aten.dot: lambda a, *_, **__: 2 * a.numel(),
    _aten._linalg_eigh: lambda a, *_, **__: 9 * _cube(a),
    _aten._linalg_svd: lambda a, full=False, vectors=True, *_, **__: _svd(a, vectors),
    _aten.linalg_pinv: lambda a, hermitian=False, **_: (9 * _cube(a) if hermitian else _svd(a, True)) + 2 * _cube(a),
    _aten.linalg_qr: lambda a, *_, **__: 8 / 3 * _cube(a),  # square ones only
    _aten.linalg_cholesky_ex: lambda a, *_, **__: _cube(a) / 3,
    _aten.cholesky_solve: lambda b, a, *_, **__: 2 * b.numel() * a[-1],
    _aten.linalg_solve_triangular: lambda a, b, *_, **__: b.numel() * a[-1],
    _aten.linalg_inv_ex: lambda a, *_, **__: 2 * _cube(a),
    _aten._linalg_slogdet: lambda a, *_, **__: 2 / 3 * _cube(a),
    _aten._linalg_solve_ex: lambda a, b, *_, **__: 2 / 3 * _cube(a) + 2 * b.numel() * a[-1],
    _aten.linalg_lu_solve: lambda lu, pivots, b, *_, **__: 2 * b.numel() * lu[-1],
    _aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: 4 * q.numel() * k[-2],
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: 10 * q.numel() * k[-2],
}
_DECOMPOSES = ("linalg", "cholesky", "triangular", "geqrf", "svd", "inverse", "lstsq", "matmul")
_FREE = {"linalg_vector_norm", "_linalg_check_errors"}


class Operators(TorchDispatchMode):
    """All operators, counted one by one: by torch's formulas, and by those above for what it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.idle = 0.0, False
        self.unknown: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        first = next((a for a in args if isinstance(a, torch.Tensor)), None)
        if self.idle or first is None or first.is_meta:
            return out
        packet = func.overloadpacket
        name = packet.__name__
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        elif packet in _OTHERS:
            shapes = [a.shape if isinstance(a, torch.Tensor) else a for a in args]
            self.flops += _OTHERS[packet](*shapes, **(kwargs or {}))
        elif any(part in name for part in _DECOMPOSES) and name not in _FREE:
            self.unknown.add(name)
        return out


@contextmanager
def operators(monkeypatch: pytest.MonkeyPatch) -> Iterator[Operators]:
    """All that growing computes; measuring the net before and after is evaluation."""
    counter, measure = Operators(), events.measure

    def measured(*arguments: Any) -> Any:
        counter.idle = True
        try:
            return measure(*arguments)
        finally:
            counter.idle = False

    monkeypatch.setattr(events, "measure", measured)
    with counter:
        yield counter
    assert not counter.unknown, "these have no formula"


MLP, CNN = ("model=mlp_tiny", "model.hidden=[4,3]"), (
    "model=cnn", "model.channels=[[2,2],[3]]", "model.hidden=[4]", "model.activation=selu")  # fmt: skip
RESNET = ("model=resnet18", "model.stream=[4,6]", "model.hidden=[[1],[2,1]]", "model.classifier=[8]")
VIT = ("model=vit", "model.dim=8", "model.heads=2", "model.mlp=[4,4]")
QUICK = ("method.proposals=5", "method.layer_proposals=3", "method.steps=5", "method.samples=70", "method.held_out=40",
         "method.alpha=0", "method.tau=1.0001", "method.judged=refitted")  # fmt: skip
BLOCKS = ("model=residual_mlp", "model.width=8", "model.hidden=[6,6]")
EXTRAPOLATED = ("method=alether", "method.rank=1", "trajectory.window=4", "method.warmup_steps=2")
SCHEDULE = "[{kind: width, site: hidden 1, units: 2, update: true},{kind: width, site: hidden 2, units: 1}]"
STAGES = ("dataset=functions", "dataset.samples=200", "batch_size=200", "model.hidden=[[6,6]]", "precision=fp32")
WIDTH = ("tiny", "gradmax", "random_width", "net2net")
CASES: dict[str, tuple[str, ...]] = {
    **{f"{m} mlp": (f"method={m}", *MLP) for m in WIDTH},
    **{f"{m} cnn": (f"method={m}", *CNN) for m in WIDTH},
    **{f"{m} resnet18": (f"method={m}", *RESNET) for m in WIDTH},
    **{f"{m} vit": (f"method={m}", *VIT) for m in WIDTH},
    "tiny wide inputs": ("method=tiny", *MLP, "method.max_samples=500"),
    "tiny best": ("method=tiny", *CNN, "method.where=best", "method.significance=false"),
    "tiny 1x1": ("method=tiny", *CNN, "model.kernel=1", "model.norm=batch"),
    "senn mlp": ("method=senn", "model.hidden=[3,2]", *QUICK),
    "senn langevin": ("method=senn", "model.hidden=[3]", *QUICK, "method.search=langevin", "method.residual=network"),
    "senn cnn": ("method=senn", *CNN, "model.activation=rational", "model.pool=avg", *QUICK),
    "senn tanh": ("method=senn", *MLP, "model.activation=tanh", "method.depth=false", *QUICK, "growth.neurons=1"),
    "senn resnet18": ("method=senn", *RESNET, "model.activation=rational", "method.depth=false", *QUICK),
    "fold": ("method=fold", "model.hidden=[4]", "method.samples=100", "method.outgoing=descent"),
    "copy": ("method=copy", "model=residual_mlp", "model.width=8", "model.hidden=[6,6]"),
    "random block": ("method=random", "model=residual_cnn", "model.width=4", "model.hidden=[3,3]"),
    "random vit": ("method=random", *VIT),
    "alether": (*EXTRAPOLATED, *BLOCKS),
    "alether vit": (*EXTRAPOLATED, *VIT),
    "alether stack": (*EXTRAPOLATED, *BLOCKS, "method.pattern=stack"),
    "deepen interleave": ("method=deepen", *BLOCKS, "method.pattern=interleave", "method.warmup_steps=2"),
    "stack": ("method=stack", *BLOCKS, "method.warmup_steps=2"),
    "midas": ("method=midas", *BLOCKS, "method.warmup_steps=2"),
    "zero_blocks": ("method=zero_blocks", *BLOCKS, "method.warmup_steps=2"),
    "heads": ("method=heads", *VIT, "method.heads=1"),
    "heads fresh": ("method=heads", *VIT, "method.heads=1", "method.start=fresh"),
    "prune mlp": ("method=prune", "model=mlp", "model.hidden=[6,6]"),
    "prune cnn": ("method=prune", *CNN),
    "prune vit": ("method=prune", *VIT),
    "prune blocks": ("method=prune", *BLOCKS, "model.hidden=[6,6,6,6]", "method.what=blocks"),
    "replay": ("method=replay", *MLP, f"+method.events=[{SCHEDULE},{SCHEDULE}]"),
    "stages": ("method=stages", *STAGES),
}


def trained(make: Any, case: str) -> Any:
    loop = make(*CASES[case], "growth.neurons=2", "optimizer.lr=1e-2", "subset=150")
    step = make_step(loop.session)
    for i in range(3):
        step(*loop.session.batches.next())
        if loop.session.history is not None:
            loop.session.history.append(1 + i)
    return loop


# the others take seconds
_FAST = ("tiny mlp", "tiny best", "random_width mlp", "gradmax mlp", "senn tanh", "copy",
         "alether", "stack", "heads", "prune mlp", "prune blocks", "replay", "stages")  # fmt: skip
_NO_PRODUCTS = ("net2net", "heads")
_ALL = [case if case in _FAST else pytest.param(case, marks=pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize("case", _ALL)
def test_an_event_is_charged_what_it_computes(case: str, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "tiny wide inputs":
        monkeypatch.setattr(statistics, "_WORTH_KEEPING", 1)
    clustered: list[int] = []  # by scikit-learn, which is no operator of torch
    cluster = clusters.cluster

    def noted(*arguments: Any, **keys: Any) -> Any:
        found = cluster(*arguments, **keys)
        clustered.append(found.flops)
        return found

    monkeypatch.setattr(clusters, "cluster", noted)
    loop = trained(make, case)
    for _ in range(1 if case in _FAST else 2):  # the second one knows what the first has found out
        clustered.clear()
        with operators(monkeypatch) as counter:
            event = events.grow(loop.session)
        assert event.growth_flops == pytest.approx(counter.flops + sum(clustered), rel=0.03)
        assert event.changed
        assert event.growth_flops > 0 or case.startswith(_NO_PRODUCTS)


@pytest.mark.parametrize(
    "case", ["tiny mlp", *(pytest.param(c, marks=pytest.mark.slow) for c in CASES if c != "tiny mlp")]
)
def test_counting_changes_no_number(case: str, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, plain = (trained(make, case).session for _ in range(2))
    logs = []
    for session in (counted, plain):
        if session is plain:
            monkeypatch.setattr(FlopCounter, "_look", lambda self, now: None)
        found = [events.grow(session).to_json() for _ in range(2)]
        uncharged = {"growth_flops": 0, "growth_seconds": 0.0, "phases": []}
        logs.append(json.dumps([event | uncharged for event in found]))
    assert logs[0] == logs[1]
    for a, b in zip(counted.model.state_dict().values(), plain.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_trigger_that_asks_for_scores_is_charged_for_the_reading_too(make: Any) -> None:
    loop = make("method=net2net", *MLP, "growth.neurons=2", "trigger=eta", "subset=150")
    with Operators() as counter:
        assert loop.session.score_proposals(60)
    assert loop.session.progress.growth_flops == pytest.approx(counter.flops, rel=0.03)
    assert loop.session.progress.growth_flops > 0


RESUMED = {
    "tiny": ("method=tiny", *MLP, "method.significance=false"),
    "tiny eta": ("method=tiny", *MLP, "trigger=eta", "trigger.every=1", "trigger.samples=64", "trigger.tau=1.0001"),
    "tiny rollback": ("method=tiny", *MLP, "growth.rollback=true", "optimizer.lr=0.1"),
    "gradmax": ("method=gradmax", *MLP),
    "random_width": ("method=random_width", *MLP),
    "net2net": ("method=net2net", *MLP),
    "senn": ("method=senn", "model.hidden=[2]", "model.activation=rational", *QUICK),
    "senn eta": (
        "method=senn",
        *MLP,
        "model.activation=tanh",
        "method.depth=false",
        *QUICK,
        "trigger=eta",
        "trigger.every=1",
    ),
    "fold": ("method=fold", "model.hidden=[3]", "method.samples=50", "trigger=every"),
    "copy": (*CASES["copy"], "method.warmup_steps=2", "trigger=every"),
    "alether": ("method=alether", *CASES["copy"][1:], "method.warmup_steps=2", "method.rank=1", "trigger=every"),
}
_QUICK = ("tiny eta", "senn eta")


@pytest.mark.parametrize("case", [c if c in _QUICK else pytest.param(c, marks=pytest.mark.slow) for c in RESUMED])
def test_a_resumed_run_is_charged_as_the_whole_one_wherever_it_was_interrupted(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after every evaluation but the last: before, between and after the events."""
    monkeypatch.setattr(statistics, "_WORTH_KEEPING", 1)
    typed = [*testing._DATA, *testing._TRIGGER, *RESUMED[case], "growth.until=0.9", "evaluate.every=1", "subset=128"]
    whole = testing._trained(tmp_path / "whole", typed)
    rows = testing._rows(whole)
    assert sum(event.changed for event in growth_events(whole)) >= 2, "nothing to be interrupted between"
    for stop_at in (2,) if case in _QUICK else range(1, len(rows)):
        broken = testing._broken_and_resumed(tmp_path / f"broken{stop_at}", typed, stop_at=stop_at)
        assert [row["flops"] for row in testing._rows(broken)] == [row["flops"] for row in rows]
        for key in ("training_flops", "growth_flops"):
            assert broken.read_summary()[key] == whole.read_summary()[key]
