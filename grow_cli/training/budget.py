"""Progress of a run: how much is done, when it is measured, and why it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from grow_cli.config import Evaluate, Stop
from grow_cli.records.words import counted

if TYPE_CHECKING:
    from grow_cli.moment import Progress

# Steps: what the rounding of an anchor that lies between two epochs may not add to a run.
_ROUNDING = 1e-6


# rule → how it is told
_TOLD: dict[str, Callable[[Any], str]] = {
    "epochs": lambda n: counted(n, "epoch"),
    "steps": lambda n: counted(n, "step"),
    "seconds": lambda n: counted(int(n) if n == int(n) else n, "second"),
    "flops": lambda n: f"{n:.3g} FLOPs",
    "parameters": lambda n: counted(n, "parameter"),
    "growth_events": lambda n: counted(n, "growth event"),
    "plateau": lambda n: f"{counted(n, 'evaluation')} without a better validation loss",
    "val_score": lambda n: f"a validation score of {n:g}",
    "train_score": lambda n: f"a training score of {n:g}",
    "pruned": lambda n: f"{counted(n, 'evaluation')} (pruned by its search)",
}


@dataclass(frozen=True)
class Ended:
    """Why a run ended: the key of `Stop` that held, and its value; or `pruned`, and at which evaluation."""

    rule: str
    value: float

    def __str__(self) -> str:
        """`30 epochs`."""
        return _TOLD[self.rule](self.value)


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
    direction: int = 1
    """Of the task's score: `Progress` holds scores times it, so that more is better."""

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

    def ended(self, progress: Progress, parameters: int) -> Ended | None:
        """The rule that ends the run now, or None."""
        stop = self.stop
        held: dict[str, bool] = {
            "epochs": progress.step >= self._steps_by_epochs,
            "steps": _reached(progress.step, stop.steps),
            "seconds": _reached(progress.seconds, stop.seconds),
            "flops": _reached(progress.flops, stop.flops),
            "parameters": _reached(parameters, stop.parameters),
            "growth_events": _reached(progress.events, stop.growth_events),
            "plateau": _reached(progress.evaluations_without_gain, stop.plateau),
            "val_score": _reached(progress.best_val_score, self._signed(stop.val_score)),
            "train_score": _reached(progress.train_score, self._signed(stop.train_score)),
        }
        rule = next((rule for rule, holds in held.items() if holds), None)
        return None if rule is None else Ended(rule, getattr(stop, rule))

    def _signed(self, score: float | None) -> float | None:
        return None if score is None else self.direction * score


def _reached(value: float, limit: float | None) -> bool:
    return limit is not None and value >= limit
