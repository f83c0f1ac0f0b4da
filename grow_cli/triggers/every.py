"""Grow at fixed intervals (TINY's schedule): every so many steps, epochs or seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import check
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, TriggerOption, Verdict

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.training.state import Run


class Every(Trigger):
    """Fires at the first evaluation at which `every` units have passed since the start or the last firing."""

    def __init__(self, every: float, unit: str) -> None:
        super().__init__()
        self.every, self.unit = every, unit
        self.readings = (f"{unit}_since",)
        self.thresholds = {f"{unit}_since": every}
        self._last = 0.0

    def update(self, run: Run) -> Verdict:
        since = self._now(run) - self._last
        early = self._rounded_away(run) if self.unit == "epochs" else 1e-9 * self.every
        return Verdict(since >= self.every - early, {f"{self.unit}_since": since})

    def _rounded_away(self, run: Run) -> float:
        """Epochs by which an evaluation that is meant to come after `every` of them comes before that.

        Evaluations lie on whole steps: the distance between two may be up to half a step too short.
        """
        evaluate, epoch = run.config.evaluate, run.batches.steps_per_epoch
        distance = evaluate.distance(epoch)
        lost = max(0, distance - evaluate.steps(epoch))
        evaluations = math.ceil(self.every * epoch / distance - 1e-6)
        return (min(evaluations * lost, distance / 2) + 1e-6) / epoch

    def reset(self, run: Run) -> None:
        self._last = self._now(run)

    def _now(self, run: Run) -> float:
        return float(getattr(run.progress, {"steps": "step", "epochs": "epoch", "seconds": "seconds"}[self.unit]))

    def state_dict(self) -> dict[str, Any]:
        return {"last": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._last = state["last"]


@option("trigger", "every")
@dataclass
class EveryOption(TriggerOption):
    """Read at evaluations: an interval is as long as the next multiple of the distance between them."""

    every: float = 10
    unit: str = "epochs"
    """`steps`, `epochs` or `seconds`."""

    def __post_init__(self) -> None:
        check(self.every > 0, f"trigger.every={self.every}: must be above 0")
        check(
            self.unit in ("steps", "epochs", "seconds"),
            f"trigger.unit={self.unit}: must be steps, epochs or seconds",
        )

    def check_run(self, config: Config) -> list[str]:
        evaluate = config.evaluate
        if not config.method.grows or self.unit != evaluate.unit:
            return []
        evaluations = self.every / evaluate.every
        if math.isclose(evaluations, round(evaluations), rel_tol=1e-6):
            return []
        return [
            f"trigger.every={self.every:g} {self.unit} will be {math.ceil(evaluations) * evaluate.every:g}: triggers are "
            f"read at evaluations only (evaluate.every={evaluate.every:g})"
        ]

    def build(self) -> Trigger:
        return Every(self.every, self.unit)
