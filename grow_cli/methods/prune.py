"""Pruning: removes the hidden units, or the blocks, without which the loss is lowest (Alether, 7.1.5).

With a mask m, 1 for every unit and 0 for one that is removed, and d = ∂ℓ/∂m at m = 1 of a sample's loss ℓ, removing a unit
changes the mean loss by about E[−d + d²/2]: the gradient, and the curvature by the empirical Fisher information (Theis et
al., 2018, arXiv:1801.05787; Molchanov et al., 2019, arXiv:1906.10771). What reads the unit keeps its mean, as part of its bias,
and the mask is about that mean. Blocks are few, so each is left out once and the loss measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.methods.base import Method
from grow_cli.methods.depth import stack_of
from grow_cli.registry import option

if TYPE_CHECKING:
    from torch import Tensor, nn

    from grow_cli.data.sample import Sample
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import DepthSite, WidthSite
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Event, Notes
    from grow_cli.surgery.proposal import Proposal

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
    """With growth.rollback: how much of the validation score an event may cost, 0.002 for 0.2 points."""

    @property
    def slack(self) -> float:  # type: ignore[override]
        return self.tolerance

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
        if self.what == "units":
            left = any(site.units > self.least for site in now.model.width_sites())
        else:
            left = len(stack_of(now.model)) > self.least
        return "" if left else f"no more can be removed (method.least={self.least})"

    def candidates(self, now: Moment, notes: Notes) -> list[Proposal]:
        if self.what == "blocks":
            return self._blocks(now)
        return [self._removal(now, now.model.width_sites()[i], *found) for i, found in self._chosen(now).items()]

    def add(self, now: Moment, event: Event) -> None:
        if self.what == "blocks":
            for proposal in self._blocks(now):
                event.apply(proposal)
        else:
            for i, found in self._chosen(now).items():  # of the net as it is by now: earlier layers have changed
                event.apply(self._removal(now, now.model.width_sites()[i], *found))
        if not event.applied:
            event.nothing(self.closed(now))

    def _chosen(self, now: Moment) -> dict[int, tuple[list[int], float]]:
        """Number of a site → the units of the whole net that cost least which are there, and what they cost together."""
        sites = now.model.width_sites()
        costs = [cost.tolist() for cost in unit_costs(now, sites, self.samples)]
        order = sorted((c, i, unit) for i, cost in enumerate(costs) for unit, c in enumerate(cost))
        most = max(1, round(self.fraction * len(order)))
        chosen: list[list[int]] = [[] for _ in sites]
        for _, i, unit in order:
            if sum(map(len, chosen)) < most and sites[i].units - len(chosen[i]) > self.least:
                chosen[i].append(unit)
        return {i: (sorted(units), sum(costs[i][u] for u in units)) for i, units in enumerate(chosen) if units}

    def _removal(self, now: Moment, site: WidthSite, units: list[int], cost: float) -> Proposal:
        from grow_cli.surgery.proposal import UnitRemoval

        removed = site.consumer.weight.new_tensor(units).long()
        details = {"site": site.name, "removed": units, "predicted": cost}
        return UnitRemoval(site, removed, details, replace=stood_in_for(now, site, removed, self.samples))

    def _blocks(self, now: Moment) -> list[Proposal]:
        """Those without which, one at a time, the loss is lowest; the last in the stack first."""
        from grow_cli.surgery.proposal import BlockRemoval

        stack = stack_of(now.model)
        sites = [site for site in now.model.depth_sites() if site.stack is stack and site.index < len(stack)]
        costs = block_costs(now, sites, self.samples)
        most = min(len(stack) - self.least, max(1, round(self.fraction * len(stack))))
        chosen = sorted(sorted(range(len(sites)), key=costs.__getitem__)[: max(0, most)], reverse=True)
        return [
            BlockRemoval(sites[i], {"site": sites[i].name, "removed": i + 1, "predicted": costs[i]}) for i in chosen
        ]


def unit_costs(now: Moment, sites: list[WidthSite], samples: int) -> list[Tensor]:
    """E[−d + d²/2] of each unit of each site, (units,) in float64: what removing it alone is expected to add to the loss.

    Where the consumer has a bias, a unit is not set to zero but to its mean, which the bias takes over.
    """
    import torch

    from grow_cli.surgery.signals import Tap, Trace

    taps = [Tap(site.consumer, entering=True) for site in sites]
    like = [site.consumer.weight.new_zeros((), dtype=torch.float64) for site in sites]
    # per unit the sums of: a; A = Σ a·g over positions; G = Σ g; A²; A·G; G²
    sums = [zero.new_zeros(6, site.units) for zero, site in zip(like, sites, strict=True)]
    count, places = 0, [1] * len(sites)
    for x, y in _sample(now, samples):
        now.stop_if_interrupted()
        trace = Trace(now.model, x, taps, seen=taps)
        with torch.enable_grad():
            gradients = trace.gradients(now.loss(trace.outputs, y) * len(y))  # each sample's own loss
        for i, (site, tap, gradient) in enumerate(zip(sites, taps, gradients, strict=True)):
            seen = trace.seen[tap]
            a, moved, g = (_per_unit(t, site).double() for t in (seen, seen * gradient, gradient))
            sums[i] += torch.stack([t.sum(0) for t in (a, moved, g, moved * moved, moved * g, g * g)])
            places[i] = seen[0].numel() // site.units
        count += len(y)
    costs = []
    for (a, moved, g, moved2, both, g2), site, n in zip(sums, sites, places, strict=True):
        mean = a / (count * n) if site.consumer.bias is not None else torch.zeros_like(a)
        first, second = moved - mean * g, moved2 - 2 * mean * both + mean**2 * g2
        costs.append((second / 2 - first) / count)
    return costs


def stood_in_for(now: Moment, site: WidthSite, removed: Tensor, samples: int) -> dict[nn.Parameter, Tensor]:
    """The consumer's bias, with the mean of what it would have read of these units added; nothing where it has none."""
    import torch

    from grow_cli.surgery.signals import Tap, Trace

    consumer, tap = site.consumer, Tap(site.consumer, entering=True)
    if consumer.bias is None:
        return {}
    total, count = consumer.weight.new_zeros(site.units, dtype=torch.float64), 0
    for x, _ in _sample(now, samples):
        now.stop_if_interrupted()
        seen = Trace(now.model, x, [], seen=[tap]).seen[tap]
        total += _per_unit(seen, site).double().sum(0)
        count += seen.numel() // site.units
    weight = consumer.weight.detach()
    each = weight.flatten(2).sum(2) if weight.ndim == 4 else weight.unflatten(1, (site.units, -1)).sum(2)
    moved = each[:, removed] @ (total / count)[removed].to(weight)
    return {cast("nn.Parameter", consumer.bias): consumer.bias.detach() + moved}


