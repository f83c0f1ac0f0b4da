"""When to grow: the interface of every trigger."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from grow_cli.registry import Part

if TYPE_CHECKING:
    from grow_cli.moment import Moment


@dataclass(frozen=True)
class Verdict:
    """What a trigger says at an evaluation."""

    fires: bool
    readings: Mapping[str, float] = field(default_factory=dict)
    """Name → value, logged as `trigger/<name>`; NaN where there is nothing to read yet."""


@dataclass
class Trigger(Part):
    """Base of every trigger: asked at every evaluation; its state is a new one after growth."""

    group_name: ClassVar[str] = "trigger"

    @property
    def needs_trajectory(self) -> bool:
        """Whether the frontier's history must be recorded."""
        return False

    @property
    def reads_budget(self) -> bool:
        """Whether it fires at another step where the run's limit is another."""
        return False

    @property
    def readings(self) -> tuple[str, ...]:
        """The names of the readings: the columns of metrics.csv are known from the start."""
        return ()

    def thresholds(self, now: Moment) -> dict[str, float]:
        """Reading → value at which it counts as stagnation, for the display and the summary."""
        return {}

    @property
    def falling(self) -> tuple[str, ...]:
        """The readings that count as stagnation at or below their threshold; others do at or above it."""
        return ()

    def check_start(self, now: Moment) -> list[str]:
        """Warnings of what will not happen, once data and net are there and before the first step."""
        return []

    def update(self, now: Moment) -> Verdict:
        """The verdict now. Called once per evaluation: may count, in `self.state`."""
        raise NotImplementedError

    def reset(self, now: Moment) -> None:
        """Forget what was counted: growth has just been tried."""
        self.state = self.State()


def growing_steps(now: Moment) -> float:
    """Training steps in which growth is allowed; inf if the budget is not in steps or epochs."""
    stop, method = now.config.stop, now.config.method
    lengths = [float(stop.steps)] if stop.steps is not None else []
    lengths += [stop.epochs * now.steps_per_epoch] if stop.epochs is not None else []
    until = now.config.growth.until if method.heeds_until else 1.0
    return until * min(lengths, default=math.inf)


def rounded_away(now: Moment, epochs: float) -> float:
    """How many epochs too early an evaluation can come that is meant for `epochs` epochs.

    Evaluations lie on whole steps: the distance between two may be up to half a step too short.
    """
    evaluate, epoch = now.config.evaluate, now.steps_per_epoch
    distance = evaluate.distance(epoch)
    lost = max(0, distance - evaluate.steps(epoch))
    evaluations = math.ceil(epochs * epoch / distance - 1e-6)
    return (min(evaluations * lost, distance / 2) + 1e-6) / epoch


def early_part(now: Moment, fraction: float) -> float:
    """How much before the fraction an evaluation may come that is meant to be at it, being on a whole step."""
    epochs = now.config.stop.epochs
    if epochs is None or now.config.evaluate.unit != "epochs":
        return 1e-9
    return max(1e-9, rounded_away(now, fraction * epochs) / epochs)


@dataclass
class TrajectoryTrigger(Trigger):
    """Base of the triggers that count readings of the frontier's trajectory, in a row, that show stagnation."""

    needs_trajectory = True

    @dataclass
    class State:
        stagnant: int = 0
        newest: int = -1
        """The last snapshot that was counted, or that was there when growth was last tried; -1: none."""

    def filled(self, now: Moment) -> int:
        """Training steps until the window is full."""
        from grow_cli.theory.history import first_full

        trajectory = now.config.trajectory
        return trajectory.every * first_full(trajectory.window, trajectory.sampling)[-1]

    def too_long(self, now: Moment, patience: int, needed: int) -> list[str]:
        """A warning where it needs more training steps than there are while growth is allowed."""
        trajectory, allowed = now.config.trajectory, growing_steps(now)
        if needed <= allowed:
            return []
        return [
            f"trigger={self.name} needs {needed:,} steps before it can fire (trajectory.window={trajectory.window} snapshots, "
            f"trajectory.every={trajectory.every}, trigger.patience={patience}), and while growth is allowed there are "
            f"{allowed:,.0f} (growth.until={now.config.growth.until:g}): take snapshots more often, or train longer"
        ]

    def reset(self, now: Moment) -> None:
        steps = [] if now.history is None else now.history.steps
        self.state = self.State(newest=steps[-1] if steps else -1)
