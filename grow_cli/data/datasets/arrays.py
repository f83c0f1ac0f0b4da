"""One's own arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grow_cli.data.base import RawData
from grow_cli.data.datasets.own import OwnFile
from grow_cli.errors import UserError
from grow_cli.files import expanded
from grow_cli.registry import option


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
        parted = "x_train" in found
        wanted = ("x_train", "y_train", "x_test", "y_test") if parted else ("x", "y")
        absent = [name for name in wanted if name not in found]
        if absent:
            raise UserError(
                f"{path} has no array {', '.join(absent)}: x and y are needed, or x_train, y_train, x_test and y_test; it has "
                f"{', '.join(sorted(found)) or 'none'}"
            )
        x = [arrays.samples(found[name], f"{path}: {name}") for name in wanted[::2]]
        read = [arrays.targets(found[name], f"{path}: {name}", self.task) for name in wanted[1::2]]
        task, y = read[0][0], [part[1] for part in read]
        for name, samples, part in zip(wanted[::2], x, y, strict=True):
            if len(samples) != len(part) or not len(part):
                raise UserError(
                    f"{path}: {name} has {len(samples)} samples and {len(part)} targets; both must be as many"
                )
        t, classes, table = arrays.learn_targets(y, task, f"{path}: y", "y")
        if not parted:
            parts = self.cut_test(t[0], str(path), "samples")
            x, t = [x[0][part] for part in parts], [t[0][part] for part in parts]
        return RawData(x[0], t[0], x[1], t[1], task=task, classes=classes, table=table)
