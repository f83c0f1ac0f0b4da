"""Shared by a user's own data: whether targets are classes or quantities, which samples are the test part, what a column is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grow_cli.data.base import DatasetOption, RawData
from grow_cli.errors import UserError
from grow_cli.files import expanded
from grow_cli.keys import key
from grow_cli.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from torch import Tensor

_LEAST = 5  # samples


@dataclass
class OwnFile(DatasetOption):
    """A file with samples and targets."""

    path: str | None = key(None, role="data", path=True)
    """The file."""
    task: str = key("auto", one_of=("auto", "classification", "regression"))
    """auto: decided by the targets."""
    test: float = key(0.2, above=0, below=1, role="split")
    """Fraction of the samples that become the test part if none is given; stratified by class."""
    test_seed: int = key(0, at_least=0, at_most=2**63 - 1, role="split")
    """Seed of that choice; independent of all other seeds."""

    def at_hand(self, data_dir: Path) -> bool:
        return self.path is not None and expanded(self.path).is_file()

    def cut_test(self, targets: Tensor, where: str, samples: str) -> tuple[Tensor, Tensor]:
        """Indices of the training and of the test part, each class (N, of whole numbers) in the same proportion."""
        import torch

        from grow_cli.data import splits

        if len(targets) < _LEAST:
            raise UserError(
                f"{where} has {counted(len(targets), samples.removesuffix('s'))}, too few to train and test on: give at "
                f"least {_LEAST}"
            )
        labels = torch.zeros(len(targets), dtype=torch.int64) if targets.is_floating_point() else targets
        return splits.cut(labels, self.test, self.test_seed)

    def raw(self, x: dict[str, Tensor], y: dict[str, Tensor], where: str, samples: str, **known: Any) -> RawData:
        """The inputs and targets of `train`, and of `test` and `val` where they are given; else a part is the test part.

        :param known: other fields of `RawData`
        """
        if "test" not in x:
            train, test = self.cut_test(y["train"], where, samples)
            x, y = (of | {"train": of["train"][train], "test": of["train"][test]} for of in (x, y))
        held_out = (x["val"], y["val"]) if "val" in x else None
        return RawData(x["train"], y["train"], x["test"], y["test"], held_out=held_out, **known)


@dataclass
class OwnColumns(OwnFile):
    """Rows of numbers and categories, one column of which is predicted."""

    target: str | None = None
    """The column to predict."""
    drop: list[str] = field(default_factory=list)
    """Columns to leave out: names, identifiers, facts that are known only afterwards."""
    categories: list[str] = field(default_factory=list)
    """Columns whose numbers are names, such as a postcode."""
    most_values: int = key(100, at_least=2, at_most=10_000)
    """The most different values that a categorical column may have."""

    def load(self, data_dir: Path) -> RawData:
        return self.load_like(data_dir, None)

    def of_rows(
        self,
        parts: dict[str, pd.DataFrame],
        target: str,
        where: str,
        kept: dict[str, Any] | None,
    ) -> RawData:
        """Rows as vectors, as `kept` has it or as the training part teaches.

        :param parts: `train`, and `test` and `val` where they are given; without `test` a part of the rows is
        :param kept: of a trained net: `RawData.table`
        """
        import numpy as np
        import pandas as pd
        import torch

        from grow_cli.data import tables

        frame = _with_target(parts["train"], target, where)
        parts = parts | {"train": frame}
        task = tables.task_of(frame[target], self.task)
        labelled = [part[target] for part in parts.values() if target in part]
        classes = tables.classes_of(pd.concat(labelled).dropna(), target) if task == "classification" else ()
        if "test" not in parts:
            labels = tables.labels_of(frame[target], classes) if classes else np.zeros(len(frame), np.int64)
            train, test = self.cut_test(torch.tensor(labels), where, "rows")
            parts |= {"train": frame.iloc[train.numpy()], "test": frame.iloc[test.numpy()]}
        if kept is None:
            kept = tables.learn(parts["train"], target, task, self.drop, self.categories, self.most_values)
        read = {name: tables.encode(part, kept, classes, where, labelled=True) for name, part in parts.items()}
        x, y = ({name: torch.tensor(part[i]) for name, part in read.items()} for i in (0, 1))
        return self.raw(x, y, where, "rows", task=task, classes=classes, table=kept)


def _with_target(frame: pd.DataFrame, target: str, where: str) -> pd.DataFrame:
    """Its rows that have one; UserError where none has."""
    from grow_cli.console import warn

    there = frame[frame[target].notna()]
    if there.empty:
        raise UserError(f"{where}: the target column {target} is empty: choose another dataset.target")
    left_out = len(frame) - len(there)
    if left_out:
        warn(f"{where}: rows without {target} are left out ({left_out:,} of {len(frame):,})")
    return there
