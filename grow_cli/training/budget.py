"""How much of a run is done, and why it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.config import Stop

if TYPE_CHECKING:
    from grow_cli.training.state import Progress


@dataclass(frozen=True)
class Budget:
    """The stop rules, for a data set of `steps_per_epoch`."""

    stop: Stop
    steps_per_epoch: int

    @property
    def steps(self) -> float:
        """Steps until the end; infinite if only seconds are limited."""
        limits = [math.inf]
        if self.stop.steps is not None:
            limits.append(self.stop.steps)
        if self.stop.epochs is not None:
            limits.append(self.stop.epochs * self.steps_per_epoch)
        return min(limits)

    def used(self, step: int, seconds: float) -> float:
        """Fraction of the budget, by whichever limit is nearer."""
        by_time = 0.0 if self.stop.seconds is None else seconds / self.stop.seconds
        return max(step / self.steps, by_time)

    def ended(self, progress: Progress, parameters: int) -> str | None:
        """The rule that ends the run now, or None."""
        stop = self.stop
        if progress.step >= self.steps:
            by_epochs = stop.epochs is not None and progress.step >= stop.epochs * self.steps_per_epoch
            return f"{stop.epochs} epochs" if by_epochs else f"{stop.steps} steps"
        if stop.seconds is not None and progress.seconds >= stop.seconds:
            return f"{stop.seconds:g} seconds"
        if stop.parameters is not None and parameters >= stop.parameters:
            return f"{stop.parameters} parameters"
        if stop.growth_events is not None and progress.events >= stop.growth_events:
            return f"{stop.growth_events} growth events"
        if stop.plateau is not None and progress.evaluations_without_gain >= stop.plateau:
            return f"{stop.plateau} evaluations without a better validation loss"
        return None
