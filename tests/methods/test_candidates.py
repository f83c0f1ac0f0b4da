"""Many proposals at a site as one tensor: their values, gradients, and what surgery makes of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from growing_nets import NETS, Net, run_of, spec
from torch import Tensor

from grow_cli.methods.senn.candidates import Candidates, NewLayer, NewUnits
from grow_cli.methods.senn.visit import _candidates
from grow_cli.models.base import ModelOption
from grow_cli.models.cnn import CNNOption
from grow_cli.models.mlp import MLPOption
from grow_cli.models.modules.network import GrowableModel
from grow_cli.scoring import FullReading, place_of, take_readings
from grow_cli.surgery.apply import apply
from grow_cli.surgery.patches import patches_of

CHAINS: dict[str, tuple[ModelOption, tuple[int, ...]]] = {
    "mlp": (MLPOption(hidden=[4, 3], activation="rational"), (5,)),
    "mlp raw": (MLPOption(hidden=[4], activation="rational_raw"), (5,)),
    "mlp linear": (MLPOption(hidden=[], activation="rational"), (3,)),
    "mlp without bias": (MLPOption(hidden=[4, 3], activation="rational", bias=False), (5,)),
    "cnn": (CNNOption(channels=[[2, 3], [2]], hidden=[4], activation="rational", pool="avg"), (1, 8, 8)),
    "cnn gap": (CNNOption(channels=[[3]], activation="rational", pool="avg", head="gap", hidden=[]), (2, 6, 6)),
}


def build(name: str) -> tuple[GrowableModel, Tensor, Tensor]:
    torch.manual_seed(3)
    option, shape = CHAINS[name]
    model = option.build(spec(shape)).eval()
    return model, torch.randn(30, *shape), torch.randint(3, (30,))


def sites_of(model: GrowableModel) -> list[Any]:
    return [*model.width_sites(), *(s for s in model.depth_sites() if len(s.stack) or not s.between)]


def readings_of(model: GrowableModel, x: Tensor, y: Tensor) -> list[tuple[Any, Candidates, FullReading]]:
    sites = sites_of(model)
    readings = take_readings(run_of(model), [place_of(s) for s in sites], x, y)
    assert all(isinstance(r, FullReading) for r in readings)
    return [(s, _candidates(s), r) for s, r in zip(sites, readings, strict=True) if isinstance(r, FullReading)]


@pytest.mark.parametrize("name", CHAINS)
def test_the_value_is_the_bound_and_the_gradient_its_derivative(name: str) -> None:
    model, x, y = build(name)
    model, x = model.double(), x.double()
    for _, candidates, reading in readings_of(model, x, y):
        torch.manual_seed(1)
        points = candidates.draw(4, x)
        values, gradients = candidates.evaluator(reading)(points)
        penalty = candidates.penalty(points)
        taken = 0.0 if penalty is None else penalty
        torch.testing.assert_close(values, candidates.gains(points, reading) - taken, rtol=1e-4, atol=1e-9)
        for i in range(0, candidates.size, max(1, candidates.size // 9)):
            step = torch.zeros(candidates.size, dtype=x.dtype)
            step[i] = 1e-5
            up, down = (candidates.evaluator(reading)(points + sign * step)[0] for sign in (1, -1))
            torch.testing.assert_close((up - down) / 2e-5, gradients[:, i], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", CHAINS)
def test_what_a_proposal_would_read_is_what_the_points_say(name: str) -> None:
    """Its own activations, those of the optimised point, not those of the identity that a layer begins with."""
    model, x, y = build(name)
    for site, candidates, reading in readings_of(model, x, y):
        if not isinstance(candidates, NewUnits):
            continue
        points = candidates.draw(3, x)
        seen = candidates.activations(points, candidates.inputs(reading.source), reading.source)
        for point, own in zip(points, seen, strict=True):
            proposal = candidates.proposal(point, reading.source, {})
            expected = patches_of(proposal.activations(reading.source), site.consumer, ones=False).flatten(1)
            torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("activation", "kind"), [("rational", "mlp"), ("tanh", "mlp"), ("rational", "cnn"), ("elu", "cnn")]
)
def test_a_unit_behind_a_batch_norm_acts_as_it_was_judged(activation: str, kind: str, training: bool) -> None:
    """In training as in evaluation: a unit brings the statistics of the samples that it was found on."""
    options: dict[str, Any] = {"activation": activation, "norm": "batch"}
    option = (
        MLPOption(hidden=[4, 3], **options) if kind == "mlp" else CNNOption(channels=[[2], [3]], hidden=[], **options)
    )
    model, x = Net(option, (5,) if kind == "mlp" else (2, 6, 6)).build(batch=50)
    y = torch.randint(3, (50,))
    for name in [site.name for site in model.width_sites()]:
        site = next(s for s in model.width_sites() if s.name == name)
        (reading,) = take_readings(run_of(model), [place_of(site)], x, y)
        candidates = NewUnits(site)
        point = 3 * candidates.draw(1, x)[0]
        judged = candidates.activations(point[None], candidates.inputs(reading.source), reading.source)[0].detach()
        proposal = candidates.proposal(point, reading.source, {})
        before = model.eval()(x).detach()
        apply(proposal, model, None)
        torch.testing.assert_close(model.eval()(x), before, rtol=1e-4, atol=1e-5)
        site = next(s for s in model.width_sites() if s.name == name)
        seen = site.producer(reading.source)
        for module in (*site.between,):
            seen = module.train(training)(seen)
        new = seen.detach()[:, -site.columns_per_unit :] if seen.ndim == 2 else seen.detach()[:, -1:]
        acts = patches_of(new, site.consumer, ones=False).flatten(1)
        torch.testing.assert_close(acts, judged, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", CHAINS)
def test_every_proposal_leaves_the_function_as_it_is(name: str) -> None:
    for i in range(len(sites_of(build(name)[0]))):
        model, x, y = build(name)
        site, candidates, reading = readings_of(model, x, y)[i]
        before = model(x).detach()
        point = candidates.draw(1, x)[0]
        apply(candidates.proposal(point, reading.source, {}), model, None)
        after = model(x).detach()
        relative = (after - before).norm() / before.norm()
        assert relative < 1e-5, (site.name, site.kind)
        assert sum(model.widths()) > sum(build(name)[0].widths())


def test_a_nearly_singular_layer_is_made_invertible() -> None:
    model, x, y = build("mlp")
    _, candidates, _ = next(r for r in readings_of(model, x, y) if isinstance(r[1], NewLayer))
    point = candidates.draw(1, x)[0]
    incoming = point[: candidates.units * candidates.fan_in].view(candidates.units, candidates.fan_in)
    incoming[1, : candidates.units] = incoming[0, : candidates.units]  # a repeated row
    before = model(x).detach()
    proposal = candidates.proposal(point, x, {})
    weight = proposal.state["linear.weight"]  # type: ignore[union-attr, index]
    assert torch.linalg.cond(weight) < 2 / NewLayer.singular_floor * candidates.units
    apply(proposal, model, None)
    assert (model(x).detach() - before).norm() < 1e-4 * before.norm()


@pytest.mark.parametrize("name", ["mlp", "mlp without bias"])
def test_proposals_survive_a_wider_layer_below_them(name: str) -> None:
    """The same activations as before, as long as the new unit is silent."""
    model, x, y = build(name)
    width = model.width_sites()[0]
    above = [*model.width_sites()[1:2], model.depth_sites()[1]]
    old = [(c, c.draw(2, x)) for c in map(_candidates, above)]
    places = [place_of(s) for s in above]
    readings = take_readings(run_of(model), places, x, y)
    seen = []
    for (c, points), reading in zip(old, readings, strict=True):
        assert isinstance(reading, FullReading)
        seen.append(c.activations(points, c.inputs(reading.source), reading.source))
    apply(_candidates(width).proposal(_candidates(width).draw(1, x)[0], x.flatten(1), {}), model, None)
    above = [*model.width_sites()[1:2], model.depth_sites()[1]]
    for site, (_, points), before in zip(above, old, seen, strict=True):
        new = _candidates(site)
        wider = new.widened(points)
        assert wider.shape == (2, new.size)
        (reading,) = take_readings(run_of(model), [place_of(site)], x, y)
        assert isinstance(reading, FullReading)
        after = new.activations(wider, new.inputs(reading.source), reading.source)
        torch.testing.assert_close(after[:, : before.shape[1]], before, rtol=1e-4, atol=1e-5)


def test_activations_without_parameters_can_be_widened_too() -> None:
    for name in ("mlp", "cnn", "cnn hidden", "vit", "resnet18"):
        model, x = NETS[name].build(batch=60)
        y = torch.randint(3, (60,))
        for site in model.width_sites():
            (reading,) = take_readings(run_of(model), [place_of(site)], x, y)
            assert isinstance(reading, FullReading)
            candidates = NewUnits(site)
            points = candidates.draw(3, x)
            values, gradients = candidates.evaluator(reading)(points)
            assert (values >= 0).all()
            assert gradients.shape == points.shape
            torch.testing.assert_close(values.double(), candidates.gains(points, reading), rtol=1e-2, atol=1e-5)
