"""Grow at given steps: a schedule decided beforehand, or taken from another run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.errors import UserError, check
from grow_cli.keys import key
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, Verdict

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.moment import Moment


@option("trigger", "at")
@dataclass
class At(Trigger):
    """Fires at the first evaluation at or after each of the steps."""

    steps: list[int] = key(make=list, at_least=1)
    """In ascending order."""

    @dataclass
    class State:
        fired: int = 0

    @property
    def readings(self) -> tuple[str, ...]:
        return ("steps_until",)

    def thresholds(self, now: Moment) -> dict[str, float]:
        return {"steps_until": 0.0}

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.steps == sorted(self.steps), f"trigger.steps={self.steps}: must be in ascending order")

    def check_run(self, config: Config) -> list[str]:
        if not self.steps:
            raise UserError("trigger=at needs the steps at which to grow: trigger.steps=[500,1000]")
        if config.stop.steps is None or not config.method.grows:
            return []
        last = config.growth.until * config.stop.steps
        late = [step for step in self.steps if step >= last]
        if not late or not config.method.heeds_until:
            return []
        return [
            f"trigger.steps: nothing grows at {', '.join(map(str, late))}, for growth.until={config.growth.until:g} of the "
            f"{config.stop.steps} steps end before: give growth.until=1, or fewer steps"
        ]

    def update(self, now: Moment) -> Verdict:
        if self.state.fired == len(self.steps):
            return Verdict(False)
        until = self.steps[self.state.fired] - now.progress.step
        return Verdict(until <= 0, {"steps_until": float(until)})

    def reset(self, now: Moment) -> None:
        self.state.fired += 1
