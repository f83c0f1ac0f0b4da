"""A trigger: fires where the validation loss falls too slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from grow_cli.keys import key
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, Verdict


@option("trigger", "slowing")
@dataclass
class Slowing(Trigger):
    """The fall from one evaluation to the next is below `least`."""

    least: float = key(0.02, at_least=0)

    @dataclass
    class State:
        before: float = math.inf

    readings = ("fall",)

    def update(self, now: Any) -> Verdict:
        loss = now.measured["val_loss"]
        fall, self.state.before = self.state.before - loss, loss
        known = math.isfinite(fall)
        return Verdict(known and fall < self.least, {"fall": fall if known else math.nan})
