"""Depth growth by Alether's protocol (Algorithm 2), shared by `alether`, `copy` and `random`.

A new block goes directly before the frontier block of the residual stack and becomes the frontier. It is warmed up
alone at a reduced rate while everything else is frozen, then all train on, the learning rate restarted. The methods
differ in the new block's weights only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.methods.base import Method, Settling, WarmUp

if TYPE_CHECKING:
    from torch import nn

    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import DepthSite
    from grow_cli.moment import Moment


@dataclass
class Protocol(Method):
    """The keys of the protocol."""

    warmup_steps: int = key(500, at_least=0)
    """N_warmup: steps of the new block alone."""
    warmup_rate: float = key(0.1, above=0)
    """Its learning rate, as a fraction of the base rate."""

    def warm_up(self) -> WarmUp:
        """Phases 1, 3 and 4 of Algorithm 2."""
        return WarmUp(self.warmup_steps, self.warmup_rate)


@dataclass
class DepthMethod(Protocol):
    """Inserts one block a time, always at the same place of the stack. A method says in `candidates` which."""

    kind = "depth"

    @dataclass
    class State:
        frontier: int = 0
        """Its place in the stack. The last block at first: Algorithm 2 leaves it open."""

    def build(self, model: GrowableModel) -> Method:
        method = self.begin()
        method.state.frontier = max(s.index for s in model.depth_sites() if s.residual and s.index < len(s.stack))
        return method

    def check(self, model: GrowableModel) -> list[str]:
        residual = [site for site in model.depth_sites() if site.residual]
        if not residual:
            raise UserError(
                f"method={self.name} cannot grow model={model.name}: its hidden layers are no blocks of a residual stream, so "
                "that none can be made of another; use model=residual_mlp, or residual_cnn or vit on images"
            )
        if not any(site.index < len(site.stack) for site in residual):
            raise UserError(
                f"method={self.name} needs a block to grow from: give model={model.name} at least one block"
            )
        return []

    def frontier(self, model: GrowableModel) -> nn.Module:
        return self.site(model).stack[self.state.frontier]

    def site(self, model: GrowableModel) -> DepthSite:
        """Before the frontier, in place of which the new block becomes the frontier."""
        return next(s for s in model.depth_sites() if s.residual and s.index == self.state.frontier)

    def settle(self, now: Moment, flops_per_sample: int) -> Settling:
        return Settling(warm_up=self.warm_up())
