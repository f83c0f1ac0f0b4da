"""One's own table: a file with a row per sample, and a column that is to be predicted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grow_cli.data.base import RawData
from grow_cli.data.datasets.own import OwnFile
from grow_cli.errors import UserError
from grow_cli.files import expanded
from grow_cli.keys import key
from grow_cli.registry import option

if TYPE_CHECKING:
    import pandas as pd


@option("dataset", "table")
@dataclass
class Table(OwnFile):
    """Rows of numbers and categories, cells may be empty; `grow_cli.data.tables` says what becomes of them.

    `path` is a .csv, .tsv or .parquet, or an .npz with an array per column; with `task=auto` a target with fractions, or with
    more than 20 values, is a quantity.
    """

    target: str | None = None
    """The column that is predicted."""
    drop: list[str] = field(default_factory=list)
    """Columns that are left out: names, identifiers, what is known only afterwards."""
    categories: list[str] = field(default_factory=list)
    """Columns of numbers that are names (a postcode, say)."""
    most_values: int = key(100, at_least=2, at_most=10_000)
    """Different values that a column of categories may have."""
    test_path: str | None = key(None, role="data", path=True)
    """The test part, a table with the same columns; null: a part of the rows is."""

    def load(self, data_dir: Path) -> RawData:
        return self.load_like(data_dir, None)

    def load_like(self, data_dir: Path, kept: dict[str, Any] | None) -> RawData:
        import numpy as np
        import torch

        from grow_cli.data import tables

        if not self.path:
            raise UserError(
                "dataset=table needs dataset.path, a file (.csv, .parquet, .npz), and dataset.target, a column of it"
            )
        path = expanded(self.path)
        frame = tables.read(path)
        target = tables.target_of(frame, self.target, str(path))
        frame = _with_target(frame, target, str(path))
        task = tables.task_of(frame[target], self.task)
        beside = tables.read(expanded(self.test_path)) if self.test_path else None
        seen = frame[target] if beside is None or target not in beside else _joined(frame, beside, target)
        classes = tables.classes_of(seen, target) if task == "classification" else ()
        if beside is None:
            labels = tables.labels_of(frame[target], classes) if classes else np.zeros(len(frame), np.int64)
            train, test = self.cut_test(torch.tensor(labels), path, "rows")
            beside, frame = frame.iloc[test.numpy()], frame.iloc[train.numpy()]
        if kept is None:
            kept = tables.learn(frame, target, task, self.drop, self.categories, self.most_values)
        parts = [tables.encode(part, kept, classes, str(path), labelled=True) for part in (frame, beside)]
        x, y = zip(*((torch.tensor(part.x), torch.tensor(part.y)) for part in parts if part.y is not None), strict=True)
        return RawData(x[0], y[0], x[1], y[1], task=task, classes=classes, table=kept)


def _with_target(frame: pd.DataFrame, target: str, where: str) -> pd.DataFrame:
    """Its rows that have one; UserError where none has."""
    from grow_cli.console import warn

    there = frame[frame[target].notna()]
    if there.empty:
        raise UserError(f"{where}: no row has a value of {target}, the target: choose another dataset.target")
    left_out = len(frame) - len(there)
    if left_out:
        warn(f"{where}: rows without {target} are left out ({left_out:,} of {len(frame):,})")
    return there


def _joined(frame: pd.DataFrame, beside: pd.DataFrame, target: str) -> pd.Series:
    import pandas as pd

    return pd.concat([frame[target], beside[target]]).dropna()
