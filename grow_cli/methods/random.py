"""Fresh initialization: additions start at random. The comparator of Alether (a new block) and of TINY (new neurons).

Depth grows where the model has a residual stream, width elsewhere, unless `method.grow` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.keys import key
from grow_cli.methods.base import Method
from grow_cli.methods.depth import Blocks, DepthMethod, NewBlock, Start, fresh
from grow_cli.methods.width import SearchedMethod, random_directions
from grow_cli.registry import option

if TYPE_CHECKING:
    from torch import Tensor

    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import WidthSite
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Notes


@dataclass
class RandomBlock(DepthMethod):
    """W_new as at the start of training."""

    needs_source = False

    def starts(self, now: Moment, notes: Notes, new: list[NewBlock]) -> list[Start]:
        return fresh(new)


@dataclass
class RandomUnits(SearchedMethod):
    """Gaussian fan-in and fan-out, turned downhill and at the amplitude that lowers the loss most, like TINY's."""

    def directions(self, now: Moment, site: WidthSite, units: int) -> tuple[Tensor, Tensor]:
        return random_directions(site, units)


@option("method", "random")
@dataclass
class Random(SearchedMethod, Blocks):
    """Becomes width or depth growth; the keys of the other are not read."""

    on_several_ranks = True

    grow: str = key("auto", one_of=("auto", "depth", "width"))
    """`depth`, `width`, or `auto`: depth where the model's layers are blocks of a residual stream, else width."""

    def _chosen(self, model: GrowableModel) -> Method:
        residual = any(site.residual for site in model.depth_sites())
        deepens = self.grow == "depth" or (self.grow == "auto" and residual)
        return self.as_(RandomBlock if deepens else RandomUnits)

    def check(self, model: GrowableModel) -> list[str]:
        return self._chosen(model).check(model)

    def build(self, model: GrowableModel) -> Method:
        return self._chosen(model).build(model)
