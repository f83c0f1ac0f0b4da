"""Several triggers as one: `any` fires when one of them does, `all` when all do at the same evaluation."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, Verdict

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.moment import Moment


@dataclass
class Combined(Trigger):
    """Asks every part at every evaluation, so that each keeps counting. The parts keep the state."""

    @staticmethod
    def rule(fire: Iterable[bool]) -> bool:
        """Whether the whole fires, from whether each part does."""
        raise NotImplementedError

    of: dict[str, Any] = key(make=dict)
    """Name → trigger; add one with `+trigger@trigger.of.NAME=OPTION`, drop one with `~trigger.of.NAME`."""

    @property
    def parts(self) -> dict[str, Trigger]:
        """The triggers inside, by name; UserError if there are none, or one is not a trigger."""
        if not self.of:
            raise UserError(f"trigger={self.name} has no triggers: add one with +trigger@trigger.of.NAME=OPTION")
        for name, part in self.of.items():
            if not isinstance(part, Trigger):
                raise UserError(
                    f"trigger.of.{name}={part} is not a trigger: add one with +trigger@trigger.of.{name}=OPTION, and drop one "
                    "with ~trigger.of.NAME"
                )
        return self.of

    def begin(self) -> Self:
        combined = copy.copy(self)
        combined.of = {name: part.begin() for name, part in self.parts.items()}
        return combined

    @property
    def needs_trajectory(self) -> bool:
        return any(part.needs_trajectory for part in self.parts.values())

    @property
    def reads_budget(self) -> bool:
        return any(part.reads_budget for part in self.parts.values())

    @property
    def readings(self) -> tuple[str, ...]:
        return tuple(self._told(name, reading) for name, part in self.parts.items() for reading in part.readings)

    def _told(self, name: str, reading: str) -> str:
        """A part's reading by its own name, or after the part's where another part has one of that name."""
        shared = sum(reading in part.readings for part in self.parts.values()) > 1
        return f"{name}.{reading}" if shared else reading

    @property
    def falling(self) -> tuple[str, ...]:
        return tuple(self._told(name, reading) for name, part in self.parts.items() for reading in part.falling)

    def thresholds(self, now: Moment) -> dict[str, float]:
        return {
            self._told(name, of): limit
            for name, part in self.parts.items()
            for of, limit in part.thresholds(now).items()
        }

    def check_run(self, config: Config) -> list[str]:
        return [sentence for part in self.parts.values() for sentence in part.check_run(config)]

    def check_start(self, now: Moment) -> list[str]:
        return [sentence for part in self.parts.values() for sentence in part.check_start(now)]

    def update(self, now: Moment) -> Verdict:
        verdicts = {name: part.update(now) for name, part in self.parts.items()}
        readings = {self._told(name, of): value for name, one in verdicts.items() for of, value in one.readings.items()}
        return Verdict(self.rule(verdict.fires for verdict in verdicts.values()), readings)

    def reset(self, now: Moment) -> None:
        for part in self.parts.values():
            part.reset(now)

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.of.items()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        for name, part in self.of.items():
            part.load_state_dict(saved[name])


@option("trigger", "any")
@dataclass
class Any_(Combined):
    """Fires when at least one of its triggers fires."""

    @staticmethod
    def rule(fire: Iterable[bool]) -> bool:
        return any(fire)


@option("trigger", "all")
@dataclass
class All(Combined):
    """Fires when all of its triggers fire at the same evaluation."""

    @staticmethod
    def rule(fire: Iterable[bool]) -> bool:
        return all(fire)
