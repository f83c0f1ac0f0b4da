"""Twenty growth events in a row, with training in between: nothing adds up that a single event does not show."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from grow_cli.models.base import rebuild
from grow_cli.records.events import growth_events
from grow_cli.surgery.flops import flops_per_sample
from grow_cli.surgery.measure import count_parameters, function_change, measure
from grow_cli.surgery.optimizer import parameter_groups

EVENTS = 20
MLP = ("model=mlp", "model.hidden=[2,2]", "model.activation=tanh")
CNN = ("model=cnn", "model.channels=[[2],[2]]", "model.hidden=[2]", "model.activation=selu", "model.pool=avg")
SENN = (
    "method.proposals=4", "method.layer_proposals=2", "method.steps=4", "method.samples=60", "method.held_out=60",
    "method.alpha=0", "method.tau=1.0001", "method.judged=refitted", "model.activation=rational",
)  # fmt: skip
CASES = {
    "gradmax mlp": ("method=gradmax", *MLP, "method.samples=60"),
    "gradmax cnn": ("method=gradmax", *CNN, "model.norm=batch", "method.samples=60", "optimizer=sgd"),
    "net2net mlp": ("method=net2net", *MLP, "model.norm=batch"),
    "net2net cnn": ("method=net2net", *CNN),
    "random_width mlp": ("method=random_width", *MLP, "method.search_samples=48"),
    "random_width cnn": ("method=random_width", *CNN, "method.search_samples=48"),
    # layers beside the units: one at most where ten steps have passed since the last
    "senn mlp": (
        "method=senn",
        *MLP,
        *SENN,
        "method.layer_every=10",
        "method.layer_penalty=1",
        "method.widest_layer=30",
    ),
    "senn cnn": ("method=senn", *CNN, *SENN, "method.layer_every=100"),
}
_FAST = ("gradmax mlp", "net2net cnn")


def as_built_anew(session: Any) -> None:
    """The net, its parameters and FLOPs, and the optimizer's groups and memory are those of a net of this size."""
    model, optimizer = session.model, session.optimizer
    twin = rebuild(model.architecture())
    twin.load_state_dict(model.state_dict())
    shape = session.data.spec.input_shape
    assert session.parameters == count_parameters(model) == count_parameters(twin)
    assert session.flops == flops_per_sample(model, shape) == flops_per_sample(twin, shape)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    names = {parameter: name for name, parameter in model.named_parameters()}
    fresh = {parameter: name for name, parameter in twin.named_parameters()}
    groups, wanted = optimizer.param_groups, parameter_groups(twin, 0.0)
    assert [[names[p] for p in g["params"]] for g in groups] == [[fresh[p] for p in g["params"]] for g in wanted]
    assert set(optimizer.state) <= set(names)
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.ndim:
                assert value.shape == parameter.shape, (names[parameter], name)
                assert torch.isfinite(value).all(), (names[parameter], name)


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) if c not in _FAST else c for c in CASES])
def test_a_net_grown_twenty_times_is_whole_and_has_paid_for_each(case: str, make: Any) -> None:
    loop = make(*CASES[case], "growth.neurons=1", "subset=150", "optimizer.lr=1e-2")
    session, progress = loop.session, loop.session.progress
    probe, trained_for = session.data.probe(64), 0

    def outputs() -> Tensor:
        return measure(session.model, probe.x, probe.y, session.loss).outputs

    for _ in range(EVENTS):
        samples = progress.samples
        loop._train_until(progress.step + 2)
        trained_for += 3 * session.flops * (progress.samples - samples)
        assert len(session.optimizer.state) == len(list(session.model.parameters())), "each has been trained"
        before = outputs()
        loop._grow()
        as_built_anew(session)
        assert function_change(before, outputs()).relative < (1e-6 if loop.method.preserves_function else 2)
    events = growth_events(loop.folder)
    assert len(events) == progress.events == EVENTS
    assert (events[-1].parameters_after, events[-1].flops_after) == (session.parameters, session.flops)
    for one, then in pairwise(events):
        assert (then.parameters_before, then.flops_before) == (one.parameters_after, one.flops_after)
    for event in events:
        assert event.units_added == sum(map(int, event.widths_after.split("-"))) - sum(
            map(int, event.widths_before.split("-"))
        )
        for found in event.details["proposals"]:
            assert found.get("loss_with", 0.0) <= found.get("loss_without", 0.0), "what is searched for lowers the loss"
    assert sum(event.units_added for event in events) >= 1.8 * EVENTS
    assert progress.growth_flops == sum(event.growth_flops for event in events)
    assert progress.flops == trained_for + progress.growth_flops
    assert (progress.growth_flops > 0) == (loop.method.name != "net2net"), "copies are not computed"
    layers = sum(one["kind"] == "depth" for event in events for one in event.added)
    assert 1 < layers < 6 if case == "senn mlp" else layers == (case == "senn cnn")
