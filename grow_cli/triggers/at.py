"""Grow at given steps: a schedule decided beforehand, or taken from another run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError, check
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, TriggerOption, Verdict

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.training.state import Run


class At(Trigger):
    """Fires at the first evaluation at or after each of the steps."""

    readings = ("steps_until",)

    def __init__(self, steps: list[int]) -> None:
        super().__init__()
        self.steps, self.thresholds = steps, {"steps_until": 0.0}
        self._fired = 0

    def update(self, run: Run) -> Verdict:
        if self._fired == len(self.steps):
            return Verdict(False)
        until = self.steps[self._fired] - run.progress.step
        return Verdict(until <= 0, {"steps_until": float(until)})

    def reset(self, run: Run) -> None:
        self._fired += 1

    def state_dict(self) -> dict[str, Any]:
        return {"fired": self._fired}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._fired = state["fired"]


@option("trigger", "at")
@dataclass
class AtOption(TriggerOption):
    """Read at evaluations: a step between two of them fires at the later one."""

    steps: list[int] = field(default_factory=list)
    """In ascending order."""

    def __post_init__(self) -> None:
        check(
            all(step >= 1 for step in self.steps) and self.steps == sorted(self.steps),
            f"trigger.steps={self.steps}: steps of 1 or more, in ascending order",
        )

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

    def build(self) -> Trigger:
        return At(self.steps)
