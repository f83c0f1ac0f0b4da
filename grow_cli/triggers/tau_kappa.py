"""Alether's stagnation criterion (Def. 19-20): the frontier's trajectory is long and crooked, persistently.

tau is the path's length over the distance covered (Def. 5), kappa the sideways over the forward movement (Def. 7), both
over the window of snapshots. A straight path has tau = 1; a driftless random walk of S snapshots has tau ≈ √(S-1), so
minibatch noise alone exceeds the paper's thresholds. Two remedies: `scale=diffusion` divides tau by √(S-1) and kappa by
√(S-2), what a random walk has, and `trajectory.smoothing` takes the snapshots of a moving average of the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.keys import key
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, Verdict

if TYPE_CHECKING:
    from grow_cli.moment import Moment


@option("trigger", "tau_kappa")
@dataclass
class TauKappa(Trigger):
    """Fires when tau ≥ tau_crit and kappa ≥ kappa_crit at `patience` evaluations in a row, the window full (Table 1)."""

    tau_crit: float = key(2.0, at_least=0)
    kappa_crit: float = key(0.5, at_least=0)
    patience: int = key(5, at_least=1, unit="evaluation")
    """Evaluations in a row."""
    scale: str = key("absolute", one_of=("absolute", "diffusion"))
    """`absolute` (the paper's) or `diffusion` (1 is what a random walk has)."""

    @dataclass
    class State:
        stagnant: int = 0

    @property
    def needs_trajectory(self) -> bool:
        return True

    @property
    def readings(self) -> tuple[str, ...]:
        return ("tau", "kappa", "rho", "stagnant_evaluations")

    def thresholds(self, now: Moment) -> dict[str, float]:
        limits = self._limits(now)
        counted: dict[str, float] = {"stagnant_evaluations": self.patience}
        return counted if limits is None else counted | dict(zip(("tau", "kappa"), limits, strict=True))

    def _limits(self, now: Moment) -> tuple[float, float] | None:
        """Of tau and kappa; None where they depend on a window that is not there yet."""
        if self.scale == "absolute":
            return self.tau_crit, self.kappa_crit
        if now.history is None or len(now.history) < 3:
            return None
        walk = now.history.walk_metrics(now.config.trajectory.every)
        return self.tau_crit * walk.tau, self.kappa_crit * walk.kappa

    def update(self, now: Moment) -> Verdict:
        history, limits = now.history, self._limits(now)
        if history is None or limits is None or len(history) < 3:
            nothing = dict.fromkeys(self.readings, math.nan)
            return Verdict(False, nothing | {"stagnant_evaluations": self.state.stagnant})
        metrics = history.metrics()
        stagnant = history.full and metrics.tau >= limits[0] and metrics.kappa >= limits[1]
        self.state.stagnant = self.state.stagnant + 1 if stagnant else 0
        readings = {"tau": metrics.tau, "kappa": metrics.kappa, "rho": metrics.rho}
        return Verdict(self.state.stagnant >= self.patience, readings | {"stagnant_evaluations": self.state.stagnant})
