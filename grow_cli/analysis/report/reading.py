"""A run folder as its page reads it, also for a run that was interrupted or is still running."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.flat import plain
from grow_cli.records.folder import RunFolder
from grow_cli.records.metrics import AXES, read_metrics
from grow_cli.tasks import Task, task_in

COLUMNS = {AXES[name].column: AXES[name].words for name in ("steps", "seconds", "flops", "parameters")}
"""What curves can be drawn against: column of metrics.csv → words."""


@dataclass(frozen=True)
class RunData:
    """What the run folder holds."""

    folder: RunFolder
    config: dict[str, Any]
    summary: dict[str, Any]
    """Empty for a run that was killed, or that continues."""
    metrics: pd.DataFrame
    """At least one row."""
    events: list[GrowthEvent]

    @property
    def task(self) -> Task:
        return task_in(self.metrics)

    @property
    def status(self) -> str:
        return str(self.summary.get("status", "no summary: still running, or killed"))

    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds of the trigger's readings that the growth log holds."""
        found = self.summary.get("thresholds") or {}
        return {name: float(value) for name, value in found.items() if value is not None}

    def name(self, part: str) -> str:
        """The name of its dataset, model, method or trigger."""
        return str(self.summary.get(part) or (self.config.get(part) or {}).get("name", "–"))

    def latest(self, key: str) -> Any:
        """A field of the summary; where it has none, of the last evaluation."""
        found = self.summary.get(key)
        if found is None and key in self.metrics:
            found = self.metrics[key].tolist()[-1]
        return None if isinstance(found, float) and not math.isfinite(found) else found

    def column(self, name: str) -> list[Any]:
        """A column of metrics.csv; None for an empty cell."""
        return plain(self.metrics[name].tolist())

    def places(self, axis: str) -> list[float]:
        """The position of each growth event on this axis: at the evaluation that it followed."""
        if axis == "step":
            return [event.step for event in self.events]
        if axis == "parameters":
            return [event.parameters_before for event in self.events]
        steps, values = self.metrics["step"], self.metrics[axis].tolist()
        return [values[max(int(steps.searchsorted(event.step, side="right")) - 1, 0)] for event in self.events]


_NEEDED = ("widths", "train_loss", "val_loss")


def read_run(folder: RunFolder) -> RunData:
    """Read it; UserError where there is nothing to show yet, Damaged where a file is not grow's."""
    return RunData(folder, folder.config(), folder.read_summary(), read_metrics(folder, _NEEDED), growth_events(folder))


def having(value: Any, key: str) -> Iterator[dict[str, Any]]:
    """The dictionaries in an event's details that have this key, however deep."""
    if isinstance(value, dict):
        if key in value:
            yield value
        for inner in value.values():
            yield from having(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from having(inner, key)
