"""Random growth by another run's schedule: at its events, at its sites, as many units, but fresh weights.

What it falls short of the other run by is what that run's choice of weights is worth, everything else being equal
(`grow controls`, the control `random-replay`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grow_cli.errors import TrainingFailed, check
from grow_cli.methods.base import Method, Plan
from grow_cli.methods.depth import DepthOption, warm_up
from grow_cli.methods.width import SearchedOption, WidthMethod
from grow_cli.registry import option

if TYPE_CHECKING:
    from torch import nn

    from grow_cli.config import Config
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import DepthSite, WidthSite
    from grow_cli.surgery.proposal import DepthProposal, WidthProposal
    from grow_cli.training.state import Run


class Replay(WidthMethod):
    """Adds what the next event of the schedule lists."""

    option: ReplayOption

    def __init__(self, option: ReplayOption) -> None:
        super().__init__(option)
        self.done = 0
        """Events of the schedule that are over."""
        self._deepened = False
        """Whether the last one added a layer."""

    def check(self, model: GrowableModel) -> None:
        """The first event finds out: the sites to come exist only once the net has grown."""

    def closed(self, run: Run) -> str:
        return "" if self.done < len(self.option.events) else "every event of the schedule is over"

    def propose(self, run: Run) -> Plan:
        plan = Plan()
        plan.proposals = self._next(run, plan)
        return plan

    def candidates(self, run: Run) -> Plan:
        return Plan()

    def _next(self, run: Run, plan: Plan) -> Iterator[DepthProposal | WidthProposal]:
        from grow_cli.surgery.flops import flops_per_sample
        from grow_cli.surgery.proposal import DepthProposal

        if self.first_complexity is None:
            self.first_complexity = flops_per_sample(run.model, run.data.spec.input_shape)
        added = self.option.events[self.done]
        self.done += 1
        self._deepened = any(entry["kind"] == "depth" for entry in added)
        for entry in added:
            run.stop_if_interrupted()
            if entry["kind"] == "depth":
                deeper: DepthSite = _named(run.model.depth_sites(), entry)
                yield DepthProposal(deeper, deeper.make_block().state_dict(), details={"site": deeper.name})
            else:
                yield self._units(run, _named(run.model.width_sites(), entry), entry["units"], plan)

    def _units(self, run: Run, site: WidthSite, k: int, plan: Plan) -> WidthProposal:
        """At the amplitude that lowers the loss most, as `random` has them; unread at first where none lowers it."""
        import torch

        from grow_cli.methods.widening.searching import offer_of, search_batch
        from grow_cli.surgery.patches import SitePatches
        from grow_cli.surgery.proposal import WidthProposal

        patches = SitePatches(site)
        alpha, omega = torch.randn(k, patches.fan_in), torch.randn(patches.fan_out, k)
        batch = search_batch(run, self.option.search_samples)
        details: dict[str, Any] = {"site": site.name, "units": k}
        offer = offer_of(run, site, batch, self.option.halvings, alpha=alpha, omega=omega, details=details)
        plan.flops += offer.flops
        if offer.proposal is not None:
            return offer.proposal
        weight, consumer = site.producer.weight.detach(), site.consumer.weight.detach()
        incoming = torch.randn(k, *weight.shape[1:]).to(weight) * weight[0].numel() ** -0.5
        read = consumer.new_zeros(len(consumer), k * site.columns_per_unit, *consumer.shape[2:])
        return WidthProposal(site, incoming, None, read, details=details)

    def conclude(self, run: Run) -> dict[str, Any]:
        """TrainingFailed if the run ended before the schedule did: it is then no replay."""
        if self.closed(run) == "":
            left, all_of_them = len(self.option.events) - self.done, len(self.option.events)
            raise TrainingFailed(f"the run ended before {left} of the schedule's {all_of_them} growth events had come")
        return {}

    def settle(self, run: Run, new: list[nn.Parameter], flops_per_sample: int) -> list[dict[str, Any]]:
        phases = super().settle(run, new, flops_per_sample)
        if self._deepened and self.option.warmup_steps:
            phases += warm_up(run, new, flops_per_sample, steps=self.option.warmup_steps, rate=self.option.warmup_rate)
        return phases

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.done = state["done"]


def _named(sites: list[Any], entry: dict[str, Any]) -> Any:
    for site in sites:
        if site.name == entry["site"]:
            return site
    raise TrainingFailed(
        f"the schedule adds at {entry['site']!r}, and the net has only {', '.join(s.name for s in sites) or 'no site'}: "
        "it must begin with the sizes that the run began with whose schedule it is"
    )


@option("method", "replay")
@dataclass
class ReplayOption(SearchedOption, DepthOption):
    """Made by `grow controls`; use it with `trigger=at`."""

    events: list[list[dict[str, Any]]] = field(default_factory=list)
    """For each event what it adds, in order: kind (`width` or `depth`), site, units."""
    warmup_steps: int = 0
    warmup_rate: float = 0.1

    measures_gain = False
    heeds_until = False  # the other run heeded it

    def __post_init__(self) -> None:
        SearchedOption.__post_init__(self)
        DepthOption.__post_init__(self)
        check(
            all(
                e.get("kind") in ("width", "depth") and {"site", "units"} <= set(e)
                for added in self.events
                for e in added
            ),
            "method.events: each entry needs kind (width or depth), site and units",
        )

    def check_run(self, config: Config) -> list[str]:
        return [] if self.events else ["nothing will grow: method.events is empty (`grow controls RUN` fills it)"]

    def build(self, model: GrowableModel) -> Method:
        return Replay(self)
