"""Width growth: what `tiny`, `gradmax`, `random` and `net2net` share, so that they differ in the new units' weights only.

An event visits the net's width sites in order, each seeing what was added before it (TINY, Algorithm 3), or adds at the
best of them only (TINY, E.3).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from grow_cli.errors import UserError, check
from grow_cli.methods.base import Method, MethodOption, Plan

if TYPE_CHECKING:
    from torch import nn

    from grow_cli.config import Config
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import WidthSite
    from grow_cli.surgery.proposal import WidthProposal
    from grow_cli.training.state import Run


# the budget of units or parameters is used up
NO_ROOM = "its growth.max_units, or the net's growth.max_parameters or max_total_units, leave no room"


@dataclass
class Offer:
    """What a method would do at one site."""

    site: WidthSite
    proposal: WidthProposal | None = None
    reason: str = ""
    """Why no unit would be added."""
    gain: float = 0.0
    """How much it is worth there; what `where=best` compares."""
    details: dict[str, Any] = field(default_factory=dict)
    """For the growth log: of the proposal, or of the search that ended without one."""
    flops: int = 0


def limits(run: Run) -> list[int] | None:
    """The width at which each site of the present net stops growing; None where there is no limit."""
    given, sites = run.config.growth.max_units, run.model.width_sites()
    if given is None or len(given) == len(sites):
        return given
    if len(given) == 1:
        return given * len(sites)
    names = ", ".join(f"{site.name} ({site.units} now)" for site in sites)
    raise UserError(
        f"growth.max_units={given} has {len(given)} numbers and the model {len(sites)} places to grow: "
        f"give one number for all, or one for each of {names}"
    )


def units_left(run: Run) -> int:
    """Hidden units that the whole net may still get."""
    limit = run.config.growth.max_total_units
    return sys.maxsize if limit is None else max(0, limit - sum(run.model.widths()))


def room(run: Run, site: WidthSite) -> int:
    """The most units to add there in one event; 0 where the budget of units or parameters is used up."""
    growth, producer, consumer = run.config.growth, site.producer, site.consumer.weight
    fan_in = producer.weight[0].numel() + (producer.bias is not None)
    most = min(fan_in, consumer.shape[0]) if growth.neurons is None else growth.neurons
    if growth.max_parameters is not None:
        followers = sum(len(list(f.parameters())) for f in site.followers)
        each = fan_in + consumer[:, 0].numel() * site.columns_per_unit + followers
        left = growth.max_parameters - sum(p.numel() for p in run.model.parameters() if p.requires_grad)
        most = min(most, max(0, left) // each)
    most = min(most, units_left(run))
    widths = limits(run)
    if widths is not None:
        index = [s.name for s in run.model.width_sites()].index(site.name)
        most = min(most, max(0, widths[index] - site.units))
    return most


def no_room(run: Run) -> str:
    """Why no site can grow, where none can."""
    growth = run.config.growth
    return (
        f"no hidden layer can get another unit (growth.max_units={growth.max_units}, "
        f"growth.max_parameters={growth.max_parameters}, growth.max_total_units={growth.max_total_units})"
    )


def check_widening(model: GrowableModel, method: str) -> None:
    """UserError if there is nothing to widen, or units there cannot be followed to what reads them."""
    from grow_cli.surgery.patches import SitePatches

    sites = model.width_sites()
    if not sites:
        why = model.no_width or "it has no hidden layer: give it one, with a single unit perhaps"
        raise UserError(f"method={method} cannot widen model={model.option.name}: {why}")
    for site in sites:
        SitePatches(site)  # refuses what cannot be followed


class WidthMethod(Method):
    """Adds units at width sites."""

    kind = "width"

    def __init__(self, option: WidthOption) -> None:
        self.option = option
        self.first_complexity: int | None = None
        """Forward FLOPs of a sample before the first event."""

    def offers(self, run: Run, sites: list[WidthSite]) -> Iterator[Offer]:
        """What to do at each of these sites of the present net, each as if it were the only one."""
        raise NotImplementedError

    def check(self, model: GrowableModel) -> None:
        check_widening(model, self.option.name)

    def closed(self, run: Run) -> str:
        return "" if self._open(run) else no_room(run)

    def candidates(self, run: Run) -> Plan:
        plan, sites = Plan(), self._open(run)
        found = list(self.offers(run, sites)) if sites else []
        plan.proposals = [offer.proposal for offer in found if offer.proposal is not None]
        plan.flops = sum(offer.flops for offer in found)
        return plan

    def propose(self, run: Run) -> Plan:
        from grow_cli.surgery.flops import flops_per_sample

        if self.first_complexity is None:
            self.first_complexity = flops_per_sample(run.model, run.data.spec.input_shape)
        plan = Plan()
        plan.proposals = self._at_the_best(run, plan) if self.option.where == "best" else self._at_all(run, plan)
        return plan

    def _open(self, run: Run) -> list[WidthSite]:
        """The sites of the present net that may still grow; without gradient steps all, for their best updates."""
        return [s for s in run.model.width_sites() if room(run, s) or not self.trains_by_gradient]

    def _at_all(self, run: Run, plan: Plan) -> Iterator[WidthProposal]:
        for name in [site.name for site in self._open(run)]:
            run.stop_if_interrupted()
            site = next(s for s in run.model.width_sites() if s.name == name)  # of the net as it is by now
            for offer in self.offers(run, [site]):
                yield from self._taken(offer, plan)
        self._conclude(run, plan)

    def _at_the_best(self, run: Run, plan: Plan) -> Iterator[WidthProposal]:
        sites = self._open(run)
        offers = []
        for offer in self.offers(run, sites) if sites else ():
            run.stop_if_interrupted()
            offers.append(offer)
        # new units where there are some; else the best update that gains most
        offers.sort(key=lambda o: (o.proposal is None, o.proposal is None or not o.proposal.units, -o.gain))
        gains = {offer.site.name: offer.gain for offer in offers if offer.proposal is not None}
        for i, offer in enumerate(offers):
            yield from self._taken(offer, plan, add=i == 0)
        plan.details["gains"] = gains
        self._conclude(run, plan)

    def _taken(self, offer: Offer, plan: Plan, *, add: bool = True) -> Iterator[WidthProposal]:
        plan.flops += offer.flops
        if add and offer.proposal is not None:
            yield offer.proposal
        if offer.reason:
            details = {} if add and offer.proposal is not None else offer.details  # the proposal's are logged anyway
            entry = {"site": offer.site.name, **details, "reason": offer.reason}
            plan.details.setdefault("nothing_added", []).append(entry)

    def _conclude(self, run: Run, plan: Plan) -> None:
        reasons = [f"{entry['site']}: {entry['reason']}" for entry in plan.details.get("nothing_added", [])]
        plan.reason = "; ".join(reasons) or self.closed(run)

    def settle(self, run: Run, new: list[nn.Parameter], flops_per_sample: int) -> list[dict[str, Any]]:
        """The batch grows with the root of the net's complexity (D.2), where asked for."""
        if not self.option.batch_growth:
            return []
        assert self.first_complexity is not None
        before = run.batches.batch_size
        size = round(run.config.batch_size * (flops_per_sample / self.first_complexity) ** 0.5)
        run.batches.set_batch_size(max(1, size))
        return [{"phase": "batch", "seconds": 0.0, "batch_size": run.batches.batch_size, "batch_size_before": before}]

    def state_dict(self) -> dict[str, Any]:
        return {"complexity": self.first_complexity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first_complexity = state["complexity"]


@dataclass
class WidthOption(MethodOption):
    """Base of the width methods' schemas."""

    where: str = "all"
    """`all`: at every site, one after the other (Algorithm 3); `best`: where it is worth most (E.3)."""
    batch_growth: bool = False
    """Multiply the training batch by the root of the growth in complexity (D.2)."""

    measures_gain: ClassVar[bool] = True
    """Whether sites can be compared."""

    def __post_init__(self) -> None:
        check(self.where in ("all", "best"), f"method.where={self.where}: must be all or best")

    def check_run(self, config: Config) -> list[str]:
        if self.where == "best" and not self.measures_gain:
            raise UserError(f"method={self.name} has no measure of what a site is worth: use method.where=all")
        return []


@dataclass
class SampledOption(WidthOption):
    """Base of the schemas of methods that look at samples."""

    samples: int | None = None
    """Of the statistics; null: as many as keep their variance where it is, side² / positions (TINY, D.1), or 1,000."""
    max_samples: int = 10000
    """No more than so many, whatever D.1 asks for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.samples is None or self.samples >= 2,
            f"method.samples={self.samples}: must be 2 or more, or null for what the net's size asks for",
        )
        check(self.max_samples >= 2, f"method.max_samples={self.max_samples}: must be 2 or more")


@dataclass
class SearchedOption(WidthOption):
    """Base of the schemas of methods that search for an amplitude."""

    search_samples: int | None = None
    """Minibatch on which amplitudes are judged (TINY, Algorithm 2); null: 500, or 256 for large layers of images."""
    halvings: int = 12
    """Amplitudes are tried from ε = 1 down to 2^-halvings; 0 is tried, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.search_samples is None or self.search_samples >= 1,
            f"method.search_samples={self.search_samples}: must be 1 or more, or null for as many as it takes",
        )
        check(0 <= self.halvings <= 40, f"method.halvings={self.halvings}: must be from 0 to 40")
