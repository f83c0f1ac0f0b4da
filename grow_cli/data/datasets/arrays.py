"""A user's arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grow_cli.data.base import RawData
from grow_cli.data.datasets.own import OwnFile
from grow_cli.errors import UserError
from grow_cli.files import expanded
from grow_cli.registry import option
from grow_cli.words import counted


@option("dataset", "arrays")
@dataclass
class Arrays(OwnFile):
    """`x` and `y` of an npz or pt file, or `x_train`, `y_train`, `x_test`, `y_test`: vectors, or images as bytes.

    With `task=auto` whole numbers and names are classes, other numbers quantities.
    """

    def load(self, data_dir: Path) -> RawData:
        from grow_cli.data import arrays

        if not self.path:
            raise UserError("dataset=arrays needs dataset.path: an npz or pt file with x and y")
        path = expanded(self.path)
        found = arrays.read(path)
        ends = {"train": "_train", "test": "_test"} if "x_train" in found else {"train": ""}
        absent = [name for end in ends.values() for name in (f"x{end}", f"y{end}") if name not in found]
        if absent:
            raise UserError(
                f"{path} has no array {', '.join(absent)}: give x and y, or x_train, y_train, x_test and y_test; it has "
                f"{', '.join(sorted(found)) or 'none'}"
            )
        x = {part: arrays.samples(found[f"x{end}"], f"{path}: x{end}") for part, end in ends.items()}
        read = [arrays.targets(found[f"y{end}"], f"{path}: y{end}", self.task) for end in ends.values()]
        task, y = read[0][0], [part[1] for part in read]
        for (part, end), of_part in zip(ends.items(), y, strict=True):
            if len(x[part]) != len(of_part) or not len(of_part):
                raise UserError(
                    f"{path}: x{end} has {counted(len(x[part]), 'sample')} and {counted(len(of_part), 'target')}; the "
                    "numbers must be equal"
                )
        t, classes, table = arrays.learn_targets(y, task, f"{path}: y", "y")
        y_of = dict(zip(ends, t, strict=True))
        return self.raw(x, y_of, str(path), "samples", task=task, classes=classes, table=table)
