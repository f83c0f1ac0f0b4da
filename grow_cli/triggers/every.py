"""Grow at fixed intervals (TINY's schedule): `every` steps, epochs or seconds, or a part of the budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.keys import key
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, Verdict, early_part, rounded_away

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.moment import Moment

# unit → the field of `Progress` that counts it
_COUNTED = {"steps": "step", "epochs": "epoch", "seconds": "seconds"}
PART = 1 / 30
"""Of the budget, between growth events whose distance is not given; until `growth.until=0.6` at most 17 events."""


@option("trigger", "every")
@dataclass
class Every(Trigger):
    """Fires at the first evaluation at which `every` units have passed since the start or the last firing.

    An interval is as long as the next multiple of the distance between evaluations.
    """

    every: float | None = key(10, above=0, null="for a thirtieth of the budget, whatever the unit")
    """Distance between growth events, in `unit`; null: a thirtieth of the budget, as far as evaluations are that close."""
    unit: str = key("epochs", one_of=tuple(_COUNTED))
    """`steps`, `epochs` or `seconds`."""

    @dataclass
    class State:
        last: float = 0.0

    @property
    def reads_budget(self) -> bool:
        return self.every is None

    @property
    def readings(self) -> tuple[str, ...]:
        return ("budget_since",) if self.every is None else (f"{self.unit}_since",)

    def thresholds(self, now: Moment) -> dict[str, float]:
        return dict.fromkeys(self.readings, PART if self.every is None else self.every)

    def check_run(self, config: Config) -> list[str]:
        evaluate = config.evaluate
        if self.every is None or not config.method.grows or self.unit != evaluate.unit:
            return []
        evaluations = self.every / evaluate.every
        if math.isclose(evaluations, round(evaluations), rel_tol=1e-6):
            return []
        return [
            f"trigger.every={self.every:g} {self.unit} will be {math.ceil(evaluations) * evaluate.every:g}: triggers are "
            f"only read at evaluations (evaluate.every={evaluate.every:g})"
        ]

    def update(self, now: Moment) -> Verdict:
        if self.every is None:  # a longer budget, of which less is used, must not hold up what grows on
            self.state.last = min(self.state.last, self._count(now))
        since = self._count(now) - self.state.last
        return Verdict(since >= self._needed(now), dict.fromkeys(self.readings, since))

    def reset(self, now: Moment) -> None:
        self.state.last = self._count(now)

    def _needed(self, now: Moment) -> float:
        """What must have passed, less what an evaluation may come too early by, being on a whole step."""
        if self.every is None:
            return PART - early_part(now, PART)
        early = rounded_away(now, self.every) if self.unit == "epochs" else 1e-9 * self.every
        return self.every - early

    def _count(self, now: Moment) -> float:
        return now.used if self.every is None else float(getattr(now.progress, _COUNTED[self.unit]))
