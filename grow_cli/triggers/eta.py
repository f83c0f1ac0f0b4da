"""The natural expansion score as a trigger (SENN, section 3.4), for any method.

At every evaluation the method is asked what it would add now, and that is scored: grow when the best proposal raises the
score of its layer by a fraction above tau - 1, and by more than alpha of what the whole net's outputs ask for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError, check
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, TriggerOption, Verdict

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.training.state import Run


class Eta(Trigger):
    """Fires when Δη'/η_c > tau - 1 and Δη' > alpha hold for one of the method's proposals."""

    readings = ("eta_ratio", "eta_gain", "eta_score")

    def __init__(self, option: EtaOption) -> None:
        super().__init__()
        self.option = option
        self.thresholds = {"eta_ratio": option.tau - 1, "eta_gain": option.alpha}
        self._asked = 0

    def update(self, run: Run) -> Verdict:
        option = self.option
        due = self._asked % option.every == 0
        self._asked += 1
        # nothing that cannot be added needs a score, which may cost as much as growing
        scored = run.scored(option.samples) if due and not run.closed else []
        qualified = [s for s in scored if s.qualifies(option.tau, option.alpha)]
        best = max(qualified or scored, key=lambda s: s.gain, default=None)
        if best is None:
            return Verdict(False, dict.fromkeys(self.readings, math.nan))
        readings = {"eta_ratio": best.ratio, "eta_gain": best.gain, "eta_score": best.score}
        return Verdict(bool(qualified), readings)

    def state_dict(self) -> dict[str, Any]:
        return {"asked": self._asked}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._asked = state["asked"]


@option("trigger", "eta")
@dataclass
class EtaOption(TriggerOption):
    """Section 3.4 of the paper."""

    tau: float = 1.03
    """Expansion threshold."""
    alpha: float = 0.0025
    """Stopping criterion, as a fraction of λ = E‖∂L/∂outputs‖²."""
    every: int = 1
    """Ask at every so many evaluations."""
    samples: int = 1024
    """Fresh training samples on which proposals are scored; a method may have scored its own already."""

    def __post_init__(self) -> None:
        check(self.tau > 1, f"trigger.tau={self.tau:g}: must be above 1, or growth might never end (Theorem 1)")
        check(self.alpha >= 0, f"trigger.alpha={self.alpha:g}: must be 0 or more")
        check(self.every >= 1, f"trigger.every={self.every}: must be 1 evaluation or more")
        check(self.samples >= 2, f"trigger.samples={self.samples}: must be 2 or more")

    def check_run(self, config: Config) -> list[str]:
        method = config.method
        if method.no_score:
            raise UserError(
                f"trigger=eta would never fire with method={method.name}: {method.no_score}; use trigger=every"
            )
        return []

    def build(self) -> Trigger:
        return Eta(self)
