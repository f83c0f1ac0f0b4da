"""Grow when validation stops improving."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import check
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, TriggerOption, Verdict

if TYPE_CHECKING:
    from grow_cli.training.state import Run


class Plateau(Trigger):
    """Fires after `patience` evaluations in a row without a validation loss below best − min_delta."""

    readings = ("evaluations_without_gain",)

    def __init__(self, patience: int, min_delta: float) -> None:
        super().__init__()
        self.patience, self.min_delta = patience, min_delta
        self.thresholds = {"evaluations_without_gain": patience}
        self._best, self._waited = math.inf, 0

    def update(self, run: Run) -> Verdict:
        if run.measured["val_loss"] < self._best - self.min_delta:
            self._best, self._waited = run.measured["val_loss"], 0
        else:
            self._waited += 1
        return Verdict(self._waited >= self.patience, {"evaluations_without_gain": self._waited})

    def reset(self, run: Run) -> None:
        self._best, self._waited = math.inf, 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best, self._waited = state["best"], state["waited"]


@option("trigger", "plateau")
@dataclass
class PlateauOption(TriggerOption):
    """Counted in evaluations."""

    patience: int = 5
    min_delta: float = 0.0
    """A smaller fall of the validation loss is no improvement."""

    def __post_init__(self) -> None:
        check(self.patience >= 1, f"trigger.patience={self.patience}: must be 1 evaluation or more")
        check(self.min_delta >= 0, f"trigger.min_delta={self.min_delta}: must be 0 or more")

    def build(self) -> Trigger:
        return Plateau(self.patience, self.min_delta)
