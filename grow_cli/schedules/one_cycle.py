"""One cycle."""

from __future__ import annotations

import math
from dataclasses import dataclass

from grow_cli.keys import key
from grow_cli.registry import option
from grow_cli.schedules.base import ScheduleOption, since_restart


@option("schedule", "one_cycle")
@dataclass
class OneCycle(ScheduleOption):
    """Smith's one cycle: by cosines from peak/div up to the peak (the base rate), then down to zero."""

    warmup: int = key(0, at_least=0, unit="steps")
    rise: float = key(0.3, at_least=0, below=1)
    """Fraction of the cycle in which the rate rises."""
    div: float = key(25.0, at_least=1)
    """Ratio of the peak to the initial rate."""

    def shape(self, progress: float, restarted_at: float, growth_until: float) -> float:
        u = since_restart(progress, restarted_at)
        if u < self.rise:
            first = 1 / self.div
            return first + (1 - first) * (1 - math.cos(math.pi * u / self.rise)) / 2
        return (1 + math.cos(math.pi * (u - self.rise) / (1 - self.rise))) / 2
