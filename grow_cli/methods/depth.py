"""Depth growth by Alether's protocol (Algorithm 2), shared by `alether`, `copy` and `random`.

A new block goes directly before the frontier block of the residual stack and becomes the frontier. It is warmed up
alone at a reduced rate while everything else is frozen, then all train on, the learning rate restarted. The methods
differ in the new block's weights only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError, check
from grow_cli.methods.base import Method, MethodOption, Plan

if TYPE_CHECKING:
    from torch import nn

    from grow_cli.config import Config
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import DepthSite
    from grow_cli.training.state import Run


class DepthMethod(Method):
    """Inserts one block a time, always at the same place of the stack."""

    kind = "depth"

    def __init__(self, frontier: int, warmup_steps: int, warmup_rate: float) -> None:
        self.frontier_index, self.warmup_steps, self.warmup_rate = frontier, warmup_steps, warmup_rate

    def frontier(self, model: GrowableModel) -> nn.Module:
        return self._site(model).stack[self.frontier_index]

    def _site(self, model: GrowableModel) -> DepthSite:
        return next(s for s in model.depth_sites() if s.residual and s.index == self.frontier_index)

    def state_dict(self) -> dict[str, Any]:
        return {"frontier": self.frontier_index}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.frontier_index = state["frontier"]

    def propose(self, run: Run) -> Plan:
        """One block before the frontier, in place of which it becomes the frontier."""
        raise NotImplementedError

    def settle(self, run: Run, new: list[nn.Parameter], flops_per_sample: int) -> list[dict[str, Any]]:
        return warm_up(run, new, flops_per_sample, steps=self.warmup_steps, rate=self.warmup_rate)


def warm_up(
    run: Run, new: list[nn.Parameter], flops_per_sample: int, *, steps: int, rate: float
) -> list[dict[str, Any]]:
    """Phases 1, 3 and 4 of Algorithm 2; the data come from the growth stream, so the run's order does not move."""
    from grow_cli.training.warmup import warm_up_alone

    begun = time.perf_counter()
    first, last, passes = warm_up_alone(run, new, steps=steps, rate=rate)
    frozen = sum(p.numel() for p in run.model.parameters()) - sum(p.numel() for p in new)
    return [
        {"phase": "freeze", "parameters": frozen},
        {
            "phase": "warmup",
            "steps": steps,
            "rate": rate,
            "seconds": time.perf_counter() - begun,
            "flops": passes * flops_per_sample * run.batches.batch_size,
            "loss_first": first,
            "loss_last": last,
        },
        {"phase": "resume", "schedule_restarts": run.config.schedule.restart},
    ]


@dataclass
class DepthOption(MethodOption):
    """Base of the depth methods' schemas."""

    warmup_steps: int = 500
    """N_warmup: steps of the new block alone."""
    warmup_rate: float = 0.1
    """Its learning rate, as a fraction of the base rate."""

    def __post_init__(self) -> None:
        check(self.warmup_steps >= 0, f"method.warmup_steps={self.warmup_steps}: must be 0 or more")
        check(self.warmup_rate > 0, f"method.warmup_rate={self.warmup_rate}: must be above 0")

    def check_run(self, config: Config) -> list[str]:
        if not config.model.residual:
            raise UserError(
                f"method={self.name} cannot grow model={config.model.name}: its hidden layers are no blocks of a "
                "residual stream, so that none can be made of another; use model=residual_mlp, or residual_cnn or vit on images"
            )
        if config.model.initial_blocks() < 1:
            raise UserError(
                f"method={self.name} needs a block to grow from: give model={config.model.name} at least one block"
            )
        return super().check_run(config)

    def _frontier(self, model: GrowableModel) -> int:
        """The last block: Algorithm 2 leaves the first frontier open."""
        return max(s.index for s in model.depth_sites() if s.residual and s.index < len(s.stack))
