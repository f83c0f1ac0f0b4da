"""Alether's stagnation criterion (Def. 19-20): the frontier's trajectory is long and crooked, persistently.

tau is the path's length over the distance covered (Def. 5), kappa the sideways over the forward movement (Def. 7), both
over the window of snapshots. A straight path has tau = 1; a driftless random walk of S snapshots has tau ≈ √(S-1), so
minibatch noise alone exceeds the paper's thresholds. Two remedies: `scale=diffusion` divides tau by √(S-1) and kappa by
√(S-2), what a random walk has, and `trajectory.smoothing` takes the snapshots of a moving average of the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from grow_cli.errors import check
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, TriggerOption, Verdict

if TYPE_CHECKING:
    from grow_cli.training.state import Run


class TauKappa(Trigger):
    """Fires when tau ≥ tau_crit and kappa ≥ kappa_crit at `patience` evaluations in a row, the window full."""

    readings = ("tau", "kappa", "rho", "stagnant_evaluations")

    def __init__(self, tau_crit: float, kappa_crit: float, patience: int, scale: str) -> None:
        super().__init__()
        self.tau_crit, self.kappa_crit, self.patience, self.scale = tau_crit, kappa_crit, patience, scale
        self.thresholds = {"stagnant_evaluations": patience}
        if scale == "absolute":  # on the other scale they depend on the window
            self.thresholds |= {"tau": tau_crit, "kappa": kappa_crit}
        self._stagnant = 0

    def update(self, run: Run) -> Verdict:
        history = run.history
        if history is None or len(history) < 3:
            nothing = dict.fromkeys(self.readings, math.nan)
            return Verdict(False, nothing | {"stagnant_evaluations": self._stagnant})
        metrics = history.metrics()
        unit_tau = unit_kappa = 1.0
        if self.scale == "diffusion":
            unit_tau, unit_kappa = math.sqrt(len(history) - 1), math.sqrt(len(history) - 2)
            self.thresholds |= {"tau": self.tau_crit * unit_tau, "kappa": self.kappa_crit * unit_kappa}
        stagnant = (
            history.full and metrics.tau >= self.tau_crit * unit_tau and metrics.kappa >= self.kappa_crit * unit_kappa
        )
        self._stagnant = self._stagnant + 1 if stagnant else 0
        readings = {"tau": metrics.tau, "kappa": metrics.kappa, "rho": metrics.rho}
        return Verdict(self._stagnant >= self.patience, readings | {"stagnant_evaluations": self._stagnant})

    def reset(self, run: Run) -> None:
        self._stagnant = 0

    def state_dict(self) -> dict[str, Any]:
        return {"stagnant": self._stagnant}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._stagnant = state["stagnant"]


@option("trigger", "tau_kappa")
@dataclass
class TauKappaOption(TriggerOption):
    """Table 1 of the paper."""

    tau_crit: float = 2.0
    kappa_crit: float = 0.5
    patience: int = 5
    """Evaluations in a row."""
    scale: str = "absolute"
    """`absolute` (the paper's) or `diffusion` (1 is what a random walk has)."""

    needs_trajectory: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self.tau_crit >= 0, f"trigger.tau_crit={self.tau_crit}: must be 0 or more")
        check(self.kappa_crit >= 0, f"trigger.kappa_crit={self.kappa_crit}: must be 0 or more")
        check(self.patience >= 1, f"trigger.patience={self.patience}: must be 1 evaluation or more")
        check(
            self.scale in ("absolute", "diffusion"),
            f"trigger.scale={self.scale}: must be absolute or diffusion",
        )

    def build(self) -> Trigger:
        return TauKappa(self.tau_crit, self.kappa_crit, self.patience, self.scale)
