"""Half a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from grow_cli.keys import key
from grow_cli.registry import option
from grow_cli.schedules.base import ScheduleOption, since_restart


@option("schedule", "cosine")
@dataclass
class Cosine(ScheduleOption):
    """Half a cosine from the base rate to `floor` times it."""

    floor: float = key(0.0, at_least=0, at_most=1)
    """Rate at the end, as a fraction of the base rate."""

    def shape(self, progress: float, restarted_at: float, growth_until: float) -> float:
        u = since_restart(progress, restarted_at)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * u)) / 2
