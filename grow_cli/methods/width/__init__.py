"""Width growth: shared by `tiny`, `gradmax`, `random` and `net2net`, which differ only in the new units' weights.

An event visits the net's width sites in order, each seeing earlier additions (TINY, Algorithm 3), or adds only at the
best of them (TINY, E.3).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.methods.base import Method, Settling
from grow_cli.methods.width.offer import NO_ROOM, Offer
from grow_cli.records.words import counted

if TYPE_CHECKING:
    from torch import Tensor

    from grow_cli.config import Config
    from grow_cli.methods.width.statistics import Observer, Statistics
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import WidthSite
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Event, Notes
    from grow_cli.surgery.proposal import Proposal


def limits(now: Moment) -> list[int] | None:
    """The width at which each site of the present net stops growing; None where there is no limit."""
    given, sites = now.config.growth.max_units, now.model.width_sites()
    if given is None or len(given) == len(sites):
        return given
    if len(given) == 1:
        return given * len(sites)
    names = ", ".join(f"{site.name} ({site.units} now)" for site in sites)
    raise UserError(
        f"growth.max_units={given} has {counted(len(given), 'number')} but the model has {counted(len(sites), 'place')} to "
        f"grow: give one number for all, or one for each of {names}"
    )


def units_left(now: Moment) -> int:
    """Hidden units that the whole net may still get."""
    limit = now.config.growth.max_total_units
    return sys.maxsize if limit is None else max(0, limit - sum(now.model.widths()))


def parameters_left(now: Moment) -> int:
    """Trainable parameters that the whole net may still get."""
    from grow_cli.surgery.measure import count_parameters

    limit = now.config.growth.max_parameters
    return sys.maxsize if limit is None else max(0, limit - count_parameters(now.model))


def room(now: Moment, site: WidthSite) -> int:
    """The most units to add there in one event; 0 where the budget of units, parameters or FLOPs is used up."""
    from grow_cli.surgery.flops import flops_per_sample, flops_per_unit

    growth, producer, consumer = now.config.growth, site.producer, site.consumer.weight
    fan_in = producer.weight[0].numel() + (producer.bias is not None)
    most = min(fan_in, consumer.shape[0]) if growth.neurons is None else growth.neurons
    followers = sum(len(list(f.parameters())) for f in site.followers)
    each = fan_in + consumer[:, 0].numel() * site.columns_per_unit + followers
    most = min(most, units_left(now), parameters_left(now) // each)
    if growth.max_flops_per_sample is not None:
        shape = now.data.spec.input_shape
        left = growth.max_flops_per_sample - flops_per_sample(now.model, shape)
        most = min(most, max(0, left) // flops_per_unit(now.model, shape, site))
    widths = limits(now)
    if widths is not None:
        index = [s.name for s in now.model.width_sites()].index(site.name)
        most = min(most, max(0, widths[index] - site.units))
    return most


def no_room(now: Moment) -> str:
    """Why no site can grow, where none can."""
    growth = now.config.growth
    return (
        f"no hidden layer can get another unit (growth.max_units={growth.max_units}, "
        f"growth.max_parameters={growth.max_parameters}, growth.max_flops_per_sample={growth.max_flops_per_sample}, "
        f"growth.max_total_units={growth.max_total_units})"
    )


def check_widening(model: GrowableModel, method: str) -> None:
    """UserError if there is nothing to widen, or units there cannot be followed to what reads them."""
    from grow_cli.surgery.patches import SitePatches

    sites = model.width_sites()
    if not sites:
        why = model.no_width or "it has no hidden layer: give it one, for example with a single unit"
        raise UserError(f"method={method} cannot widen model={model.name}: {why}")
    for site in sites:
        SitePatches(site)  # refuses what cannot be followed


@dataclass
class WidthMethod(Method):
    """Base of the width methods. A method says in `offers` what it would do at each site."""

    kind = "width"

    where: str = key("all", one_of=("all", "best"))
    """`all`: at every site, one after the other (Algorithm 3); `best`: only at the site with the largest gain (E.3)."""
    batch_growth: bool = False
    """Multiply the training batch by the root of the growth in complexity (D.2)."""

    measures_gain: ClassVar[bool] = True
    """Whether sites can be compared."""

    @dataclass
    class State:
        complexity: int | None = None
        """Forward FLOPs of a sample before the first event."""

    def check_run(self, config: Config) -> list[str]:
        if self.where == "best" and not self.measures_gain:
            raise UserError(f"method={self.name} cannot rank sites: use method.where=all")
        return []

    def check(self, model: GrowableModel) -> list[str]:
        check_widening(model, self.name)
        return []

    def offers(self, now: Moment, sites: list[WidthSite]) -> Iterator[Offer]:
        """What to do at each of these sites of the present net, each as if it were the only one."""
        raise NotImplementedError

    def closed(self, now: Moment) -> str:
        return "" if self._open(now) else no_room(now)

    def candidates(self, now: Moment, notes: Notes) -> list[Proposal]:
        sites = self._open(now)
        found = list(self.offers(now, sites)) if sites else []
        return [offer.proposal for offer in found if offer.proposal is not None]

    def add(self, now: Moment, event: Event) -> None:
        from grow_cli.surgery.flops import flops_per_sample

        if self.state.complexity is None:
            self.state.complexity = flops_per_sample(now.model, now.data.spec.input_shape)
        (self._at_the_best if self.where == "best" else self._at_all)(now, event)
        if not event.reasons:
            event.nothing(self.closed(now))

    def _open(self, now: Moment) -> list[WidthSite]:
        """The sites of the present net that may still grow; without gradient steps all, for their best updates."""
        return [s for s in now.model.width_sites() if room(now, s) or not self.trains_by_gradient]

    def _at_all(self, now: Moment, event: Event) -> None:
        for name in [site.name for site in self._open(now)]:
            now.stop_if_interrupted()
            site = next(s for s in now.model.width_sites() if s.name == name)  # of the net as it is by now
            for offer in self.offers(now, [site]):
                _take(offer, event)

    def _at_the_best(self, now: Moment, event: Event) -> None:
        sites = self._open(now)
        offers = []
        for offer in self.offers(now, sites) if sites else ():
            now.stop_if_interrupted()
            offers.append(offer)
        # new units where there are some; else the best update that gains most
        offers.sort(key=lambda o: (o.proposal is None, o.proposal is None or not o.proposal.units, -o.gain))
        event.details["gains"] = {offer.site.name: offer.gain for offer in offers if offer.proposal is not None}
        for i, offer in enumerate(offers):
            _take(offer, event, add=i == 0)

    def settle(self, now: Moment, flops_per_sample: int) -> Settling:
        """The batch grows with the root of the net's complexity (D.2), where asked for."""
        if not self.batch_growth:
            return Settling()
        assert self.state.complexity is not None
        size = round(now.config.batch_size * (flops_per_sample / self.state.complexity) ** 0.5)
        return Settling(batch_size=max(1, size))


