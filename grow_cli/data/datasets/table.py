"""A user's table: a file with a row per sample, and a column to predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grow_cli.data.base import RawData
from grow_cli.data.datasets.own import OwnColumns
from grow_cli.errors import UserError
from grow_cli.files import expanded
from grow_cli.keys import key
from grow_cli.registry import option


@option("dataset", "table")
@dataclass
class Table(OwnColumns):
    """Rows of numbers and categories, possibly with empty cells; `grow_cli.data.tables` describes the encoding.

    `path` is a .csv, .tsv or .parquet, or an .npz with an array per column; with `task=auto` a target with fractions, or with
    more than 20 values, is a quantity.
    """

    test_path: str | None = key(None, role="data", path=True)
    """The test part, a table with the same columns; null: a part of the rows."""

    def load_like(self, data_dir: Path, kept: dict[str, Any] | None) -> RawData:
        from grow_cli.data import tables

        if not self.path:
            raise UserError(
                "dataset=table needs dataset.path, a file (.csv, .parquet, .npz), and dataset.target, a column of it"
            )
        path = expanded(self.path)
        frame = tables.read(path)
        target = tables.target_of(frame, self.target, str(path))
        parts = {"train": frame}
        if self.test_path:
            parts["test"] = tables.read(expanded(self.test_path))
        return self.of_rows(parts, target, str(path), kept)
