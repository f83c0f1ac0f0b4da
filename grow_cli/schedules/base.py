"""Learning-rate schedules as pure functions of the budget's progress.

A schedule gives the factor on the base rate. After growth it restarts (Alether, Algorithm 2, phase 4): its shape starts
again over the rest of the budget, with a linear warm-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from grow_cli.keys import key
from grow_cli.registry import Option


@dataclass
class ScheduleOption(Option):
    """Base of every schedule; `shape` defines it."""

    group_name: ClassVar[str] = "schedule"
    longer: ClassVar[str] = "refused"
    """Where the limit of a run is moved: `same` (the rates until then are the same), `anew` (the rate continues as
    the new budget has it), or `refused` (its shape would break)."""

    warmup: int = key(50, at_least=0, unit="steps")
    """Steps over which the rate rises linearly from zero, at the start and after each restart."""
    restart: bool = True
    """Restart the schedule after growth; false: growth does not affect the rate."""

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


def since_restart(progress: float, restarted_at: float) -> float:
    """Fraction used of what was left of the budget at the restart."""
    return min(1.0, (progress - restarted_at) / max(1e-12, 1.0 - restarted_at))
