"""A table as numbers: its columns, and how a row becomes a vector, as plain data that a checkpoint stores.

A column of numbers keeps its values: an empty cell becomes the median, and a second column says where, if the training
part has any. A column of anything else becomes a column of 0 and 1 for each of its values; an empty cell is a value
like others, and a value that the training part lacks is all zeros. Everything is learned from the training part and
applied unchanged to every other table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from grow_cli.errors import UserError, first_line
from grow_cli.words import listed

SUFFIXES = (".csv", ".tsv", ".parquet", ".npz")
MOST_CLASSES = 20
"""Whole numbers with more distinct values than this are a quantity, unless `dataset.task` is given."""


class Encoded(NamedTuple):
    """Rows as vectors."""

    x: np.ndarray
    """(N, d) float32."""
    y: np.ndarray | None
    """(N,) int64 classes, (N, 1) float32 in units of its spread, or None where no target was asked for."""
    unseen: dict[str, list[str]]
    """Column → its values that the training part had not."""


def read(path: Path | Any, name: str = "") -> pd.DataFrame:
    """The table in a file (or an open stream of CSV), a row each; UserError where it is none."""
    name = name or str(path)
    try:
        frame = _read(path)
    except FileNotFoundError:
        raise UserError(f"{name}: there is no such file: give dataset.path the path of a table") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{name} is empty: a table needs a line of column names, then a line per row") from None
    except ImportError:
        raise UserError(
            f"{name}: parquet needs a package that is not installed: pip install 'grow-cli[parquet]'"
        ) from None
    except UserError:
        raise
    except Exception as error:  # every format has exceptions of its own
        raise UserError(
            f"{name} cannot be read as a table ({first_line(error)}): give a CSV, parquet or npz file"
        ) from error
    frame.columns = [str(column).strip() for column in frame.columns]
    if not len(frame):
        raise UserError(f"{name} has column names but no rows: give a table with samples")
    return frame


def _read(path: Path | Any) -> pd.DataFrame:
    if not isinstance(path, Path):
        return pd.read_csv(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give dataset.path a table ({', '.join(SUFFIXES)})")
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".npz":
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in arrays.files}
        wide = next((name for name, column in columns.items() if column.ndim != 1), None)
        if wide is not None:
            raise UserError(
                f"{path}: {wide} has the shape {columns[wide].shape}, and a column must be (N,): use dataset=arrays"
            )
        return pd.DataFrame(columns)
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
    separator = max(",;\t", key=first.count) if path.suffix != ".tsv" else "\t"
    return pd.read_csv(path, sep=separator, encoding="utf-8-sig", skipinitialspace=True)


def task_of(values: pd.Series, said: str) -> str:
    """`classification` or `regression`, as said, or by what the target is."""
    if said != "auto":
        return said
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return "classification"
    whole = bool((values == values.round()).all())
    return "classification" if whole and values.nunique() <= MOST_CLASSES else "regression"


def target_of(frame: pd.DataFrame, name: str | None, where: str) -> str:
    """The target's column; UserError that lists them where it is not there."""
    if name is None:
        raise UserError(f"dataset=table needs dataset.target: one of {listed(frame.columns)} ({where})")
    if name not in frame.columns:
        raise UserError(f"dataset.target={name}: {where} has no such column; it has {listed(frame.columns)}")
    return name


def classes_of(values: pd.Series, name: str) -> tuple[str, ...]:
    """The target's values in order; UserError where it cannot be learned."""
    numeric = pd.api.types.is_numeric_dtype(values)
    found = sorted(values.unique(), key=float if numeric else str)
    if len(found) < 2:
        raise UserError(
            f"dataset.target={name} has only one value ({text_of(found[0])}), so there is nothing to learn: "
            "choose another column"
        )
    if 2 * len(found) > len(values):
        raise UserError(
            f"dataset.target={name} has {len(found)} values in {len(values):,} rows, too many classes to learn: for a "
            "quantity set dataset.task=regression"
        )
    return tuple(map(text_of, found))


def learn(
    frame: pd.DataFrame, target: str, task: str, drop: Sequence[str], categories: Sequence[str], most: int
) -> dict[str, Any]:
    """How rows of this training part become vectors, as plain data; UserError for a column that is neither kind."""
    for key, names in (("drop", drop), ("categories", categories)):
        wrong = next((name for name in names if name not in frame.columns), None)
        if wrong is not None:
            raise UserError(f"dataset.{key}: there is no column {wrong}; there are {listed(frame.columns)}")
    inputs = [name for name in frame.columns if name != target and name not in drop]
    columns = [_column(frame[name], name, name in categories, most) for name in inputs]
    columns = [column for column in columns if column]
    if not columns:
        raise UserError(
            f"except for dataset.target={target} the table has no column with values, so there is nothing to learn from"
        )
    kept: dict[str, Any] = {"columns": columns, "target": target, "task": task}
    if task == "regression":
        if not pd.api.types.is_numeric_dtype(frame[target]):
            raise UserError(f"dataset.target={target} holds text: set dataset.task=classification")
        values = frame[target].astype(float)
        spread = float(values.std(ddof=0))
        if not spread > 0:
            raise UserError(
                f"dataset.target={target} has only one value ({values.iloc[0]:g}), so there is nothing to learn: "
                "choose another column"
            )
        kept |= {"mean": float(values.mean()), "spread": spread}
    return kept


