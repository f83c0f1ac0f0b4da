"""A depth method: a new block between the frontier and a fresh one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grow_cli.keys import key
from grow_cli.methods.depth import DepthMethod
from grow_cli.registry import option


@option("method", "blend")
@dataclass
class Blend(DepthMethod):
    """W_new = share · W_front + (1 − share) · W_fresh."""

    share: float = key(0.5, at_least=0, at_most=1)

    def candidates(self, now: Any, notes: Any) -> Any:
        from grow_cli.surgery.proposal import DepthProposal

        site = self.site(now.model)
        fresh, front = site.make_block().state_dict(), self.frontier(now.model).state_dict()
        state = {name: fresh[name].lerp(t.cpu(), self.share) for name, t in front.items() if t.is_floating_point()}
        return [DepthProposal(site, state)]
