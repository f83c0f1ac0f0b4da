"""One visit of SENN: the gain of every site's best proposal, computed again after each addition, until nothing qualifies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from grow_cli.data.sample import Sample
from grow_cli.errors import UserError
from grow_cli.hardware import numbers
from grow_cli.methods.senn.candidates import Candidates, NewLayer, NewUnits
from grow_cli.methods.senn.settings import Settings
from grow_cli.methods.width import parameters_left, room, units_left
from grow_cli.models.modules.activations import Rational
from grow_cli.models.modules.sites import DepthSite, WidthSite
from grow_cli.records.words import counted
from grow_cli.scoring import (
    Reading,
    Unreadable,
    place_of,
    rows_within,
    take_readings,
)
from grow_cli.surgery.flops import elementwise
from grow_cli.surgery.measure import count_parameters, evaluation_mode
from grow_cli.surgery.proposal import Proposal
from grow_cli.theory.expansion import Scored
from grow_cli.theory.natural import Jacobian, conjugate_gradients, fisher_product, twice_differentiable
from grow_cli.theory.search import Found, ascend, langevin

if TYPE_CHECKING:
    from grow_cli.moment import Moment

# After an addition the proposals are near their best already.
_REFINING = 0.1


@dataclass
class Candidate:
    """The best proposal at a site."""

    site: WidthSite | DepthSite
    candidates: Candidates
    point: Tensor
    gain: float
    """Δη' on the held-out samples, as a fraction of λ; expected over the samples where these were drawn."""
    found: float
    """Δη' of the same on the samples that it was optimised on."""
    score: float
    """η_c on all samples, as a fraction of λ."""
    penalty: float
    """By which a layer's gain is divided."""
    source: Tensor
    """(n, ...) what new units read there, on all samples."""

    @property
    def scored(self) -> Scored:
        """What sites are compared by: a layer's gain is divided by its penalty."""
        return Scored(self.gain / self.penalty, self.score)

    def details(self) -> dict[str, Any]:
        """For the growth log."""
        return {
            "site": self.site.name,
            "kind": self.site.kind,
            "gain": self.gain,
            "gain_where_optimised": self.found,
            "score": self.score,
            "ratio": self.scored.ratio,
        }

    def proposal(self) -> Proposal:
        """As what surgery applies."""
        return self.candidates.proposal(self.point, self.source, self.details())


@dataclass
class _Population:
    """A site's proposals, kept from one addition to the next."""

    points: Tensor
    values: Tensor
    fan_in: int
    current: bool = True
    """Whether `values` hold; not once something has changed there."""


