"""Reading metrics.csv: its axes, and the file as a DataFrame."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from grow_cli.errors import UserError
from grow_cli.files import is_there
from grow_cli.records import reading
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import counted
from grow_cli.tasks import TASKS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Axis:
    """What a curve can be drawn against."""

    column: str
    """Of metrics.csv."""
    words: str
    """As a reader sees it."""


AXES = {
    "steps": Axis("step", "steps"),
    "epochs": Axis("epoch", "epochs"),
    "seconds": Axis("seconds", "seconds"),
    "flops": Axis("flops", "FLOPs"),
    "parameters": Axis("parameters", "parameters"),
}
"""As a user types it → where it stands and how it is called."""


_COUNTS = ("step", "seconds", "flops", "parameters", "epoch")
# What a column's name ends with → between which numbers its cells lie; a net that diverges may reach the worse one.
_BOUNDS = {
    "_loss": (0.0, math.inf),
    "_bits_per_byte": (0.0, math.inf),
    "_accuracy": (0.0, 1.0),
    "_r2": (-math.inf, 1.0),
}


def read_metrics(folder: RunFolder, needed: Collection[str] = ()) -> pd.DataFrame:
    """metrics.csv, `widths` as text, all else numbers; UserError where it holds no evaluation, Damaged where it is not grow's.

    A kill leaves the last row as far as it was written: a warning says that it is left out.

    :param needed: columns that must be there besides the axes and the validation score
    """
    import pandas as pd

    path = folder.metrics
    if not is_there(path):
        raise UserError(f"{folder.path} has no metrics.csv yet: wait for the first evaluation, or name another run")
    whole, torn = reading.lines(path, folder.path)
    if torn:
        folder.say_once(f"the last row of {path} is incomplete (the run was killed while writing it) and is ignored")
    if len(whole) < 2:
        raise UserError(f"{path} is empty: wait for the first evaluation, or name another run")
    rows = _rows(path, whole)
    for name in (*_COUNTS, *needed):
        if name not in rows[0]:
            raise reading.damaged(path, f"it has no column {name}", line=1)
    if not {task.column("val") for task in TASKS.values()} & set(rows[0]):
        raise reading.damaged(path, "it has no column with a validation score", line=1)
    _check(path, rows)
    return pd.read_csv(StringIO("\n".join(whole)), dtype={"widths": str}, low_memory=False).fillna({"widths": ""})


def _rows(path: Path, whole: list[str]) -> list[list[str]]:
    """The header and its rows, each as long."""
    try:
        rows = list(csv.reader(whole))
    except csv.Error as error:
        raise reading.damaged(path, str(error)) from error
    header = rows[0]
    if len(set(header)) < len(header):
        raise reading.damaged(path, "two columns have one name", line=1)
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise reading.damaged(path, f"it has {counted(len(row), 'cell')} for {len(header)} columns", line=number)
    return rows


def _check(path: Path, rows: list[list[str]]) -> None:
    """Every cell is a number or empty; what a run has spent is there at every row and finite."""
    header = rows[0]
    for number, row in enumerate(rows[1:], 2):
        for name, cell in zip(header, row, strict=True):
            if name == "widths":
                fits = reading.widths(cell)
            elif name in _COUNTS:
                value = _value(cell)
                fits = value is not None and 0 <= value < reading.LARGEST
            else:
                value = _value(cell) if cell else math.nan
                low, high = next(
                    (bounds for end, bounds in _BOUNDS.items() if name.endswith(end)), (-math.inf, math.inf)
                )
                fits = value is not None and not (value < low or value > high)
            if not fits:
                raise reading.damaged(path, f"{name} is {cell[:40]!r}", line=number)


def _value(cell: str) -> float | None:
    """Its number, as it is written by a run; None where it is none. Beyond 1e100 there is infinity alone."""
    try:
        value = float(cell)
    except ValueError:
        return None
    odd = "_" in cell or not cell.isascii() or reading.LARGEST < abs(value) < math.inf
    return None if odd or cell != cell.strip() else value
