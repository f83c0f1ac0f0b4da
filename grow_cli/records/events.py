"""The growth log: a line of growth.jsonl for each growth event, and for each firing that added nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from grow_cli.errors import first_line
from grow_cli.files import is_there
from grow_cli.records import reading
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import counted

_ONE = {"heads": "head"}
"""Kind → what one of the things added is called, where it is no unit."""


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
    """`width`, `depth`, `heads`, `removal`, `rollback`, or `none`."""
    proposals: int = 0
    site: str = ""
    """Names of the sites that got units."""
    updated: list[str] = field(default_factory=list)
    """Names of the sites at which present weights were updated and no unit was added."""
    units_added: int = 0
    """Negative where units were removed, or a growth was taken back."""
    added: list[dict[str, Any]] | None = None
    """kind, site and units of each addition, in order; None in the log of an earlier grow."""
    details: dict[str, Any] = field(default_factory=dict)
    """The method's own."""
    phases: list[dict[str, Any]] = field(default_factory=list)
    loss_before: float | None = None
    loss_after: float | None = None
    loss_settled: float | None = None
    """After what the method trains or changes before training continues."""
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
    def resized(self) -> bool:
        """Whether the method made the net larger or smaller."""
        return bool(self.units_added) and not self.taken_back

    @property
    def removed(self) -> bool:
        """Whether units were removed by the method itself."""
        return self.units_added < 0 and not self.taken_back

    @property
    def units_text(self) -> str:
        """`3 units`, `2 heads`: what was added or taken back, without its sign."""
        return counted(abs(self.units_added), _ONE.get(self.kind, "unit"))

    @property
    def changed(self) -> bool:
        """Whether the net is another one after it."""
        return bool(self.units_added or self.updated)

    @property
    def reason(self) -> str:
        """Why nothing was added, or why it was taken back."""
        return str(self.details.get("reason", ""))

    @property
    def places(self) -> str:
        """The sites that got units, each once: `hidden 1 ×3; hidden 2`."""
        times = Counter(self.site.split("; "))
        return "; ".join(name if n == 1 else f"{name} ×{n}" for name, n in times.items())

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> GrowthEvent:
        """A line as it was written, by this grow or an earlier one; unknown fields are left out."""
        return cls(**{key: value for key, value in entry.items() if key in cls.__annotations__ and value is not None})


_WIDTHS = ("widths_before", "widths_after")
_KINDS = {
    "int": reading.WHOLE,
    "float": reading.NUMBER,
    "str": reading.TEXT,
    "list[str]": (lambda value: _list_of(value, str), "a list of text"),
    "list[dict[str, Any]]": (lambda value: _list_of(value, dict), "a list of objects"),
    "dict[str, Any]": reading.OBJECT,
    "Mapping[str, float | None]": (
        lambda value: isinstance(value, dict) and all(v is None or reading.number(v) for v in value.values()),
        "an object of numbers",
    ),
}
# kind of a field, by its annotation and its name; null is let by in any case
_FIELDS = {f.name: _KINDS[str(f.type).removesuffix(" | None")] for f in fields(GrowthEvent)} | {
    "units_added": (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    **dict.fromkeys(_WIDTHS, reading.WIDTHS),
}


def _list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(one, kind) for one in value)


def growth_events(folder: RunFolder) -> list[GrowthEvent]:
    """The lines of growth.jsonl; none where there is no such file. Damaged, with the line, where one is not grow's.

    A kill leaves the last line as far as it was written: a warning says that it is left out.
    """
    path = folder.growth
    if not is_there(path):
        return []
    whole, torn = reading.lines(path, folder.path)
    if torn:
        folder.say_once(f"the last line of {path} is incomplete (the run was killed while writing it) and is ignored")
    return [_event(path, number, line) for number, line in enumerate(whole, 1)]


def _event(path: Path, number: int, line: str) -> GrowthEvent:
    try:
        entry = reading.parsed(line)
    except ValueError as error:
        raise reading.damaged(path, first_line(error), line=number) from error
    if not isinstance(entry, dict):
        raise reading.damaged(path, "it is no JSON object", line=number)
    reading.check_fields(path, entry, _FIELDS, line=number)
    return GrowthEvent.from_json(entry)
