"""A constant rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from grow_cli.registry import option
from grow_cli.schedules.base import ScheduleOption


@option("schedule", "constant")
@dataclass
class Constant(ScheduleOption):
    """The base rate."""

    longer: ClassVar[str] = "same"

    def shape(self, progress: float, restarted_at: float, growth_until: float) -> float:
        return 1.0
