"""The score of places and proposals in nets, against the score of a dense Fisher matrix and literal loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from growing_nets import NETS, run_of
from torch import Tensor, nn

from grow_cli.models.mlp import MLPOption
from grow_cli.scoring import FullReading, place_of, score_proposals, take_readings
from grow_cli.surgery.proposal import WidthProposal
from grow_cli.theory.expansion import expansion_gain_bound, expansion_score


def literal_jacobians(model: nn.Module, tapped: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n, outputs, ...) of the outputs with respect to a module's outputs; its inputs; the outputs."""
    kept: dict[str, Tensor] = {}

    def keep(module: nn.Module, arguments: tuple[Tensor], output: Tensor) -> None:
        kept["inputs"], kept["outputs"] = arguments[0].detach(), output

    handle = tapped.register_forward_hook(keep)
    outputs = model(x)
    handle.remove()
    rows = [
        torch.autograd.grad(outputs[:, k].sum(), kept["outputs"], retain_graph=True)[0] for k in range(outputs.shape[1])
    ]
    return torch.stack(rows, 1), kept["inputs"], outputs.detach()


@pytest.mark.parametrize("name", ["mlp", "mlp rational", "mlp batch", "mlp without bias"])
def test_a_linear_place_is_read_as_its_definition_says(name: str) -> None:
    model, x = NETS[name].build(batch=40)
    y = torch.randint(3, (40,))
    for site in model.width_sites():
        (reading,) = take_readings(run_of(model), [place_of(site)], x, y)
        jacobian, inputs, outputs = literal_jacobians(model, site.consumer, x)
        output_gradients = outputs.softmax(1) - nn.functional.one_hot(y, 3)
        gradients = torch.einsum("nko,nk->no", jacobian, output_gradients)
        metric = torch.einsum("nko,nkp->op", jacobian.double(), jacobian.double()) / len(x)
        activations = torch.cat([inputs, torch.ones(len(x), 1)], 1) if site.consumer.bias is not None else inputs
        power = float(output_gradients.double().square().sum(1).mean())
        assert reading.power == pytest.approx(power, rel=1e-5)
        torch.testing.assert_close(reading.metric, metric, rtol=1e-4, atol=1e-7)
        assert reading.score == pytest.approx(expansion_score(activations, gradients, metric) / power, rel=1e-3)
        proposed = torch.tanh(torch.randn(40, 2, 40))
        expected = expansion_gain_bound(activations, proposed.mT, gradients, metric)
        assert isinstance(expected, Tensor)
        torch.testing.assert_close(reading.bounds(proposed[:, :, :]), expected / power, rtol=1e-3, atol=1e-6)
        assert 0 <= reading.score <= 1


@pytest.mark.parametrize("name", ["cnn", "cnn gap", "cnn hidden"])
def test_a_convolutional_place_sums_over_positions(name: str) -> None:
    """A map of one position reads as a linear one; of several, E[g aᵀ] is the sample's own gradient."""
    model, x = NETS[name].build(batch=30)
    y = torch.randint(3, (30,))
    sites = [s for s in model.width_sites() if isinstance(s.consumer, nn.Conv2d)]
    for site in sites:
        (reading,) = take_readings(run_of(model), [place_of(site)], x, y)
        consumer = site.consumer
        jacobian, inputs, outputs = literal_jacobians(model, consumer, x)
        output_gradients = outputs.softmax(1) - nn.functional.one_hot(y, 3)
        gradients = torch.einsum("nkchw,nk->nchw", jacobian, output_gradients)
        columns = nn.functional.unfold(inputs, consumer.kernel_size, padding=consumer.padding)  # type: ignore[arg-type]
        columns = torch.cat([columns, torch.ones(30, 1, columns.shape[2])], 1)
        moved = torch.einsum("ncp,nqp->cq", gradients.flatten(2).double(), columns.double()) / 30
        a = torch.einsum("nqp,nrp->qr", columns.double(), columns.double()) / 30
        flat = jacobian.flatten(3).double()
        s = torch.einsum("nkcp,nkdp->cd", flat, flat) / (30 * flat.shape[3])
        literal = torch.trace(torch.linalg.pinv(s) @ moved @ torch.linalg.pinv(a) @ moved.T)
        assert reading.positions == columns.shape[2]
        assert reading.score * reading.power == pytest.approx(float(literal), rel=1e-3)


