"""Alether's stagnation criterion (Def. 19-20): the frontier's trajectory stays long and crooked.

tau is the path's length over the distance covered (Def. 5), kappa the sideways over the forward movement (Def. 7), both
over the window of snapshots. A straight path has tau = 1, and a driftless random walk tau = √(S-1). That is 2 for Table 1's
S = 5, its threshold; Definition 19's S = 20 gives 4.36, so that there minibatch noise alone exceeds it. Hence
`scale=diffusion`: tau and kappa in units of a random walk that is sampled and smoothed alike, with a threshold of 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.keys import key
from grow_cli.registry import option
from grow_cli.triggers.base import TrajectoryTrigger, Verdict

if TYPE_CHECKING:
    from grow_cli.config import Trajectory
    from grow_cli.moment import Moment

# scale → tau_crit and kappa_crit where they are null
_TABLE_1 = {"absolute": (2.0, 0.5), "diffusion": (1.0, 1.0)}


@option("trigger", "tau_kappa")
@dataclass
class TauKappa(TrajectoryTrigger):
    """Fires when tau ≥ tau_crit and kappa ≥ kappa_crit at `patience` readings in a row, the window full (Table 1)."""

    tau_crit: float | None = key(None, at_least=0, null="for 2 (Table 1), or 1 with scale=diffusion")
    """null: 2 (Table 1), or 1 with scale=diffusion."""
    kappa_crit: float | None = key(None, at_least=0, null="for 0.5 (Table 1), or 1 with scale=diffusion")
    """null: 0.5 (Table 1), or 1 with scale=diffusion."""
    patience: int = key(5, at_least=1, unit="evaluation")
    """Evaluations in a row above both thresholds; an evaluation without a new snapshot is not counted."""
    scale: str = key("absolute", one_of=("absolute", "diffusion"))
    """`absolute` (as in the paper), or `diffusion`: in units of a random walk, which has 1."""

    readings = ("tau", "kappa", "rho", "stagnant_evaluations")

    @property
    def crit(self) -> tuple[float, float]:
        """tau_crit and kappa_crit in units of `scale`, the nulls resolved."""
        tau, kappa = _TABLE_1[self.scale]
        return (
            tau if self.tau_crit is None else self.tau_crit,
            kappa if self.kappa_crit is None else self.kappa_crit,
        )

    def thresholds(self, now: Moment) -> dict[str, float]:
        limits = self._limits(now)
        counted: dict[str, float] = {"stagnant_evaluations": self.patience}
        return counted if limits is None else counted | dict(zip(("tau", "kappa"), limits, strict=True))

    def _limits(self, now: Moment) -> tuple[float, float] | None:
        """The thresholds of tau and kappa; None where they depend on a window that is not there yet."""
        tau, kappa = self.crit
        if self.scale == "absolute":
            return tau, kappa
        if now.history is None or len(now.history) < 3:
            return None
        walk = now.history.walk_metrics(now.config.trajectory.every)
        return tau * walk.tau, kappa * walk.kappa

    def check_start(self, now: Moment) -> list[str]:
        trajectory = now.config.trajectory
        evaluation = now.config.evaluate.steps(now.steps_per_epoch)
        needed = self.filled(now) + (self.patience - 1) * max(evaluation, trajectory.every)
        return self.too_long(now, self.patience, needed) + self._out_of_reach(trajectory)

    def _out_of_reach(self, trajectory: Trajectory) -> list[str]:
        """Where absolute thresholds lie clearly above what a random walk has, as with smoothing."""
        from grow_cli.theory.history import first_full
        from grow_cli.theory.walk import walk_metrics

        long_after = math.ceil(20 / (1 - trajectory.smoothing))
        snapshots = first_full(trajectory.window, trajectory.sampling)
        walk = walk_metrics([long_after + trajectory.every * one for one in snapshots], trajectory.smoothing)
        if self.scale == "diffusion" or walk.tau >= 0.9 * self.crit[0]:
            return []
        return [
            f"with trajectory.window={trajectory.window} and trajectory.smoothing={trajectory.smoothing:g} a random walk has "
            f"tau={walk.tau:.2f}, so weights reach trigger.tau_crit={self.crit[0]:g} by going back and forth: use "
            "trigger.scale=diffusion, which counts in units of a random walk"
        ]

    def update(self, now: Moment) -> Verdict:
        history, limits, state = now.history, self._limits(now), self.state
        if history is None or limits is None or len(history) < 3:
            nothing = dict.fromkeys(self.readings, math.nan)
            return Verdict(False, nothing | {"stagnant_evaluations": state.stagnant})
        metrics = history.metrics()
        stagnant = history.full and metrics.tau >= limits[0] and metrics.kappa >= limits[1]
        if history.steps[-1] != state.newest:
            state.stagnant, state.newest = state.stagnant + 1 if stagnant else 0, history.steps[-1]
        readings = {"tau": metrics.tau, "kappa": metrics.kappa, "rho": metrics.rho}
        return Verdict(state.stagnant >= self.patience, readings | {"stagnant_evaluations": state.stagnant})
