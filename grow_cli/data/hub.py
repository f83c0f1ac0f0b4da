"""Datasets of the Hugging Face library `datasets`: its columns as a table's, its images as files in memory.

The columns are taken as Arrow holds them, so that an image comes as the bytes of its file and is decoded as every other
image is. Nothing of a dataset is executed: scripts are refused by the versions of the library that are asked for.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError, first_line
from grow_cli.files import expanded

if TYPE_CHECKING:
    import pandas as pd

    from grow_cli.data.images import Held

_SAVED = ("dataset_dict.json", "state.json")
"""What `save_to_disk` leaves in the folder of several splits, and of one."""


def load(path: str, configuration: str | None, alone: str) -> dict[str, Any]:
    """Name of a split → `datasets.Dataset`; UserError where there is none.

    :param path: a folder, or else a name on the Hub
    :param configuration: which one of a dataset that has several
    :param alone: the name of the one split of a dataset that was saved without its splits' names
    """
    try:
        import datasets
    except ImportError:
        raise UserError(
            "dataset=huggingface needs a package that is not installed: pip install 'grow-cli[huggingface]'"
        ) from None
    folder = expanded(path)
    if not folder.is_dir() and (folder.exists() or path.startswith((".", "/", "~")) or path.count("/") > 1):
        what = "it is a file (a CSV or parquet is dataset=table)" if folder.exists() else "there is no such folder"
        raise UserError(f"dataset.path={path}: {what}: give a folder of save_to_disk, or a name on the Hub")
    try:
        with _bars_where_they_are_seen(datasets):
            if any((folder / name).is_file() for name in _SAVED):
                found = datasets.load_from_disk(str(folder))
            else:
                found = datasets.load_dataset(str(folder) if folder.is_dir() else path, configuration)
    except Exception as error:  # the network's, the Hub's and every format's
        raise UserError(
            f"dataset.path={path} cannot be read as a dataset ({first_line(error).rstrip('. ')}): give a folder of "
            "save_to_disk, or a name on the Hub, which needs a connection the first time"
        ) from error
    return {str(k): v for k, v in found.items()} if isinstance(found, dict) else {alone: found}


@contextlib.contextmanager
def _bars_where_they_are_seen(datasets: Any) -> Iterator[None]:
    shown = datasets.utils.logging.is_progress_bar_enabled()
    if shown and not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


CELLS = ("classes", "cell")
"""The kinds of columns that a table has."""


def kind(feature: Any) -> str:
    """`classes`, `image`, `cell` (a number, a truth value, a text, a time), or the name of what no net here reads."""
    name = type(feature).__name__
    return {"ClassLabel": "classes", "Image": "image", "Value": "cell"}.get(name, name)


def values(split: Any, column: str) -> list[Any]:
    """A column's cells, classes by their names; None where there is none (a label of -1 is none)."""
    feature = split.features[column]
    cells = _arrow(split, [column]).column(column).to_pylist()
    if kind(feature) != "classes":
        return list(cells)
    return [None if cell is None or cell < 0 else feature.names[cell] for cell in cells]


def frame(split: Any, drop: list[str], where: str) -> pd.DataFrame:
    """The columns as a table's; UserError for one that has no cells."""
    import pandas as pd

    kinds = {name: kind(feature) for name, feature in split.features.items() if name not in drop}
    wrong = next((name for name, found in kinds.items() if found not in CELLS), None)
    if wrong is not None:
        raise UserError(
            f"{where}: the column {wrong} holds {kinds[wrong]}, and a table can hold only numbers, texts and classes: leave "
            "it out with "
            f"'dataset.drop=[{wrong}]'"
        )
    table = _arrow(split, list(kinds)).to_pandas()
    for name in (name for name, found in kinds.items() if found == "classes"):
        table[name] = pd.Series(values(split, name), dtype=object)
    table.columns = [str(column) for column in table.columns]
    return table


def pictures(split: Any, column: str, where: str) -> list[str | Held]:
    """A column's image files: paths, or files in memory."""
    from grow_cli.data.images import Held

    found: list[str | Held] = []
    for row, cell in enumerate(_arrow(split, [column]).column(column).to_pylist(), 1):
        cell = cell or {}
        if cell.get("bytes") is not None:
            found.append(Held(f"{where}: row {row}", cell["bytes"]))
        elif cell.get("path") and Path(cell["path"]).is_file():
            found.append(str(cell["path"]))
        else:
            raise UserError(f"{where}: row {row} has no image in the column {column}: leave such rows out")
    return found


def _arrow(split: Any, columns: list[str]) -> Any:
    """As the library stores them, in the order of its rows; nothing is decoded."""
    return split.select_columns(columns).with_format("arrow")[:]
