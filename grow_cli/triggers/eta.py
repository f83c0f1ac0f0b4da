"""The natural expansion score as a trigger (SENN, section 3.4), for any method.

At every evaluation the method proposes what it would add now, and the proposals are scored: grow when the best one
raises its layer's score by a fraction above tau - 1, and by more than alpha times λ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, Verdict

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.moment import Moment


@option("trigger", "eta")
@dataclass
class Eta(Trigger):
    """Fires when Δη'/η_c > tau - 1 and Δη' > alpha hold for one of the method's proposals."""

    tau: float = key(1.007, above=1, why="growth might never end otherwise (Theorem 1)")
    """Expansion threshold."""
    alpha: float = key(0.0025, at_least=0)
    """Stopping criterion, as a fraction of λ = E‖∂L/∂outputs‖²."""
    every: int = key(1, at_least=1, unit="evaluation")
    """Evaluations between two readings."""
    samples: int = key(1024, at_least=2)
    """New training samples on which proposals are scored, unless the method has already scored its own."""

    readings = ("eta_ratio", "eta_gain", "eta_score")

    @dataclass
    class State:
        asked: int = 0

    def thresholds(self, now: Moment) -> dict[str, float]:
        return {"eta_ratio": self.tau - 1, "eta_gain": self.alpha}

    def check_run(self, config: Config) -> list[str]:
        method = config.method
        if method.no_score:
            raise UserError(
                f"trigger=eta would never fire with method={method.name}: {method.no_score}: use trigger=every"
            )
        return []

    def check_start(self, now: Moment) -> list[str]:
        if any(site.residual and not len(site.stack) for site in now.model.depth_sites()):
            raise UserError(
                f"trigger=eta scores a new block by its neighbour's input, but model={now.config.model.name} has no block: "
                "give it one, or use trigger=at"
            )
        return []

    def update(self, now: Moment) -> Verdict:
        due = self.state.asked % self.every == 0
        self.state.asked += 1
        # nothing that cannot be added needs a score, which may cost as much as growing
        scored = now.scored(self.samples) if due and not now.closed else []
        qualified = [s for s in scored if s.qualifies(self.tau, self.alpha)]
        best = max(qualified or scored, key=lambda s: s.gain, default=None)
        if best is None:
            return Verdict(False, dict.fromkeys(self.readings, math.nan))
        return Verdict(bool(qualified), {"eta_ratio": best.ratio, "eta_gain": best.gain, "eta_score": best.score})

    def reset(self, now: Moment) -> None:
        """Evaluations are still counted."""
