"""Reading mistakes/mistakes.csv: the neurons that were grown for a mistake, each with its picture."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grow_cli.errors import UserError
from grow_cli.files import is_there
from grow_cli.records import reading
from grow_cli.records.events import growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import counted


@dataclass(frozen=True)
class Neuron:
    """A row of mistakes.csv and its picture."""

    row: dict[str, Any]
    """Text; empty cells are None."""
    png: bytes | None
    """None where it was lost."""


# column → what its cells are; others are not read
_NUMBERS = ("neuron", "event", "step", "unit", "sample", "mistakes", "cluster")
_PERHAPS = ("cluster_after", "cluster_at_end")
_CELLS = {
    **dict.fromkeys(_NUMBERS, re.compile(r"[0-9]{1,15}")),
    **dict.fromkeys(_PERHAPS, re.compile(r"[0-9]{0,15}")),
    "right_at_end": re.compile(r"[01]?"),
    "rolled_back": re.compile(r"[01]"),
    # its own pictures and nothing else: a page shows what this names to whoever the page is sent to
    "picture": re.compile(r"neuron-[0-9]{3,9}\.png"),
}
_TEXTS = ("predicted", "true", "predicted_at_end", "distance")


def has_mistakes(folder: RunFolder) -> bool:
    """Whether the run has written down for which mistakes its neurons were grown."""
    return is_there(_table(folder))


def _table(folder: RunFolder) -> Path:
    return folder.path / "mistakes" / "mistakes.csv"


def read_mistakes(folder: RunFolder) -> list[Neuron]:
    """The neurons in the order in which they were grown; UserError where there are none, Damaged where a file is not grow's."""
    table = _table(folder)
    if not has_mistakes(folder):
        grown = any(event.resized for event in growth_events(folder))
        why = (
            "its neurons were not grown for mistakes, or the folder was not copied with the run"
            if grown
            else "nothing has grown yet"
        )
        raise UserError(f"{table} does not exist: {why}; a run with method=fold has one after its first growth")
    try:
        rows = list(csv.reader(reading.text(table, folder.path).splitlines()))
    except csv.Error as error:
        raise reading.damaged(table, str(error)) from error
    header = rows[0] if rows else []
    for name in (*_CELLS, *_TEXTS):
        if name not in header:
            raise reading.damaged(table, f"it has no column {name}", line=1)
    return [_neuron(folder, table, number, header, row) for number, row in enumerate(rows[1:], 2)]


def _neuron(folder: RunFolder, table: Path, number: int, header: list[str], row: list[str]) -> Neuron:
    if len(row) != len(header):
        raise reading.damaged(
            table, f"it has {counted(len(row), 'cell')} for {counted(len(header), 'column')}", line=number
        )
    cells = dict(zip(header, row, strict=True))
    for name, kind in _CELLS.items():
        if not kind.fullmatch(cells[name]):
            raise reading.damaged(table, f"{name} is {cells[name][:60]!r}", line=number)
    try:
        distance = float(cells["distance"])
    except ValueError:
        distance = math.nan
    if not math.isfinite(distance):
        raise reading.damaged(table, f"distance is {cells['distance'][:60]!r}", line=number)
    picture = table.with_name(cells["picture"])
    png = reading.png(picture, folder.path) if is_there(picture) else None
    return Neuron({name: cells[name] or None for name in (*_CELLS, *_TEXTS)}, png)