def test_many_outputs_are_drawn_at_random_without_bias() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 40))
    from grow_cli.scoring import _directions

    outputs = model(torch.randn(2000, 6))
    drawn = _directions(outputs)
    assert len(drawn) == 16
    mean = sum(torch.einsum("nk,nl->kl", u, u) for u in drawn) / 2000
    assert isinstance(mean, Tensor)
    torch.testing.assert_close(mean, torch.eye(40), rtol=0, atol=0.03)


@pytest.mark.parametrize("name", [n for n in NETS if n != "residual_mlp empty"])
def test_every_place_of_every_model_can_be_read(name: str) -> None:
    model, x = NETS[name].build(batch=24)
    y = torch.randint(3, (24,))
    sites = [*model.width_sites(), *(s for s in model.depth_sites() if len(s.stack) or (s.consumer and not s.between))]
    readings = take_readings(run_of(model), [place_of(s) for s in sites], x, y)
    assert readings
    assert all(isinstance(r, FullReading) and 0 <= r.score < float("inf") for r in readings)


def width_proposal(site: Any, incoming: Tensor, outgoing: Tensor) -> WidthProposal:
    return WidthProposal(site, incoming, None, outgoing)


def test_a_copied_unit_scores_zero_and_a_fresh_one_does_not(make: Any) -> None:
    run = make("method=net2net", "model=mlp", "model.hidden=[6]", "model.activation=tanh").session.moment()
    site = run.model.width_sites()[0]
    copied = WidthProposal(site, site.producer.weight[:1].detach(), site.producer.bias[:1].detach(), torch.zeros(10, 1))
    fresh = WidthProposal(site, torch.randn(1, 64), torch.zeros(1), torch.zeros(10, 1))
    a, b = score_proposals(run, [copied, fresh], 256)
    assert a.gain < 1e-9
    assert b.gain > 1e-5
    assert a.score == pytest.approx(b.score)


def test_units_without_incoming_weights_are_scored_by_what_these_could_move(make: Any) -> None:
    """GradMax's units: as good as units that already read one of the inputs each, in the direction of their weights."""
    run = make("method=gradmax", "model=mlp", "model.hidden=[6]", "model.activation=identity").session.moment()
    site = run.model.width_sites()[0]
    outgoing = torch.randn(10, 1)
    (found,) = score_proposals(run, [width_proposal(site, torch.zeros(1, 64), outgoing)], 256)
    assert 0 < found.gain < 1


def test_widening_further_leaves_the_score_of_gradmax_proportional(make: Any) -> None:
    run = make("method=gradmax", "model=cnn", "model.channels=[[2],[2]]", "model.hidden=[]").session.moment()
    proposals = []
    for site in run.model.width_sites():
        shape = (1, *site.producer.weight.shape[1:])
        consumer = site.consumer.weight.shape
        outgoing = torch.randn(consumer[0], site.columns_per_unit, *consumer[2:])
        proposals.append(width_proposal(site, torch.zeros(shape), outgoing))
    torch.manual_seed(5)
    first = score_proposals(run, proposals, 64)
    doubled = [width_proposal(p.site, p.incoming, 2 * p.outgoing) for p in proposals]
    torch.manual_seed(5)
    second = score_proposals(run, doubled, 64)
    for a, b in zip(first, second, strict=True):
        assert a.gain > 0
        assert a.gain == pytest.approx(b.gain, rel=1e-4)


def test_the_gain_of_learnable_incoming_weights_is_that_of_the_dense_problem() -> None:
    torch.manual_seed(0)
    model = MLPOption(hidden=[4], activation="identity").build(NETS["mlp linear"].build()[0])
    x, y = torch.randn(50, 5), torch.randint(3, (50,))
    site = model.width_sites()[0]
    (reading,) = take_readings(run_of(model), [place_of(site)], x, y)
    outgoing = torch.randn(3, 1)
    from grow_cli.scoring import _gain

    found = _gain(width_proposal(site, torch.zeros(1, 5), outgoing), reading)
    unreached = reading.layer.unreached(reading.gradients)
    inputs = torch.cat([x, torch.ones(50, 1)], 1).double()
    moved = (unreached @ outgoing.double()).T @ inputs / 50
    size = float(outgoing.T.double() @ reading.metric @ outgoing.double())
    expected = float(moved @ torch.linalg.inv(inputs.T @ inputs / 50) @ moved.T) / size / reading.power
    assert found == pytest.approx(expected, rel=1e-5)
