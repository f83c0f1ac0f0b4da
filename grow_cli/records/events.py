"""The growth log: a line of growth.jsonl for each growth event, and for each firing that added nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from grow_cli.records.folder import RunFolder


@dataclass
class GrowthEvent:
    """One line. Losses and accuracies are those of a fixed batch; JSON has null for a number that is not finite."""

    event: int = 0
    """Number of the line, from 1."""
    step: int = 0
    epoch: float = 0.0
    seconds: float = 0.0
    """Of training and growth, when the event was over."""
    method: str = ""
    trigger: str = ""
    readings: Mapping[str, float | None] = field(default_factory=dict)
    """The trigger's, at the evaluation that fired."""
    kind: str = "none"
    """`width`, `depth`, `rollback`, or `none`."""
    proposals: int = 0
    site: str = ""
    """Names of the sites that got units."""
    updated: list[str] = field(default_factory=list)
    """Names of the sites at which present weights were updated and no unit was added."""
    units_added: int = 0
    """Negative where a growth was taken back."""
    added: list[dict[str, Any]] | None = None
    """kind, site and units of each addition, in order; None in the log of an earlier grow."""
    details: dict[str, Any] = field(default_factory=dict)
    """The method's own."""
    phases: list[dict[str, Any]] = field(default_factory=list)
    loss_before: float | None = None
    loss_after: float | None = None
    loss_settled: float | None = None
    """After what the method trains or changes before training goes on."""
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    accuracy_settled: float | None = None
    function_change: float | None = None
    """E‖f_new − f_old‖²."""
    function_change_relative: float | None = None
    parameters_before: int = 0
    parameters_after: int = 0
    flops_before: int = 0
    """Forward FLOPs of a sample."""
    flops_after: int = 0
    widths_before: str = ""
    widths_after: str = ""
    growth_seconds: float = 0.0
    growth_flops: int = 0

    @property
    def taken_back(self) -> bool:
        """Whether it is the undoing of an earlier event."""
        return self.kind == "rollback"

    @property
    def changed(self) -> bool:
        """Whether the net is another one after it."""
        return bool(self.units_added or self.updated)

    @property
    def reason(self) -> str:
        """Why nothing was added, or why it was taken back."""
        return str(self.details.get("reason", ""))

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> GrowthEvent:
        """A line as it was written, by this grow or an earlier one; unknown fields are left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in entry.items() if key in known})


def growth_events(folder: RunFolder) -> list[GrowthEvent]:
    """The lines of growth.jsonl; none where there is no such file."""
    if not folder.growth.exists():
        return []
    return [GrowthEvent.from_json(json.loads(line)) for line in folder.growth.read_text(encoding="utf-8").splitlines()]
