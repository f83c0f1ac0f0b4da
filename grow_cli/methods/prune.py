"""Pruning: removes the hidden units, or the blocks, without which the loss is lowest (Alether, 7.1.5).

With a mask m, 1 for every unit and 0 for one that is removed, and d = ∂ℓ/∂m at m = 1 of a sample's loss ℓ, removing a unit
changes the mean loss by about E[−d + d²/2]: the gradient, and the curvature by the empirical Fisher information (Theis et
al., 2018, arXiv:1801.05787; Molchanov et al., 2019, arXiv:1906.10771). What reads the unit keeps its mean, as part of its bias,
and the mask is about that mean. Blocks are few, so each is left out once and the loss measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.methods.base import Method
from grow_cli.methods.depth import stack_of
from grow_cli.registry import option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor, nn

    from grow_cli.config import Config
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import DepthSite, WidthSite
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Event, Notes
    from grow_cli.surgery.proposal import Proposal

    Batches = Iterable[tuple[Tensor, Tensor]]

_BATCH = 256


@option("method", "prune")
@dataclass
class Prune(Method):
    """Removal of hidden units or blocks; with `init=RUN` of a net that has grown."""

    kind = "removal"
    adds = False
    no_score = "what is removed has no natural expansion score"

    what: str = key("units", one_of=("units", "blocks"))
    """`units` of hidden layers, or whole `blocks` of a residual stream."""
    fraction: float = key(0.1, above=0, below=1)
    """Part of all hidden units, or of the blocks, that an event removes; one at least."""
    least: int = key(1, at_least=1)
    """The fewest units that stay in a layer, or blocks in the stack."""
    samples: int = key(1000, at_least=1)
    """Training samples on which removals are judged."""
    tolerance: float = key(0.0, at_least=0)
    """With growth.rollback: how far validation may fall below the best before any event, in the units of its score (0.002
    is 0.2 points of accuracy); an event that costs more is taken back, and was the last."""

    @dataclass
    class State:
        best: float | None = None
        """The best validation score before an event; more is better."""
        refused: bool = False
        """An event cost more than the tolerance."""

    def slack(self, score: float) -> float:
        self.state.best = score if self.state.best is None else max(self.state.best, score)
        return self.tolerance - (self.state.best - score)

    def rolled_back(self, now: Moment, before: dict[str, Any]) -> None:
        super().rolled_back(now, before)
        self.state.refused = True  # the same units would be the cheapest again

    def check_run(self, config: Config) -> list[str]:
        if self.tolerance and not config.growth.rollback:
            return [f"method.tolerance={self.tolerance:g} has no effect: set growth.rollback=true as well"]
        return []

    def check(self, model: GrowableModel) -> list[str]:
        if self.what == "units" and not model.width_sites():
            raise UserError(
                f"method=prune has no hidden units to remove from model={model.name}: "
                f"{model.no_width or 'it has no hidden layer'}"
            )
        if self.what == "blocks" and not any(site.residual for site in model.depth_sites()):
            raise UserError(
                f"method.what=blocks: the layers of model={model.name} are not blocks of a residual stream: use method.what=units"
            )
        return []

    def closed(self, now: Moment) -> str:
        if self.state.refused:
            return f"the last removal cost more than method.tolerance={self.tolerance:g}"
        if self.what == "units":
            left = any(site.units > self.least for site in now.model.width_sites())
        else:
            left = len(stack_of(now.model)) > self.least
        return "" if left else f"no more can be removed (method.least={self.least})"

    def candidates(self, now: Moment, notes: Notes) -> list[Proposal]:
        return list(self._removals(now))

    def add(self, now: Moment, event: Event) -> None:
        for proposal in self._removals(now):
            event.apply(proposal)
        if not event.applied:
            event.nothing(self.closed(now))

    def _removals(self, now: Moment) -> Iterator[Proposal]:
        """One after another, each of the net as it is by then: earlier layers have changed."""
        if self.what == "blocks":
            yield from self._blocks(now)
            return
        sample = _sample(now, self.samples)
        for i, found in self._chosen(now, sample).items():
            yield self._removal(now, sample, i, *found)

    def _chosen(self, now: Moment, sample: Batches) -> dict[int, tuple[list[int], float]]:
        """Number of a site → the units of the whole net that cost least which are there, and what they cost together."""
        from grow_cli.hardware import numbers

        sites = now.model.width_sites()
        costs = numbers(unit_costs(now, sites, sample))
        order = sorted((c, i, unit) for i, cost in enumerate(costs) for unit, c in enumerate(cost))
        most = max(1, round(self.fraction * len(order)))
        chosen: list[list[int]] = [[] for _ in sites]
        for _, i, unit in order:
            if sum(map(len, chosen)) < most and sites[i].units - len(chosen[i]) > self.least:
                chosen[i].append(unit)
        return {i: (sorted(units), sum(costs[i][u] for u in units)) for i, units in enumerate(chosen) if units}

    def _removal(self, now: Moment, sample: Batches, index: int, units: list[int], cost: float) -> Proposal:
        import torch

        from grow_cli.surgery.proposal import UnitRemoval

        site = now.model.width_sites()[index]
        removed = torch.tensor(units)
        details = {"site": site.name, "removed": units, "predicted": cost}
        return UnitRemoval(site, removed, details, replace=stood_in_for(now, site, removed, sample))

    def _blocks(self, now: Moment) -> list[Proposal]:
        """Those without which, one at a time, the loss is lowest; the last in the stack first."""
        from grow_cli.surgery.proposal import BlockRemoval

        stack = stack_of(now.model)
        sites = [site for site in now.model.depth_sites() if site.stack is stack and site.index < len(stack)]
        costs = block_costs(now, sites, _sample(now, self.samples))
        most = min(len(stack) - self.least, max(1, round(self.fraction * len(stack))))
        chosen = sorted(sorted(range(len(sites)), key=costs.__getitem__)[: max(0, most)], reverse=True)
        return [
            BlockRemoval(sites[i], {"site": sites[i].name, "removed": i + 1, "predicted": costs[i]}) for i in chosen
        ]


def unit_costs(now: Moment, sites: list[WidthSite], sample: Batches) -> list[Tensor]:
    """E[−d + d²/2] of each unit of each site, (units,) in float64: what removing it alone is expected to add to the loss.

    Where the consumer has a bias, the mask is about the unit's mean, which the bias can take over; else about zero.
    """
    import torch

    from grow_cli.surgery.signals import Tap, Trace

    taps = [Tap(site.consumer, entering=True) for site in sites]
    means = _means(now, sites, sample)
    sums = [site.consumer.weight.new_zeros(site.units, dtype=torch.float64) for site in sites]
    count = 0
    for x, y in sample:
        now.stop_if_interrupted()
        trace = Trace(now.model, x, taps, seen=taps)
        with torch.enable_grad():
            gradients = trace.gradients(now.loss(trace.outputs, y) * len(y))  # each sample's own loss
        for total, site, tap, gradient, mean in zip(sums, sites, taps, gradients, means, strict=True):
            d = _per_unit(((trace.seen[tap] - mean) * gradient).double(), site)
            total += (d.square() / 2 - d).sum(0)
        count += len(y)
    return [total / count for total in sums]


def _means(now: Moment, sites: list[WidthSite], sample: Batches) -> list[Tensor]:
    """Of what enters each consumer, over samples and positions: (columns,), or (units, 1, 1) of channels; 0 without a bias."""
    from grow_cli.surgery.signals import Tap, Trace

    taps = [Tap(site.consumer, entering=True) for site in sites]
    sums: list[Any] = [0.0] * len(sites)
    count = 0
    for x, _ in sample:
        now.stop_if_interrupted()
        seen = Trace(now.model, x, [], seen=taps).seen
        for i, tap in enumerate(taps):
            t = seen[tap].double()
            mean = t.mean((2, 3), keepdim=True) if t.ndim == 4 else t.flatten(1, -2).mean(1) if t.ndim > 2 else t
            sums[i] = sums[i] + mean.sum(0)
        count += len(x)
    found = zip(sums, sites, strict=True)
    return [(total * (site.consumer.bias is not None) / count).to(site.consumer.weight) for total, site in found]


def stood_in_for(now: Moment, site: WidthSite, removed: Tensor, sample: Batches) -> dict[nn.Parameter, Tensor]:
    """The consumer's bias, with the mean of what these units add to its outputs; nothing where it has none."""
    import torch

    from grow_cli.hardware import sent
    from grow_cli.surgery.patches import read
    from grow_cli.surgery.signals import Tap, Trace

    consumer, tap = site.consumer, Tap(site.consumer, entering=True)
    if consumer.bias is None:
        return {}
    weight = consumer.weight.detach()
    own = weight.new_zeros(site.units).index_fill(0, sent(removed, weight.device), 1.0)
    own = own.view(-1, 1, 1) if weight.ndim == 4 else own.repeat_interleave(site.columns_per_unit)
    total, count = weight.new_zeros(len(weight), dtype=torch.float64), 0
    for x, _ in sample:
        now.stop_if_interrupted()
        seen = Trace(now.model, x, [], seen=[tap]).seen[tap] * own
        if weight.ndim == 4:
            added = read(consumer, seen, weight).mean((2, 3))
        else:
            added = read(consumer, seen.flatten(1, -2).mean(1) if seen.ndim > 2 else seen, weight)
        total += added.double().sum(0)
        count += len(x)
    return {cast("nn.Parameter", consumer.bias): consumer.bias.detach() + (total / count).to(weight)}


