"""Never grow: the static baseline's trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, Verdict

if TYPE_CHECKING:
    from grow_cli.moment import Moment


@option("trigger", "never")
@dataclass
class Never(Trigger):
    """Never fires."""

    def update(self, now: Moment) -> Verdict:
        return Verdict(False)
