"""How much of a run is done, when it is measured, and why it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from grow_cli.config import Evaluate, Stop

if TYPE_CHECKING:
    from grow_cli.training.state import Progress

# Steps: what the rounding of an anchor that lies between two epochs may not add to a run.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Budget:
    """The stop rules, for a split of `steps_per_epoch`, and the map from steps to epochs.

    The map is linear from the anchor on, the last change of the batch size. So a step counts for as many epochs as it sees
    samples, and no change makes the epochs jump, wherever in the split's order it comes.
    """

    stop: Stop
    steps_per_epoch: int
    anchor_step: int = 0
    anchor_epoch: float = 0.0

    @cached_property
    def _offset(self) -> float:
        """Steps that the present batch size would have needed until the anchor, less those that were taken."""
        return self.anchor_epoch * self.steps_per_epoch - self.anchor_step

    @cached_property
    def _steps_of_epochs(self) -> float:
        """Steps of `stop.epochs`, had the batch size always been the present one."""
        return math.inf if self.stop.epochs is None else self.stop.epochs * self.steps_per_epoch

    @cached_property
    def _steps_by_epochs(self) -> float:
        """The first step at which `stop.epochs` are over."""
        end = self._steps_of_epochs - self._offset
        return end if math.isinf(end) else math.ceil(end - _ROUNDING)

    @property
    def steps(self) -> float:
        """Steps until the end, as the batch size is now; infinite if only seconds or FLOPs are limited."""
        return min(self._steps_by_epochs, math.inf if self.stop.steps is None else self.stop.steps)

    def epoch(self, step: int) -> float:
        """Passes over the training split until `step`, one of those since the anchor."""
        return (step + self._offset) / self.steps_per_epoch

    def next_evaluation(self, step: int, evaluate: Evaluate) -> int:
        """The first mark after `step`; they are counted from the anchor, for growth comes right after an evaluation."""
        every = evaluate.steps(self.steps_per_epoch)
        return self.anchor_step + ((step - self.anchor_step) // every + 1) * every

    def used(self, step: int, seconds: float, flops: float) -> float:
        """Fraction of the budget, by whichever limit is nearer; at most 1."""
        stop = self.stop
        by_flops = 0.0 if stop.flops is None else flops / stop.flops
        by_steps = 0.0 if stop.steps is None else step / stop.steps
        by_time = 0.0 if stop.seconds is None else seconds / stop.seconds
        return min(1.0, max((step + self._offset) / self._steps_of_epochs, by_steps, by_time, by_flops))

    def ended(self, progress: Progress, parameters: int) -> str | None:
        """The rule that ends the run now, or None."""
        stop = self.stop
        if progress.step >= self._steps_by_epochs:
            return f"{stop.epochs} epochs"
        if stop.steps is not None and progress.step >= stop.steps:
            return f"{stop.steps} steps"
        if stop.seconds is not None and progress.seconds >= stop.seconds:
            return f"{stop.seconds:g} seconds"
        if stop.flops is not None and progress.flops >= stop.flops:
            return f"{stop.flops:.3g} FLOPs"
        if stop.parameters is not None and parameters >= stop.parameters:
            return f"{stop.parameters} parameters"
        if stop.growth_events is not None and progress.events >= stop.growth_events:
            return f"{stop.growth_events} growth events"
        if stop.plateau is not None and progress.evaluations_without_gain >= stop.plateau:
            return f"{stop.plateau} evaluations without a better validation loss"
        if stop.val_score is not None and progress.best_val_score >= stop.val_score:
            return f"a validation score of {stop.val_score:g}"
        if stop.train_score is not None and progress.train_score >= stop.train_score:
            return f"a training score of {stop.train_score:g}"
        return None
