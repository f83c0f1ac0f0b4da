"""Grow at fixed intervals (TINY's schedule): every so many steps, epochs or seconds."""

from __future__ import annotations

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
        # evaluations lie on whole steps: one that is meant to come after `every` epochs may come half a step before
        early = (0.5 + 1e-6) / run.batches.steps_per_epoch if self.unit == "epochs" else 1e-9 * self.every
        return Verdict(since >= self.every - early, {f"{self.unit}_since": since})

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
    """Read at evaluations: an interval below the distance between them fires at each."""

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
        if not config.method.grows or self.unit != evaluate.unit or self.every >= evaluate.every:
            return []
        return [
            f"trigger.every={self.every:g} {self.unit} will be {evaluate.every:g}: triggers are read at evaluations only "
            f"(evaluate.every={evaluate.every:g})"
        ]

    def build(self) -> Trigger:
        return Every(self.every, self.unit)
