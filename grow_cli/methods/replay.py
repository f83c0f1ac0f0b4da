"""Random growth by another run's schedule: at the same events and sites, by as many units, but with fresh weights.

The difference from the other run is the gain of that run's choice of weights, everything else being equal (`grow
controls`, the control `random-replay`). So where the other run moved existing weights by a best update (TINY, Prop.
3.1), this one does as well: by the best update of its own net, at its own best amplitude.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import TrainingFailed, check
from grow_cli.keys import key
from grow_cli.methods.base import Settling
from grow_cli.methods.depth import Protocol, like
from grow_cli.methods.heads import fresh_heads
from grow_cli.methods.width import SampledMethod, SearchedMethod, random_directions
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import DepthSite, WidthSite
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Event, Notes
    from grow_cli.surgery.proposal import Proposal, WidthProposal


@option("method", "replay")
@dataclass
class Replay(SampledMethod, SearchedMethod, Protocol):
    """Adds what the next event of the schedule lists. Made by `grow controls`; use it with `trigger=at`."""

    on_several_ranks = True

    events: list[list[dict[str, Any]]] = key(make=list)
    """What each event adds, in order: kind (`width`, `depth` or `heads`), site, units, and whether a best update comes first
    (`update`, default false)."""
    rtol: float = key(1e-3, above=0, below=1)
    """As in method=tiny, for best updates."""
    warmup_steps: int = key(0, at_least=0, at_most=1_000_000)
    start: str = key("zero", one_of=("copy", "zero", "fresh", "random"))
    """Of the run that is followed: new heads write nothing at first unless it is `fresh`."""

    measures_gain = False
    heeds_until = False  # the other run heeded it

    @dataclass
    class State(SampledMethod.State):
        done: int = 0
        """Events of the schedule that are over."""

    def __post_init__(self) -> None:
        super().__post_init__()
        entries = [entry for added in self.events for entry in added]
        check(
            all(e.get("kind") in ("width", "depth", "heads") and {"site", "units"} <= set(e) for e in entries),
            "method.events: each entry needs kind (width, depth or heads), site and units",
        )

    @property
    def gathered(self) -> dict[str, Any]:
        """For best updates."""
        return {"rtol": self.rtol, "whiten": False, "significance": False}

    def check_run(self, config: Config) -> list[str]:
        return [] if self.events else ["nothing will grow: method.events is empty (`grow controls RUN` fills it)"]

    def check(self, model: GrowableModel) -> list[str]:
        """The first event finds out: the sites to come exist only once the net has grown."""
        return []

    def closed(self, now: Moment) -> str:
        return "" if self.state.done < len(self.events) else "all events of the schedule have happened"

    def candidates(self, now: Moment, notes: Notes) -> list[Proposal]:
        return []

    def add(self, now: Moment, event: Event) -> None:
        from grow_cli.surgery.flops import flops_per_sample
        from grow_cli.surgery.proposal import DepthProposal

        if self.state.complexity is None:
            self.state.complexity = flops_per_sample(now.model, now.data.spec.input_shape)
        added = self.events[self.state.done]
        self.state.done += 1
        for entry in added:
            now.stop_if_interrupted()
            if entry["kind"] == "depth":
                deeper = _of_width(now.model.depth_sites(), entry)
                state = self.spoken(deeper, deeper.make_block().state_dict())
                event.apply(DepthProposal(deeper, state, details={"site": deeper.name}))
            elif entry["kind"] == "heads":
                event.apply(fresh_heads(_named(now.model.head_sites(), entry), entry["units"], self.start))
            else:
                proposal = self._units(
                    now, _named(now.model.width_sites(), entry), entry["units"], entry.get("update", False)
                )
                if proposal is not None:
                    event.apply(proposal)
        if not event.applied:
            event.nothing("no amplitude of the schedule's best updates lowers the loss")

    def _units(self, now: Moment, site: WidthSite, k: int, update: bool) -> WidthProposal | None:
        """At the amplitude that lowers the loss most, as `random` has them; unread at first where none lowers it.

        None where a best update is all that is asked for, and lowers nothing.
        """
        import torch

        from grow_cli.methods.width.searching import offer_of, search_batch
        from grow_cli.surgery.proposal import WidthProposal

        alpha, omega = random_directions(site, k)
        best = self.observed(now, [site])[0].update if update else None
        batch = search_batch(now, self.search_samples)
        details: dict[str, Any] = {"site": site.name, "units": k}
        reason = "" if k else "the schedule has only a best update there"
        offer = offer_of(
            now, site, batch, self.halvings, alpha=alpha, omega=omega, update=best, details=details, reason=reason
        )
        if k == 0 or (offer.proposal is not None and offer.proposal.units):
            return offer.proposal
        replace = {} if offer.proposal is None else offer.proposal.replace
        weight, consumer = site.producer.weight.detach(), site.consumer.weight.detach()
        incoming = torch.randn(k, *weight.shape[1:]).to(weight) * weight[0].numel() ** -0.5
        read = consumer.new_zeros(len(consumer), k * site.columns_per_unit, *consumer.shape[2:])
        return WidthProposal(site, incoming, None, read, replace=replace, details=details)

    def settle(self, now: Moment, flops_per_sample: int) -> Settling:
        settling = super().settle(now, flops_per_sample)
        deepened = any(entry["kind"] == "depth" for entry in self.events[self.state.done - 1])
        return (
            dataclasses.replace(settling, warm_up=self.warm_up())
            if deepened and self.warmup_steps + self.thaw_steps
            else settling
        )

    def conclude(self, now: Moment) -> dict[str, Any]:
        """TrainingFailed if the run ended before the schedule did: it is then no replay."""
        if self.closed(now) == "":
            left, all_of_them = len(self.events) - self.state.done, len(self.events)
            raise TrainingFailed(f"the run ended before {left} of the schedule's {all_of_them} growth events were due")
        return {}


def _of_width(sites: list[DepthSite], entry: dict[str, Any]) -> DepthSite:
    """The site named, its new block as wide as the schedule's, which may have been shaped like a block elsewhere."""
    site: DepthSite = _named(sites, entry)
    if site.units == entry["units"] or not site.residual:
        return site
    alike = (other for other in sites if other.residual and other.units == entry["units"])
    return like(site, next(alike, site))


def _named(sites: list[Any], entry: dict[str, Any]) -> Any:
    for site in sites:
        if site.name == entry["site"]:
            return site
    raise TrainingFailed(
        f"the schedule adds at {entry['site']!r}, and the net has only {', '.join(s.name for s in sites) or 'no site'}: "
        "it must start with the same sizes as the run whose schedule it follows"
    )
