"""Layer copying: the new block starts with the frontier's weights (Alether's comparator)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.methods.depth import DepthMethod
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Notes
    from grow_cli.surgery.proposal import Proposal


@option("method", "copy")
@dataclass
class Copy(DepthMethod):
    """W_new = W_front."""

    no_score = "a copied block says what its neighbour says, and has the score 0"

    def candidates(self, now: Moment, notes: Notes) -> list[Proposal]:
        from grow_cli.surgery.proposal import DepthProposal

        state = {name: t.clone() for name, t in self.frontier(now.model).state_dict().items()}
        return [DepthProposal(self.site(now.model), state)]
