"""Grow at fixed intervals (TINY's schedule): `every` steps, epochs or seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.keys import key
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, Verdict, rounded_away

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.moment import Moment

# unit → the field of `Progress` that counts it
_COUNTED = {"steps": "step", "epochs": "epoch", "seconds": "seconds"}


@option("trigger", "every")
@dataclass
class Every(Trigger):
    """Fires at the first evaluation at which `every` units have passed since the start or the last firing.

    An interval is as long as the next multiple of the distance between evaluations.
    """

    every: float = key(10, above=0)
    """Distance between growth events, in `unit`."""
    unit: str = key("epochs", one_of=tuple(_COUNTED))
    """`steps`, `epochs` or `seconds`."""

    @dataclass
    class State:
        last: float = 0.0

    @property
    def readings(self) -> tuple[str, ...]:
        return (f"{self.unit}_since",)

    def thresholds(self, now: Moment) -> dict[str, float]:
        return {f"{self.unit}_since": self.every}

    def check_run(self, config: Config) -> list[str]:
        evaluate = config.evaluate
        if not config.method.grows or self.unit != evaluate.unit:
            return []
        evaluations = self.every / evaluate.every
        if math.isclose(evaluations, round(evaluations), rel_tol=1e-6):
            return []
        return [
            f"trigger.every={self.every:g} {self.unit} will be {math.ceil(evaluations) * evaluate.every:g}: triggers are "
            f"only read at evaluations (evaluate.every={evaluate.every:g})"
        ]

    def update(self, now: Moment) -> Verdict:
        since = self._count(now) - self.state.last
        early = rounded_away(now, self.every) if self.unit == "epochs" else 1e-9 * self.every
        return Verdict(since >= self.every - early, {f"{self.unit}_since": since})

    def reset(self, now: Moment) -> None:
        self.state.last = self._count(now)

    def _count(self, now: Moment) -> float:
        return float(getattr(now.progress, _COUNTED[self.unit]))