def _column(values: pd.Series, name: str, category: bool, most: int) -> dict[str, Any]:
    if values.isna().all():
        return {}
    if pd.api.types.is_bool_dtype(values):
        values = values.astype(float)
    if pd.api.types.is_numeric_dtype(values) and not category:
        finite = values.astype(float).replace([np.inf, -np.inf], np.nan)
        return {
            "name": name,
            "kind": "number",
            "fill": float(finite.median()) if finite.notna().any() else 0.0,
            "missing": bool(finite.isna().any()),
        }
    _refuse_mixed(values, name, category)
    found = sorted({text_of(value) for value in values})
    if len(found) > most:
        raise UserError(
            f"the column {name} has {len(found):,} different values, like {found[0]!r}, and dataset.most_values={most}: leave it "
            f"out with 'dataset.drop=[{name}]', or allow more"
        )
    return {"name": name, "kind": "category", "values": found}


def _refuse_mixed(values: pd.Series, name: str, category: bool) -> None:
    if category or pd.api.types.is_numeric_dtype(values):
        return
    there = values.dropna()
    numbers = pd.to_numeric(there, errors="coerce").notna()
    if numbers.mean() > 0.5 and not numbers.all():
        row = there.index[~numbers.to_numpy()][0]
        raise UserError(
            f"the column {name} holds numbers, and {there[row]!r} in row {row + 1}: empty that cell, or set "
            f"'dataset.categories=[{name}]'"
        )


def encode(frame: pd.DataFrame, kept: dict[str, Any], classes: Sequence[str], where: str, *, labelled: bool) -> Encoded:
    """Rows as vectors, as `learn` has it; UserError where the table is of another kind."""
    parts: list[np.ndarray] = []
    unseen: dict[str, list[str]] = {}
    wanted = [column["name"] for column in kept["columns"]]
    absent = [name for name in wanted if name not in frame.columns]
    if absent:
        raise UserError(
            f"{where} has no column {', '.join(absent)}, which the net was trained with: it has {listed(frame.columns)}"
        )
    for column in kept["columns"]:
        values = frame[column["name"]]
        if column["kind"] == "number":
            parts += _numbers(values, column, where)
        else:
            texts = values.map(text_of)
            new = sorted(set(texts) - set(column["values"]))
            if new:
                unseen[column["name"]] = new
            parts.append(
                (texts.to_numpy()[:, None] == np.array(column["values"], dtype=object)[None, :]).astype(np.float32)
            )
    x = np.concatenate([part.reshape(len(frame), -1) for part in parts], axis=1, dtype=np.float32)
    return Encoded(x, _target(frame, kept, classes, where) if labelled else None, unseen)


def _numbers(values: pd.Series, column: dict[str, Any], where: str) -> list[np.ndarray]:
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = values.index[(numbers.isna() & values.notna()).to_numpy()]
    if len(wrong):
        raise UserError(
            f"{where}: {values[wrong[0]]!r} in row {wrong[0] + 1} of the column {column['name']}, which must hold numbers"
        )
    numbers = numbers.astype(float).replace([np.inf, -np.inf], np.nan)
    missing = numbers.isna().to_numpy()
    filled = numbers.fillna(column["fill"]).to_numpy(np.float32)
    return [filled, missing.astype(np.float32)] if column["missing"] else [filled]


def _target(frame: pd.DataFrame, kept: dict[str, Any], classes: Sequence[str], where: str) -> np.ndarray:
    name = kept["target"]
    if name not in frame.columns:
        raise UserError(f"{where} has no target column {name}: it has {listed(frame.columns)}")
    if frame[name].isna().any():
        row = int(np.flatnonzero(frame[name].isna().to_numpy())[0])
        raise UserError(
            f"{where}: row {row + 1} has no value in the target column {name}: fill it in, or remove the row"
        )
    if kept["task"] == "regression":
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise UserError(
                f"{where}: {frame[name].iloc[row]!r} in row {row + 1} of the target column {name} is not a number"
            )
        return ((values - kept["mean"]) / kept["spread"]).astype(np.float32)[:, None]
    new = sorted(set(frame[name].map(text_of)) - set(classes))
    if new:
        raise UserError(f"{where}: the target column {name} holds {new[0]!r}, and the net knows only {listed(classes)}")
    return labels_of(frame[name], classes)


def labels_of(values: pd.Series, classes: Sequence[str]) -> np.ndarray:
    """(N,) int64 places among the classes, each of which must be one."""
    return values.map(text_of).map({value: i for i, value in enumerate(classes)}).to_numpy(np.int64)


def text_of(value: Any) -> str:
    """A cell as a name: 3 and 3.0 are the same, an empty one is ''."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def check_plain(kept: Any) -> None:
    """TypeError unless this, from a file, is what `learn` gives."""
    kinds: dict[str, dict[str, type]] = {"number": {"fill": float, "missing": bool}, "category": {"values": list}}
    good = (
        isinstance(kept, dict)
        and isinstance(kept.get("target"), str)
        and kept.get("task") in ("classification", "regression")
        and isinstance(kept.get("columns"), list)
        and all(
            isinstance(c, dict)
            and isinstance(c.get("name"), str)
            and c.get("kind") in kinds
            and all(isinstance(c.get(field), kind) for field, kind in kinds[c["kind"]].items())
            and all(isinstance(value, str) for value in c.get("values", []))
            for c in kept["columns"]
        )
        and (kept["task"] == "classification" or all(isinstance(kept.get(name), float) for name in ("mean", "spread")))
    )
    if not good:
        raise TypeError("table is not what a dataset gives")
