"""Learning-rate schedules as pure functions of the budget's progress.

A schedule gives the factor on the base rate. After growth it restarts (Alether, Algorithm 2, phase 4): its shape begins anew
over what is left of the budget, with a linear warm-up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from grow_cli.errors import check
from grow_cli.registry import Option, option


@dataclass
class ScheduleOption(Option):
    """Base of every schedule's schema."""

    warmup: int = 0
    """Steps over which the rate rises linearly from zero, at the start and after each restart."""
    restart: bool = True
    """Begin anew after growth; false: growth leaves the rate alone."""

    def __post_init__(self) -> None:
        check(self.warmup >= 0, f"schedule.warmup={self.warmup}: must be 0 steps or more")

    def factor(self, progress: float, restarted_at: float, steps_since_restart: int, growth_until: float) -> float:
        """The factor on the base rate.

        :param progress: fraction of the budget used, in [0, 1)
        :param restarted_at: the progress at the start or the last restart
        :param steps_since_restart: steps taken since then
        :param growth_until: the progress after which nothing grows (`growth.until`)
        """
        ramp = 1.0 if steps_since_restart >= self.warmup else (steps_since_restart + 1) / (self.warmup + 1)
        return ramp * self.shape(progress, restarted_at, growth_until)

    def shape(self, progress: float, restarted_at: float, growth_until: float) -> float:
        """The factor without the warm-up."""
        raise NotImplementedError


def _since_restart(progress: float, restarted_at: float) -> float:
    """Fraction used of what was left of the budget at the restart."""
    return min(1.0, (progress - restarted_at) / max(1e-12, 1.0 - restarted_at))


@option("schedule", "constant")
@dataclass
class Constant(ScheduleOption):
    """The base rate."""

    def shape(self, progress: float, restarted_at: float, growth_until: float) -> float:
        return 1.0


@option("schedule", "cosine")
@dataclass
class Cosine(ScheduleOption):
    """Half a cosine from the base rate to `floor` times it."""

    floor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.floor <= 1, f"schedule.floor={self.floor}: must be from 0 to 1")

    def shape(self, progress: float, restarted_at: float, growth_until: float) -> float:
        u = _since_restart(progress, restarted_at)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * u)) / 2


@option("schedule", "one_cycle")
@dataclass
class OneCycle(ScheduleOption):
    """Smith's one cycle: by cosines from peak/div up to the peak (the base rate), then down to zero."""

    rise: float = 0.3
    """Fraction of the cycle that goes up."""
    div: float = 25.0
    """The peak over the first rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.rise < 1, f"schedule.rise={self.rise}: must be from 0 to below 1")
        check(self.div >= 1, f"schedule.div={self.div}: must be 1 or more")

    def shape(self, progress: float, restarted_at: float, growth_until: float) -> float:
        u = _since_restart(progress, restarted_at)
        if u < self.rise:
            first = 1 / self.div
            return first + (1 - first) * (1 - math.cos(math.pi * u / self.rise)) / 2
        return (1 + math.cos(math.pi * (u - self.rise) / (1 - self.rise))) / 2


@option("schedule", "anneal")
@dataclass
class Anneal(ScheduleOption):
    """Constant while the net may grow, then linear to zero: the last phase without which no grown net is at its best."""

    def shape(self, progress: float, restarted_at: float, growth_until: float) -> float:
        if progress <= growth_until:
            return 1.0
        return max(0.0, (1 - progress) / max(1e-12, 1 - growth_until))
