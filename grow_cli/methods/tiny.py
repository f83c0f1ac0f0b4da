"""TINY: the neurons that relieve the expressivity bottleneck best (Verbockhaven, Rudkiewicz, Charpiat and Chevallier).

The backward pass gives the desired move of a layer's pre-activations. The part that no update of the existing weights
can produce is its expressivity bottleneck. The neurons that reach most of it solve a least-squares problem, and they
also lower the loss most at first order. They are added with the amplitude that lowers the loss most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.console import warn
from grow_cli.errors import UserError, check
from grow_cli.keys import key
from grow_cli.methods.width import SampledMethod, SearchedMethod, limits, room
from grow_cli.methods.width.offer import NO_ROOM, Offer
from grow_cli.records.words import counted, widths_text
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.methods.width.statistics import Statistics
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import WidthSite
    from grow_cli.moment import Moment

# Part of the units of growth.max_units below which a run says why it has so few.
_FAR_BELOW = 0.5


@option("method", "tiny")
@dataclass
class Tiny(SampledMethod, SearchedMethod):
    """Algorithm 3, or E.3 with `where=best`."""

    on_several_ranks = True

    significance: bool = False
    """Add only neurons above the largest eigenvalue that chance explains (D.3); few samples then give few neurons."""
    best_update: bool = True
    """Also move the consumer's existing weights by δW*, with its own best amplitude (Prop. 3.1, eq. 6)."""
    train_by_growth: bool = False
    """Take no gradient steps, only additions and best updates (D.4, last paragraph)."""
    rtol: float = key(1e-3, above=0, below=1)
    """Leave out directions of the inputs with less than this part of the largest second moment, because they are noise. What
    float32 rounds away (1.2e-7 of it) is left out anyway."""

    @dataclass
    class State(SampledMethod.State):
        judged: int = 0
        """Times that a site with room for more units was looked at."""
        insignificant: int = 0
        """Of these, how often fewer neurons were significant than there was room for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.best_update or not self.train_by_growth,
            "method.train_by_growth=true without best updates would never change the existing weights: set "
            "method.best_update=true",
        )

    @property
    def trains_by_gradient(self) -> bool:
        return not self.train_by_growth

    def check_run(self, config: Config) -> list[str]:
        warnings = super().check_run(config)
        if self.train_by_growth and config.growth.until < 1:
            warnings.append(
                f"with method.train_by_growth=true nothing is learned once growth has ended (growth.until="
                f"{config.growth.until:g}): set growth.until=1"
            )
        return warnings

    def check(self, model: GrowableModel) -> list[str]:
        return super().check(model) + check_linear_at_zero(model, self.name)

    @property
    def gathered(self) -> dict[str, Any]:
        return {"rtol": self.rtol, "significance": self.significance}

    def offers(self, now: Moment, sites: list[WidthSite]) -> Iterator[Offer]:
        """From δW*, S and N (Prop. 3.1, 3.2)."""
        from grow_cli.methods.width.searching import search_batch

        statistics = self.observed(now, sites)
        batch = search_batch(now, self.search_samples)
        for found in statistics:
            yield self._offer(now, found, batch)

    def _offer(self, now: Moment, found: Statistics, batch: Any) -> Offer:
        from grow_cli.methods.width.searching import offer_of
        from grow_cli.theory.bottleneck import new_neurons_of

        site = found.site
        assert found.whitening is not None
        neurons = new_neurons_of(found.whitening, found.cross)
        significant = int((neurons.eigenvalues > found.threshold).sum())  # D.3
        limit = room(now, site)
        count = min(significant, limit)
        details = {
            "site": site.name,
            "eigenvalues": neurons.eigenvalues.tolist(),
            "threshold": found.threshold,
            "significant": significant,
            "units": count,
            "bottleneck": found.bottleneck,
            "goal": found.goal,
            "samples": found.samples,
        }
        reason = ""
        if limit == 0:
            reason = NO_ROOM
        elif count == 0:
            reason = f"no eigenvalue is above the {found.threshold:.2g} that chance explains"
        if limit:
            self.state.judged += 1
            self.state.insignificant += significant < min(limit, len(neurons.eigenvalues))
        warn_of_few(found, self.max_samples)
        return offer_of(
            now,
            site,
            batch,
            self.halvings,
            alpha=neurons.alpha[:count],
            omega=neurons.omega[:, :count],
            update=found.update if self.best_update else None,
            details=details,
            reason=reason,
        )

    def conclude(self, now: Moment) -> dict[str, Any]:
        """What the significance test did to the net's size, where that is far below what was asked for."""
        asked, units = limits(now), now.model.widths()
        if (
            asked is None
            or sum(units) >= _FAR_BELOW * sum(asked)
            or not (self.significance and self.state.insignificant)
        ):
            return {}
        sentence = (
            f"the hidden layers ended with {widths_text(units)} units of growth.max_units={now.config.growth.max_units}: in "
            f"{self.state.insignificant} of {self.state.judged} tests of a layer the significance test (D.3) accepted fewer "
            "neurons than there was room for: raise method.samples, spread growth over a longer training, or set "
            "method.significance=false"
        )
        warn(sentence)
        return {"below_max_units": sentence}


def check_linear_at_zero(model: GrowableModel, name: str) -> list[str]:
    """New units are found at first order around zero: their activation must vanish there and have a slope."""
    from grow_cli.methods.width.activation import at_zero

    warnings = []
    for found in at_zero(model):
        if abs(found.value) > 1e-6:
            raise UserError(
                f"method={name} needs an activation that is 0 at 0, and {found.kind} at {found.where!r} is "
                f"{found.value:g} there: use model.activation=selu, tanh, elu or gelu"
            )
        slopes = sorted((abs(found.left), abs(found.right)))
        if slopes[0] < 0.1 * slopes[1]:
            warnings.append(
                f"{found.kind} has the slope {found.right:.3g} to the right of 0 and {found.left:.3g} to the left, so the "
                "first-order gain of new neurons holds on one side only; model.activation=selu has a nonzero slope on both"
            )
    return warnings


def warn_of_few(found: Statistics, most: int) -> None:
    """Fewer equations than unknowns."""
    side = found.patches.fan_in
    if found.reads < side:
        warn(
            f"the new neurons at {found.site.name!r} have {counted(side, 'weight')} each, are estimated from "
            f"{counted(found.reads, 'row')} ({counted(found.samples, 'sample')}) and will overfit: raise "
            f"method.max_samples={most:,}, or method.samples if you set it"
        )
