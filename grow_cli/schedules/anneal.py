"""Constant, then to zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from grow_cli.registry import option
from grow_cli.schedules.base import ScheduleOption


@option("schedule", "anneal")
@dataclass
class Anneal(ScheduleOption):
    """Constant while the net may grow, then linear to zero: grown nets need this last phase to reach their best
    accuracy."""

    longer: ClassVar[str] = "anew"

    def shape(self, progress: float, restarted_at: float, growth_until: float) -> float:
        if progress <= growth_until:
            return 1.0
        return max(0.0, (1 - progress) / max(1e-12, 1 - growth_until))
