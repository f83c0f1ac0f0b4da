"""Fresh initialization: what is added starts at random. The comparator of Alether (a new block) and of TINY (new neurons).

Depth grows where the model has a residual stream, width elsewhere, unless `method.grow` says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.errors import check
from grow_cli.methods.base import Method, Plan
from grow_cli.methods.depth import DepthMethod, DepthOption
from grow_cli.methods.width import NO_ROOM, Offer, SearchedOption, WidthMethod, room
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import WidthSite
    from grow_cli.training.state import Run


class RandomBlock(DepthMethod):
    """W_new as at the start of training."""

    def propose(self, run: Run) -> Plan:
        from grow_cli.surgery.proposal import DepthProposal

        site = self._site(run.model)
        return Plan([DepthProposal(site, site.make_block().state_dict())])


class RandomUnits(WidthMethod):
    """Gaussian fan-in and fan-out, turned downhill and at the amplitude that lowers the loss most, like TINY's."""

    option: RandomOption

    def offers(self, run: Run, sites: list[WidthSite]) -> Iterator[Offer]:
        import torch

        from grow_cli.methods.widening.searching import offer_of, search_batch
        from grow_cli.surgery.patches import SitePatches

        batch = search_batch(run, self.option.search_samples)
        for site in sites:
            patches = SitePatches(site)
            k = room(run, site)
            if k == 0:
                yield Offer(site, reason=NO_ROOM)
                continue
            alpha, omega = torch.randn(k, patches.fan_in), torch.randn(patches.fan_out, k)
            details = {"site": site.name, "units": k}
            yield offer_of(run, site, batch, self.option.halvings, alpha=alpha, omega=omega, details=details)


@option("method", "random")
@dataclass
class RandomOption(SearchedOption, DepthOption):
    """The keys of both; those of the other are not read."""

    grow: str = "auto"
    """`depth`, `width`, or `auto`: depth where the model's layers are blocks of a residual stream, else width."""

    def __post_init__(self) -> None:
        SearchedOption.__post_init__(self)
        DepthOption.__post_init__(self)
        check(self.grow in ("auto", "depth", "width"), f"method.grow={self.grow}: must be auto, depth or width")

    def _deepens(self, residual: bool) -> bool:
        return self.grow == "depth" or (self.grow == "auto" and residual)

    def check_run(self, config: Config) -> list[str]:
        kind = DepthOption if self._deepens(config.model.residual) else SearchedOption
        return kind.check_run(self, config)

    def build(self, model: GrowableModel) -> Method:
        if self._deepens(model.option.residual):
            return RandomBlock(self._frontier(model), self.warmup_steps, self.warmup_rate)
        return RandomUnits(self)