@dataclass
class Visit:
    """The samples of a visit, and every site's proposals as far as they are known.

    Draws from its own seed only: what it finds does not depend on what is drawn elsewhere.
    """

    now: Moment
    option: Settings
    seed: int
    layers_allowed: bool
    skipped: dict[str, str] = field(default_factory=dict)
    """Site → why nothing is proposed there."""
    _populations: dict[tuple[Any, ...], _Population] = field(default_factory=dict)
    _units: dict[nn.Module, int] = field(default_factory=dict)
    """Producer → units that this visit has given it."""

    def __post_init__(self) -> None:
        total, sites = len(self.now.data.train), self._sites()
        samples, held_out = wanted = self.option.numbers(max(map(_weights, sites), default=1))
        if samples + held_out > total:  # what there is, in the same proportion
            held_out = max(2, total - round(total * samples / (samples + held_out)))
            samples = total - held_out
        if samples < 2:
            raise UserError(
                f"method=senn has no held-out samples to judge proposals on: {total} training samples for method.samples="
                f"{wanted[0]} and method.held_out={wanted[1]}"
            )
        if sites:
            both = samples + held_out
            most = rows_within(self.now, [place_of(site) for site in sites], both)
            samples, held_out = (max(2, n * most // both) for n in (samples, held_out))
        drawn = Sample(self.now.data, samples + held_out, samples + held_out, self.seed)
        x, y = next(iter(drawn))
        self._x, self._y, self._optimised = x, y, samples

    def _sites(self) -> list[WidthSite | DepthSite]:
        """Where something may be added now."""
        sites: list[WidthSite | DepthSite] = []
        if self.option.width:
            sites += [site for site in self.now.model.width_sites() if self._has_room(site)]
        if self.option.depth and self.layers_allowed:
            sites += [site for site in self.now.model.depth_sites() if self._insertable(site)]
        return sites

    def _has_room(self, site: WidthSite) -> bool:
        most = self.now.config.growth.neurons
        return room(self.now, site) > 0 and (most is None or self._units.get(site.producer, 0) < most)

    def _insertable(self, site: DepthSite) -> bool:
        reason = ""
        if not site.identity or site.residual:
            reason = "a new layer cannot be the identity there"
        elif site.units > self.option.widest_layer:
            reason = (
                f"a new layer would have {counted(site.units, 'unit')} (method.widest_layer={self.option.widest_layer})"
            )
        elif not self._fits(site):
            room = "growth.max_units, max_total_units or max_parameters leaves no room"
            reason = f"{room} for a layer of {counted(site.units, 'unit')}"
        elif any(isinstance(m, nn.MaxPool2d) for part in site.between for m in part.modules()):
            reason = "its outputs would pass through a max-pool, after which a mixture of channels cannot be undone"
        elif not len(site.stack) and site.between:
            reason = "it would precede a pooling that has no layer before it"
        if reason:
            self.skipped[site.name] = reason
        return not reason

    def _fits(self, site: DepthSite) -> bool:
        growth = self.now.config.growth
        if site.units > units_left(self.now) or (growth.max_units is not None and site.units > growth.max_units[0]):
            return False
        return growth.max_parameters is None or count_parameters(site.make_block()) <= parameters_left(self.now)

    def look(self) -> list[Candidate]:
        """The best proposal of every site of the present net."""
        with torch.random.fork_rng(devices=[]), evaluation_mode(self.now.model):
            torch.manual_seed(self.seed)
            return self._look()

    def _look(self) -> list[Candidate]:
        sites = self._sites()
        if not sites:
            return []
        places = [place_of(site) for site in sites]
        # the net's own score, and what its weights cannot reach, from all samples: only the proposals fit some of them
        gradient = _beyond_the_network(self.now, self._x, self._y) if self.option.residual == "network" else None
        readings = take_readings(self.now, places, self._x, self._y, gradient=gradient)
        found = []
        for site, reading in zip(sites, readings, strict=True):
            self.now.stop_if_interrupted()
            if isinstance(reading, Unreadable):
                self.skipped[site.name] = reading.reason
            else:
                own = min(self._optimised, self.option.numbers(_weights(site))[0])
                optimised, held_out = reading.part(0, own), reading.part(self._optimised, len(self._x))
                found.append(self._best(site, optimised, held_out, reading.source))
        return found

    def _best(self, site: WidthSite | DepthSite, reading: Reading, held_out: Reading, source: Tensor) -> Candidate:
        option = self.option
        candidates = _candidates(site)
        kept = self._populations.get(_key(site))
        if kept is not None and kept.fan_in == candidates.fan_in - 1:
            kept.points, kept.fan_in = candidates.widened(kept.points), candidates.fan_in
        if kept is None or kept.fan_in != candidates.fan_in:
            width = isinstance(site, WidthSite)
            count = option.tried(len(reading.source)) if width else option.layer_proposals
            drawn = candidates.draw(count, reading.source)
            kept = _Population(drawn, drawn[:, 0], candidates.fan_in)
            found = self._search(candidates, reading, drawn, option.steps)
            self._populations[_key(site)] = kept
        elif not kept.current:
            found = self._search(candidates, reading, kept.points, max(1, round(option.steps * _REFINING)))
        else:
            found = Found(kept.points, kept.values, 0.0)
        kept.points, kept.values, kept.current = found.points, found.values, True
        fitted_on = None if option.refits(len(held_out.source), _read_by_an_output(site)) else reading
        penalty = 1.0 if isinstance(site, WidthSite) else option.layer_penalty
        if option.search == "langevin":
            gains = candidates.gains(found.points, held_out, fitted_on)
            valued = torch.where(torch.isfinite(found.values), found.values, -1e30)
            odds = (valued * len(reading.source) / option.temperature).softmax(0)
            pick = torch.multinomial(odds, 1)
            gain = (odds.to(gains) * gains).sum()
            point = found.points.index_select(0, pick)
        else:
            point = found.points.index_select(0, found.values.argmax(0, keepdim=True))
            gain = candidates.gains(point, held_out, fitted_on)[0]
        gained, value = numbers([gain, candidates.gains(point, reading)[0]])
        return Candidate(site, candidates, point[0], gained, value, held_out.score, penalty, source)

    def _search(self, candidates: Candidates, reading: Reading, start: Tensor, steps: int) -> Found:
        option, evaluate = self.option, candidates.evaluator(reading)
        if option.search == "ascent":
            with elementwise():
                return ascend(evaluate, start, steps=steps, rate=option.step)
        # the density is that of the sum over the samples, whose number is what the temperature stands against
        samples = len(reading.source)

        def summed(points: Tensor) -> tuple[Tensor, Tensor]:
            values, gradients = evaluate(points)
            return values * samples, gradients * samples

        with elementwise():
            found = langevin(
                summed,
                start,
                steps=steps,
                rate=option.step,
                temperature=option.temperature,
                scale=candidates.scale.to(start),
            )
        return Found(found.points, found.values / samples, found.acceptance)

    def added(self, site: WidthSite | DepthSite) -> None:
        """The net has got this: what the same map reads is to be looked at anew."""
        for key, population in self._populations.items():
            if key[-1] is site.consumer:
                population.current = False
        if isinstance(site, DepthSite):
            self.layers_allowed = False
            # what was found above the new layer stands in the basis from before
            self._populations = {key: p for key, p in self._populations.items() if key[1] is not site.consumer}
        else:
            self._units[site.producer] = self._units.get(site.producer, 0) + 1


def _weights(site: WidthSite | DepthSite) -> int:
    """Weights of a unit that is to be fitted there, its bias included; 1 in an image, which has a row for each of its points."""
    if isinstance(site, DepthSite):
        return site.units + 1
    return site.producer.weight[0].numel() + 1 if site.producer.weight.dim() == 2 else 1


def _read_by_an_output(site: WidthSite | DepthSite) -> int:
    """Weights that an output of the next map has on a new unit, or on all units of a new layer."""
    assert site.consumer is not None
    return site.consumer.weight[0, 0].numel() * (site.units if isinstance(site, DepthSite) else site.columns_per_unit)


def _key(site: WidthSite | DepthSite) -> tuple[Any, ...]:
    first: Any = site.producer if isinstance(site, WidthSite) else (id(site.stack), site.index)
    return (type(site), first, site.consumer)


def _candidates(site: WidthSite | DepthSite) -> Candidates:
    if isinstance(site, WidthSite):
        return NewUnits(site)
    (activation,) = (m for m in site.make_block().modules() if isinstance(m, Rational))
    return NewLayer(site, activation)


def _beyond_the_network(now: Moment, x: Tensor, y: Tensor) -> Tensor:
    """∂L/∂outputs (n, outputs) less what the natural gradient of the whole net achieves of it (the authors' code)."""
    model, optimizer = now.model, now.config.optimizer
    damping, iterations = getattr(optimizer, "damping", 0.1), getattr(optimizer, "iterations", 100)
    parameters = [p for p in model.parameters() if p.requires_grad]
    with evaluation_mode(model), torch.enable_grad(), twice_differentiable():
        outputs = model(x)
        (own,) = torch.autograd.grad(now.loss(outputs, y) * len(y), outputs, retain_graph=True)
        jacobian = Jacobian(outputs, parameters)
    gradient = jacobian.transposed_times(own) / len(x)
    direction = conjugate_gradients(
        fisher_product(jacobian, damping), gradient, iterations=iterations, tolerance=1e-3
    ).x
    reached = jacobian.times(direction).detach()
    return own.detach() - reached * ((own * reached).sum() / reached.square().sum().clamp(min=1e-30)).detach()
