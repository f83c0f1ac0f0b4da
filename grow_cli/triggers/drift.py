"""Grow when the frontier's trajectory has no drift left: Alether's stagnation as a statistical test with a level.

Steps of equal length have tau = √((S-1)/VR) and kappa = √(tau²-1), so that the published criterion is a threshold on
one number, the variance ratio, and has no level: a random walk, whose VR is 1, meets it. Here stagnation must be shown.
The mean inner product of non-adjacent velocities estimates the squared drift; the frontier stagnates when the upper
bound of its interval is at most 0, so that weights which still drift, or merely diffuse, are called stagnant at most
`level` of the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.records.words import counted
from grow_cli.registry import option
from grow_cli.triggers.base import TrajectoryTrigger, Verdict

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.moment import Moment

_FEWEST = 6
"""Snapshots of the shortest window."""


@option("trigger", "drift")
@dataclass
class DriftTest(TrajectoryTrigger):
    """Fires when `patience` windows in a row, which do not overlap, show that the frontier's weights do not drift."""

    level: float = key(0.05, above=0, below=1)
    """Probability of calling a window stagnant although its weights drift or diffuse."""
    patience: int = key(1, at_least=1, unit="window")
    """Windows in a row that must show no drift."""

    readings = ("variance_ratio", "drift", "drift_upper", "stagnant_windows")
    falling = ("drift_upper",)

    def thresholds(self, now: Moment) -> dict[str, float]:
        return {"drift_upper": 0.0, "stagnant_windows": self.patience}

    def check_run(self, config: Config) -> list[str]:
        trajectory = config.trajectory
        if trajectory.window < _FEWEST:
            raise UserError(
                f"trajectory.window={trajectory.window}: trigger={self.name} needs {_FEWEST} snapshots or more, because it "
                "compares velocities that do not share a snapshot"
            )
        memory = 1 / (1 - trajectory.smoothing)
        if memory <= trajectory.every:
            return []
        return [
            f"trajectory.smoothing={trajectory.smoothing:g} averages over {counted(round(memory), 'step')} and snapshots are "
            f"taken every {trajectory.every}, so even velocities that share no snapshot are alike, and trigger={self.name} "
            "hardly ever fires: set trajectory.smoothing=0"
        ]

    def check_start(self, now: Moment) -> list[str]:
        return self.too_long(now, self.patience, self.filled(now) * self.patience)

    def update(self, now: Moment) -> Verdict:
        history, state = now.history, self.state
        if history is None or not history.full:
            return Verdict(False, dict.fromkeys(self.readings, math.nan) | {"stagnant_windows": state.stagnant})
        found = history.drift(self.level)
        if history.steps[0] >= state.newest:  # no velocity of this window has been tested before
            state.newest = history.steps[-1]
            state.stagnant = state.stagnant + 1 if found.upper <= 0 else 0
        told = (found.variance_ratio, found.drift, found.upper, state.stagnant)
        return Verdict(state.stagnant >= self.patience, dict(zip(self.readings, told, strict=True)))
