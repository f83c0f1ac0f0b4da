"""The natural expansion score of places in a net, and of any method's proposals there (SENN, section 3).

A place is a tensor to which new activations would be added through new weights: the pre-activations of the map that
reads a hidden layer, or the residual stream. Every sample, and every position where a map is a convolution or reads
tokens, is a row of the layer's problem; sums over positions make the score that of the sample's whole gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from grow_cli.data.sample import draw
from grow_cli.errors import UserError
from grow_cli.hardware import SOLVED_HERE, fetched, sent
from grow_cli.models.modules.layers import Block, LinearMap
from grow_cli.models.modules.sites import DepthSite, WidthSite
from grow_cli.records.words import counted
from grow_cli.surgery.patches import SitePatches, patches_of, read
from grow_cli.surgery.proposal import DepthProposal, Proposal, WidthProposal
from grow_cli.surgery.signals import Tap, Trace
from grow_cli.theory.expansion import LayerScore, Scored, double, explained

if TYPE_CHECKING:
    from grow_cli.moment import Moment

# Outputs up to which the metric E[JᵀJ] takes a pass for each; above, as many random ones estimate it without bias.
_EXACT_OUTPUTS = 16

# Rows of a layer's problem: more say little more, positions of an image being alike.
_MOST_ROWS = 2**16

Site = WidthSite | DepthSite


@dataclass(frozen=True)
class Place:
    """Where new activations would be added."""

    tap: Tap
    """Whose gradients say how the tensor should move."""
    readers: tuple[LinearMap, ...]
    """The maps that add to it at present; in a stream, those of the neighbouring block."""
    source: Tap | None
    """What new units would read."""


def place_of(site: Site) -> Place:
    """A width site's consumer; before a chain's layer, its consumer as well; in a stream, the stream."""
    if isinstance(site, WidthSite):
        return Place(Tap(site.consumer), (site.consumer,), Tap(site.producer, entering=True))
    stack, i = site.stack, site.index
    source: Tap | None = None
    if i < len(stack):
        source = Tap(stack[i], entering=True)
    elif len(stack):
        source = Tap(stack[-1])
    elif site.consumer is not None and not site.between:
        source = Tap(site.consumer, entering=True)
    if site.consumer is not None:
        return Place(Tap(site.consumer), (site.consumer,), source)
    assert source is not None, "methods that insert blocks need a stack that has one"
    neighbour = stack[min(i, len(stack) - 1)]
    if not isinstance(neighbour, Block):
        raise UserError(
            f"there is no expansion score for {site.name}, which reads no stream of features: choose another trigger than eta"
        )
    return Place(source, tuple(neighbour.outputs()), source)


@dataclass(frozen=True)
class Unreadable:
    """A place at which nothing can be scored."""

    reason: str


@dataclass(frozen=True)
class Reading:
    """A place's problem on some samples of the data."""

    residual: Tensor
    """(N, r) g_r in the metric's own lengths (`LayerScore.residual`)."""
    source: Tensor
    """(n, ...) what new units would read."""
    score: float
    """η_c, as a fraction of λ."""
    power: float
    """λ = E‖∂L/∂outputs‖², the size of what the outputs ask for (SENN, section 3.5)."""

    @property
    def positions(self) -> int:
        """Rows of each sample."""
        return len(self.residual) // len(self.source)

    @property
    def unit(self) -> float:
        """What a score per row is multiplied by, to be a sample's, and a fraction of λ."""
        return self.positions / self.power

    def bounds(self, proposed: Tensor) -> Tensor:
        """Δη' (b,) of new activations (b, q, N), as a fraction of λ."""
        return self.unit * explained(proposed.mT, self.residual)

    def part(self, first: int, last: int) -> Reading:
        """The same problem on some of the samples; score and λ stay those of all."""
        rows = slice(first * self.positions, last * self.positions)
        return Reading(self.residual[rows], self.source[first:last], self.score, self.power)


@dataclass(frozen=True)
class FullReading(Reading):
    """With what the problem was made of."""

    layer: LayerScore
    gradients: Tensor
    """(n, m, ...) at the tap, as they come."""
    metric: Tensor
    """S (m, m)."""


