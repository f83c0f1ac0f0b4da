"""Grow when validation stops improving."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.keys import key
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, Verdict

if TYPE_CHECKING:
    from grow_cli.moment import Moment


@option("trigger", "plateau")
@dataclass
class Plateau(Trigger):
    """Fires after `patience` evaluations in a row without a validation loss below best − min_delta."""

    patience: int = key(5, at_least=1, unit="evaluation")
    """Evaluations in a row without a better validation loss."""
    min_delta: float = key(0.0, at_least=0)
    """A smaller decrease of the validation loss does not count as an improvement."""

    readings = ("evaluations_without_gain",)

    @dataclass
    class State:
        best: float = math.inf
        waited: int = 0

    def thresholds(self, now: Moment) -> dict[str, float]:
        return {"evaluations_without_gain": self.patience}

    def update(self, now: Moment) -> Verdict:
        state, loss = self.state, now.measured["val_loss"]
        if loss < state.best - self.min_delta:
            state.best, state.waited = loss, 0
        else:
            state.waited += 1
        return Verdict(state.waited >= self.patience, {"evaluations_without_gain": state.waited})
