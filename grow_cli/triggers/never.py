"""Never grow: the static baseline's trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, TriggerOption, Verdict

if TYPE_CHECKING:
    from grow_cli.training.state import Run


class Never(Trigger):
    """Never fires."""

    def update(self, run: Run) -> Verdict:
        return Verdict(False)


@option("trigger", "never")
@dataclass
class NeverOption(TriggerOption):
    """No keys."""

    def build(self) -> Trigger:
        return Never()