def _per_unit(tensor: Tensor, site: WidthSite) -> Tensor:
    """(n, units): sums over positions of what enters the consumer, (n, units, height, width) or (n, ..., units · columns)."""
    if tensor.ndim == 4:
        return tensor.sum((2, 3))
    each = tensor.unflatten(-1, (site.units, site.columns_per_unit)).sum(-1)
    return each.flatten(1, -2).sum(1) if each.ndim > 2 else each


def block_costs(now: Moment, sites: list[DepthSite], samples: int) -> list[float]:
    """What leaving out each block alone adds to the mean loss."""
    from torch import nn

    from grow_cli.surgery.measure import evaluation_mode

    sums, count = [0.0] * (len(sites) + 1), 0
    with evaluation_mode(now.model):
        for x, y in _sample(now, samples):
            now.stop_if_interrupted()
            sums[-1] += float(now.loss(now.model(x), y)) * len(y)
            for i, site in enumerate(sites):
                block = site.stack[site.index]
                site.stack[site.index] = nn.Identity()
                try:
                    sums[i] += float(now.loss(now.model(x), y)) * len(y)
                finally:
                    site.stack[site.index] = block
            count += len(y)
    return [(total - sums[-1]) / count for total in sums[:-1]]


def _sample(now: Moment, samples: int) -> Sample:
    import torch

    from grow_cli.data.sample import Sample

    return Sample(now.data, samples, _BATCH, int(torch.randint(2**62, ())))