def _take(offer: Offer, event: Event, *, add: bool = True) -> None:
    added = add and offer.proposal is not None
    if added:
        assert offer.proposal is not None
        event.apply(offer.proposal)
    if offer.reason:
        details = {} if added else offer.details  # the proposal's are logged anyway
        event.nothing(offer.reason, **{"site": offer.site.name} | details)


@dataclass
class SampledMethod(WidthMethod):
    """Base of the width methods that look at samples."""

    samples: int | None = key(None, at_least=2, null="to derive it from the net's size")
    """Samples for the statistics; null: enough to keep their variance constant, side² / positions (TINY, D.1), or
    1,000."""
    max_samples: int = key(10000, at_least=2)
    """Upper limit of the samples that D.1 asks for."""

    @dataclass
    class State(WidthMethod.State):
        whitened: list[str] = field(default_factory=list)
        """Sites whose raw inputs have been whitened: counted once, though a resumed run does it anew."""

    @property
    def gathered(self) -> dict[str, Any]:
        """Which statistics, as arguments of `Observer`."""
        raise NotImplementedError

    @cached_property
    def observer(self) -> Observer:
        """It keeps what does not change from one event to the next."""
        from grow_cli.methods.width.statistics import Observer

        return Observer(self.samples, self.max_samples, **self.gathered)

    def observed(self, now: Moment, sites: list[WidthSite]) -> list[Statistics]:
        """The statistics of each of these sites of the present net."""
        return self.observer.observe(now, sites, self.state.whitened)

    def rolled_back(self, now: Moment, before: dict[str, Any]) -> None:
        super().rolled_back(now, before | {"whitened": self.state.whitened})


@dataclass
class SearchedMethod(WidthMethod):
    """Base of the width methods that search for an amplitude: a method says in `directions` what is added."""

    search_samples: int | None = key(None, at_least=1, null="for as many as it takes")
    """Samples on which amplitudes are judged (TINY, Algorithm 2); null: 500, or 256 for large convolutional layers."""
    halvings: int = key(12, at_least=0, at_most=40)
    """Amplitudes from ε = 1 down to 2^-halvings are tried, and 0."""

    def directions(self, now: Moment, site: WidthSite, units: int) -> tuple[Tensor, Tensor]:
        """Fan-in α (units, p), the bias last, and fan-out ω (m · offsets, units) of new units; p and m as `SitePatches` has
        them. Their size does not matter: each unit is turned downhill, all get the amplitude that lowers the loss most."""
        raise NotImplementedError

    def offers(self, now: Moment, sites: list[WidthSite]) -> Iterator[Offer]:
        from grow_cli.methods.width.searching import offer_of, search_batch

        batch = search_batch(now, self.search_samples)
        for site in sites:
            units = room(now, site)
            if units == 0:
                yield Offer(site, reason=NO_ROOM)
                continue
            alpha, omega = self.directions(now, site, units)
            details = {"site": site.name, "units": units}
            yield offer_of(now, site, batch, self.halvings, alpha=alpha, omega=omega, details=details)


def random_directions(site: WidthSite, units: int) -> tuple[Tensor, Tensor]:
    """Gaussian fan-in and fan-out; from torch's global stream."""
    import torch

    from grow_cli.surgery.patches import SitePatches

    patches = SitePatches(site)
    return torch.randn(units, patches.fan_in), torch.randn(patches.fan_out, units)
