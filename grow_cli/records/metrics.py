"""metrics.csv as it is read: its axes, and the file as a frame."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.errors import UserError
from grow_cli.records.folder import RunFolder

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


def read_metrics(folder: RunFolder, needed: Collection[str] = ()) -> pd.DataFrame:
    """metrics.csv, `widths` as text; UserError where it holds no evaluation, is damaged, or lacks a needed column."""
    import pandas as pd

    if not folder.metrics.is_file():
        raise UserError(
            f"{folder.path} has no metrics.csv yet: wait for the run's first evaluation, or name another run"
        )
    try:
        metrics = pd.read_csv(folder.metrics, dtype={"widths": str}).fillna({"widths": ""})
    except pd.errors.EmptyDataError:
        metrics = pd.DataFrame()
    except ValueError as error:  # pandas' ParserError, too
        raise UserError(f"{folder.metrics} is damaged ({error}): restore it from a copy") from error
    if metrics.empty:
        raise UserError(f"{folder.metrics} is empty: wait for the run's first evaluation, or name another run")
    missing = [name for name in needed if name not in metrics]
    if missing:
        raise UserError(f"{folder.metrics} is damaged: it has no column {missing[0]}; restore it from a copy")
    return metrics
