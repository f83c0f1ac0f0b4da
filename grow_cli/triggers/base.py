"""When to grow: the interface of every trigger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from grow_cli.registry import Option

if TYPE_CHECKING:
    from grow_cli.training.state import Run


@dataclass(frozen=True)
class Verdict:
    """What a trigger says at an evaluation."""

    fires: bool
    readings: dict[str, float] = field(default_factory=dict)
    """Name → value, logged as `trigger/<name>`; NaN where there is nothing to read yet."""


class Trigger:
    """Asked at every evaluation; `reset` after growth."""

    readings: tuple[str, ...] = ()
    """The names of the readings: the columns of metrics.csv are known from the start."""
    thresholds: dict[str, float]
    """Reading → value at which it counts as stagnation, for the display and the growth log."""

    def __init__(self) -> None:
        self.thresholds = {}

    def update(self, run: Run) -> Verdict:
        """The verdict now. Called once per evaluation: may count."""
        raise NotImplementedError

    def reset(self, run: Run) -> None:
        """Forget what was counted: the net has just grown."""

    def state_dict(self) -> dict[str, Any]:
        """Plain data that `load_state_dict` continues from."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""


@dataclass
class TriggerOption(Option):
    """Base of every trigger's schema."""

    needs_trajectory: ClassVar[bool] = False

    def uses_trajectory(self) -> bool:
        """Whether the frontier's history must be recorded."""
        return self.needs_trajectory

    def build(self) -> Trigger:
        """The trigger."""
        raise NotImplementedError