def rows_within(now: Moment, places: Sequence[Place], samples: int) -> int:
    """As many samples as asked for, or as few as keep every place's rows within bounds."""
    x = now.data.prepare(now.data.train.x[:2])
    trace = Trace(now.model, x, [place.tap for place in places])
    most = max(_columns(tensor).shape[1] // len(x) for tensor in trace.tapped)
    return max(1, min(samples, _MOST_ROWS // most))


def take_readings(
    now: Moment, places: Sequence[Place], x: Tensor, y: Tensor, *, gradient: Tensor | None = None
) -> list[FullReading | Unreadable]:
    """Readings at all places of the present net at once.

    :param gradient: (n, outputs), taken for ∂L/∂outputs in the residual gradients, where something has been taken away
    """
    taps = [place.tap for place in places]
    readers = [[Tap(reader, entering=True) for reader in place.readers] for place in places]
    sources = [place.source for place in places if place.source is not None]
    trace = Trace(now.model, x, taps, seen=[*sources, *(tap for some in readers for tap in some)])
    with torch.enable_grad():
        outputs = trace.outputs.detach().requires_grad_()
        (own,) = torch.autograd.grad(now.loss(outputs, y) * len(y), outputs)
    power = float(double(own).square().sum()) / len(y)
    if power == 0:
        return [Unreadable("the loss has no gradient on the samples")] * len(places)
    pulled = trace.pulled_back(own)
    reduced = None if gradient is None else trace.pulled_back(gradient)
    metrics: list[Tensor | float] = [0.0] * len(places)
    for direction in _directions(trace.outputs):
        for i, pulled_direction in enumerate(trace.pulled_back(direction)):
            columns = _columns(pulled_direction)
            metrics[i] = metrics[i] + double(columns @ columns.T) / columns.shape[1]
    readings: list[FullReading | Unreadable] = []
    read_by = [zip(taps, place.readers, strict=True) for taps, place in zip(readers, places, strict=True)]
    rows = [torch.cat([patches_of(trace.seen[tap], reader).flatten(1) for tap, reader in some]) for some in read_by]
    solved = [*rows, *(metric for metric in metrics if isinstance(metric, Tensor))]
    if all(t.numel() <= SOLVED_HERE for t in solved):
        solved = fetched(solved)
    for i, place in enumerate(places):
        goal, metric = _columns(pulled[i]), solved[len(places) + i]
        activations = solved[i]
        try:
            layer = LayerScore(activations.T, goal.T, metric)
            if layer.rank == goal.shape[1]:
                there, units = counted(layer.rank, "row"), counted(len(activations), "activation")
                readings.append(Unreadable(f"{there} cannot tell its {units} from chance: use more samples"))
                continue
            residual = layer.residual if reduced is None else layer.residual_of(_columns(reduced[i]).T, metric)
        except ValueError as error:  # a metric that has no inverse where it is needed
            readings.append(Unreadable(str(error)))
            continue
        source = x if place.source is None else trace.seen[place.source]
        score = goal.shape[1] // len(x) * layer.score / power
        readings.append(FullReading(residual, source, score, power, layer, pulled[i], sent(metric, x.device)))
    return readings


def _directions(outputs: Tensor) -> list[Tensor]:
    """u with Σ uuᵀ the identity, or near it."""
    count = outputs.shape[1]
    if count <= _EXACT_OUTPUTS:
        return [unit.expand_as(outputs) for unit in torch.eye(count, dtype=outputs.dtype, device=outputs.device)]
    drawn = torch.randint(2, (_EXACT_OUTPUTS, *outputs.shape), device="cpu")
    signs = sent(drawn, outputs.device).to(outputs.dtype) * 2 - 1
    return list(signs / _EXACT_OUTPUTS**0.5)


def _unit_dim(tensor: Tensor) -> int:
    """The dimension of m in (n, m), (n, tokens, m) or (n, m, height, width)."""
    return 1 if tensor.ndim == 4 else -1


def _columns(tensor: Tensor) -> Tensor:
    """(m, N) of (n, m), (n, tokens, m) or (n, m, height, width)."""
    return tensor.movedim(_unit_dim(tensor), 0).flatten(1)


def score_proposals(now: Moment, candidates: Sequence[Proposal], samples: int) -> list[Scored]:
    """Score any method's new units and layers, each as if it were the only one, on fresh training samples.

    Heads have no score, and neither has what is taken away.
    """
    proposals = [proposal for proposal in candidates if isinstance(proposal, WidthProposal | DepthProposal)]
    places = [place_of(proposal.site) for proposal in proposals]
    if not places:
        return []
    n = rows_within(now, places, samples)
    x, y = next(iter(draw(now.data, n, n)))
    readings = take_readings(now, places, x, y)
    return [
        Scored(_gain(proposal, reading), reading.score)
        for proposal, reading in zip(proposals, readings, strict=True)
        if isinstance(reading, FullReading)
    ]


@torch.no_grad()
def _gain(proposal: WidthProposal | DepthProposal, reading: FullReading) -> float:
    if isinstance(proposal, DepthProposal):
        return float(reading.bounds(_new_layer(proposal, reading.source)[None])[0])
    if not proposal.units:
        return 0.0  # a best update of present weights: no new activations
    consumer = proposal.site.consumer
    columns = patches_of(proposal.activations(reading.source), consumer, ones=False).flatten(1)
    if columns.any():
        return float(reading.bounds(columns[None])[0])
    return _through_incoming(proposal, reading)


def _new_layer(proposal: DepthProposal, source: Tensor) -> Tensor:
    """(q, N), what would be read after the new layer's units."""
    site, block = proposal.site, proposal.block(source)
    block.eval()
    seen = block.activations(source)
    if site.consumer is None:
        maps = cast(Block, block).outputs()
    else:
        maps = [site.consumer]
        for module in site.between:
            seen = [module(seen[0])]
    return torch.cat([patches_of(a, linear, ones=False).flatten(1) for a, linear in zip(seen, maps, strict=True)])


def _through_incoming(proposal: WidthProposal, reading: FullReading) -> float:
    """Δη' of units that begin with zero incoming weights (GradMax), so that their activations are zero.

    What their weights can move is Ω σ'(0) dW x: it is the score of dW, Ωᵀg_r being its gradients and ΩᵀSΩ its metric.
    """
    site, patches = proposal.site, SitePatches(proposal.site)
    shape = reading.gradients.movedim(_unit_dim(reading.gradients), 0).shape
    unreached = reading.layer.unreached(_columns(reading.gradients).T).T.to(reading.source).view(shape)
    with torch.enable_grad():
        units = read(site.producer, reading.source, proposal.incoming).requires_grad_()
        effect = patches.linear_effect(units, proposal.outgoing)
        (pulled,) = torch.autograd.grad(effect, units, unreached.movedim(0, _unit_dim(effect)))
    weights = double(proposal.outgoing.view(patches.outputs, proposal.units, -1))  # (m, k, offsets)
    metric = torch.einsum("mko,mn,nlo->kl", weights, reading.metric, weights)
    inputs, goal = patches_of(reading.source, site.producer).flatten(1), _columns(pulled)
    return reading.unit * LayerScore(inputs.T, goal.T, metric).score
