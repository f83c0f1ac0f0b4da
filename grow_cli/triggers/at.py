"""Grow at given steps or fractions of the budget: a schedule fixed in advance, or taken from another run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.errors import UserError, check
from grow_cli.keys import key
from grow_cli.records.words import counted
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, Verdict, early_part

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.moment import Moment


@option("trigger", "at")
@dataclass
class At(Trigger):
    """Fires at the first evaluation at or after each of the steps, or of the fractions of the budget."""

    steps: list[int] = key(make=list, at_least=1)
    """Steps at which to grow, in ascending order."""
    fractions: list[float] = key(make=list, above=0, below=1, why="they are fractions of the budget")
    """Fractions of the budget (in epochs, steps, seconds or FLOPs) at which to grow, in ascending order."""

    @dataclass
    class State:
        fired: int = 0

    @property
    def reads_budget(self) -> bool:
        return bool(self.fractions)

    @property
    def readings(self) -> tuple[str, ...]:
        return ("fraction_until",) if self.fractions else ("steps_until",)

    @property
    def falling(self) -> tuple[str, ...]:
        return self.readings

    def thresholds(self, now: Moment) -> dict[str, float]:
        return dict.fromkeys(self.readings, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, marks in (("steps", self.steps), ("fractions", self.fractions)):
            check(marks == sorted(marks), f"trigger.{name}={marks}: must be in ascending order")

    def check_run(self, config: Config) -> list[str]:
        if not self.steps and not self.fractions:
            raise UserError(
                "trigger=at needs the steps at which to grow: trigger.steps=[500,1000], or fractions of the budget, "
                "trigger.fractions=[0.3]"
            )
        if self.steps and self.fractions:
            raise UserError(
                f"trigger.steps={self.steps} and trigger.fractions={self.fractions}: set only one of them, and the other to "
                "[]"
            )
        if not config.method.grows or not config.method.heeds_until:
            return []
        until = config.growth.until
        late: list[float] = [fraction for fraction in self.fractions if fraction >= until]
        if config.stop.steps is not None:
            late += [step for step in self.steps if step >= until * config.stop.steps]
        if not late:
            return []
        name, whole = "fractions", "budget ends"
        if self.steps:
            name, whole = (
                "steps",
                f"{counted(config.stop.steps or 0, 'step')} end{'s' if config.stop.steps == 1 else ''}",
            )
        return [
            f"trigger.{name}: nothing grows at {', '.join(map(str, late))}, for growth.until={until:g} of the {whole} before: "
            f"give growth.until=1, or fewer {name}"
        ]

    def update(self, now: Moment) -> Verdict:
        marks = self.fractions or self.steps
        if self.state.fired == len(marks):
            return Verdict(False)
        if self.fractions:
            left = self.fractions[self.state.fired] - now.used
            return Verdict(left <= early_part(now, self.fractions[self.state.fired]), {"fraction_until": left})
        until = self.steps[self.state.fired] - now.progress.step
        return Verdict(until <= 0, {"steps_until": float(until)})

    def reset(self, now: Moment) -> None:
        self.state.fired += 1
