"""Grow at given steps, fractions of the budget or FLOPs: a schedule fixed in advance, or taken from another run."""

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


# key → the reading of it
_UNTIL = {"steps": "steps_until", "fractions": "fraction_until", "flops": "flops_until"}


@option("trigger", "at")
@dataclass
class At(Trigger):
    """Fires at the first evaluation at or after each of the steps, of the fractions of the budget, or of the FLOPs."""

    steps: list[int] = key(make=list, at_least=1)
    """Steps at which to grow, in ascending order."""
    fractions: list[float] = key(make=list, above=0, below=1, why="they are fractions of the budget")
    """Fractions of the budget (in epochs, steps, seconds or FLOPs) at which to grow, in ascending order."""
    flops: list[float] = key(make=list, above=0)
    """Training FLOPs after which to grow, in ascending order: the same for every budget."""

    @dataclass
    class State:
        fired: int = 0

    @property
    def _given(self) -> tuple[str, list[float]]:
        """The key that is set, and its marks."""
        return next(((name, [*getattr(self, name)]) for name in _UNTIL if getattr(self, name)), ("steps", []))

    @property
    def reads_budget(self) -> bool:
        return bool(self.fractions)

    @property
    def readings(self) -> tuple[str, ...]:
        return (_UNTIL[self._given[0]],)

    @property
    def falling(self) -> tuple[str, ...]:
        return self.readings

    def thresholds(self, now: Moment) -> dict[str, float]:
        return dict.fromkeys(self.readings, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in _UNTIL:
            marks = getattr(self, name)
            check(marks == sorted(marks), f"trigger.{name}={marks}: must be in ascending order")

    def check_run(self, config: Config) -> list[str]:
        name, marks = self._given
        if not marks:
            raise UserError(
                "trigger=at needs the steps at which to grow: trigger.steps=[500,1000], or fractions of the budget, "
                "trigger.fractions=[0.3], or FLOPs, trigger.flops=[1e11]"
            )
        if len(given := [f"trigger.{name}={getattr(self, name)}" for name in _UNTIL if getattr(self, name)]) > 1:
            raise UserError(f"{' and '.join(given)}: set only one of them, and the others to []")
        if not config.method.grows or not config.method.heeds_until:
            return []
        until, stop = config.growth.until, config.stop
        whole = {"steps": stop.steps, "fractions": 1, "flops": stop.flops}[name]
        late = [mark for mark in marks if whole is not None and mark >= until * whole]
        if not late:
            return []
        told, ends = ", ".join(f"{mark:g}" for mark in late), "budget ends"
        if name == "steps":
            told = ", ".join(map(str, late))
            ends = f"{counted(stop.steps or 0, 'step')} end{'s' if stop.steps == 1 else ''}"
        return [
            f"trigger.{name}: nothing grows at {told}, for growth.until={until:g} of the {ends} "
            f"before: give growth.until=1, or fewer {name}"
        ]

    def update(self, now: Moment) -> Verdict:
        name, marks = self._given
        if self.state.fired == len(marks):
            return Verdict(False)
        mark = marks[self.state.fired]
        passed = {"steps": now.progress.step, "fractions": now.used, "flops": now.progress.flops}[name]
        early = early_part(now, mark) if name == "fractions" else 0
        return Verdict(mark - passed <= early, {_UNTIL[name]: float(mark - passed)})

    def reset(self, now: Moment) -> None:
        self.state.fired += 1