def _per_unit(tensor: Tensor, site: WidthSite) -> Tensor:
    """(n, units): sums over positions of what enters the consumer, (n, units, height, width) or (n, ..., units · columns)."""
    if tensor.ndim == 4:
        return tensor.sum((2, 3))
    each = tensor.unflatten(-1, (site.units, site.columns_per_unit)).sum(-1)
    return each.flatten(1, -2).sum(1) if each.ndim > 2 else each


def block_costs(now: Moment, sites: list[DepthSite], sample: Batches) -> list[float]:
    """What leaving out each block alone adds to the mean loss."""
    from torch import nn

    from grow_cli.hardware import Readings
    from grow_cli.surgery.measure import evaluation_mode

    readings = Readings()
    losses: list[list[tuple[Callable[[], float], int]]] = [[] for _ in range(len(sites) + 1)]
    with evaluation_mode(now.model):
        for x, y in sample:
            now.stop_if_interrupted()
            losses[-1].append((readings.later(now.loss(now.model(x), y)), len(y)))
            for i, site in enumerate(sites):
                block = site.stack[site.index]
                site.stack[site.index] = nn.Identity()
                try:
                    losses[i].append((readings.later(now.loss(now.model(x), y)), len(y)))
                finally:
                    site.stack[site.index] = block
    sums = [sum(loss() * n for loss, n in own) for own in losses]
    return [(total - sums[-1]) / sum(n for _, n in losses[-1]) for total in sums[:-1]]


def _sample(now: Moment, samples: int) -> Batches:
    """The minibatches on which an event is judged, each time the same ones."""
    from grow_cli.data.sample import draw

    return draw(now.data, samples, _BATCH)
