"""A dataset of the Hugging Face library `datasets`, from a folder or from the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grow_cli.data.base import RawData
from grow_cli.data.datasets.own import OwnColumns
from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.registry import option

if TYPE_CHECKING:
    import numpy as np

    from grow_cli.data.images import Held


@option("dataset", "huggingface")
@dataclass
class HuggingFace(OwnColumns):
    """Images with a label, or rows of numbers and categories; needs the package `datasets` (extra `huggingface`).

    `path` is a folder of `save_to_disk`, which needs no network, or a name on the Hub (`ylecun/mnist`). A column of
    images is read as in `dataset=image_folder`, and all other columns except the target are ignored; without one the
    columns are a table, as in `dataset=table`. `target=null` is the one column of class labels.
    """

    configuration: str | None = None
    """Which configuration of a dataset on the Hub that has several."""
    train_split: str = "train"
    """The split to train on."""
    validation_split: str = "validation"
    """The split that is validated on; where it is absent, `validation` is cut from the training part."""
    test_split: str = "test"
    """The test part; where it is absent or has no labels, the validation split is, and without that a part of the training's."""
    size: int | None = key(None, at_least=1, unit="pixel", null="to leave the images as they are")
    """Scale and centre-crop every image to this many pixels a side; null: all images have one size already."""
    background: int = key(255, at_least=0, at_most=255)
    """Grey level behind transparent pixels, from 0 (black) to 255 (white)."""

    def load_like(self, data_dir: Path, kept: dict[str, Any] | None) -> RawData:
        from grow_cli.data import hub

        if not self.path:
            raise UserError("dataset=huggingface needs dataset.path: a folder of save_to_disk, or a name on the Hub")
        parts = self._parts(hub.load(self.path, self.configuration, self.train_split))
        features = parts["train"].features
        target = self._target(features)
        for name, part in parts.items():
            if target not in part.features:
                raise UserError(f"{self.path}: its split {self._name(name)} has no column {target}, the target")
        parts = self._labelled({name: (part, hub.values(part, target)) for name, part in parts.items()})
        images = [name for name, f in features.items() if hub.kind(f) == "image" and name not in self.drop]
        if len(images) > 1:
            raise UserError(
                f"{self.path} has several columns of images ({', '.join(images)}): leave all but one out with "
                f"'dataset.drop=[{images[1]}]'"
            )
        if images:
            return self._images(parts, images[0], target)
        frames = {name: hub.frame(part, self.drop, str(self.path)) for name, part in parts.items()}
        return self.of_rows(frames, target, str(self.path), kept)

    def _name(self, part: str) -> str:
        return {"train": self.train_split, "val": self.validation_split, "test": self.test_split}[part]

    def _parts(self, found: dict[str, Any]) -> dict[str, Any]:
        """`train`, and `val` and `test` where they are there: the splits by what they are for."""
        for part, usual in (("train", None), ("val", "validation"), ("test", "test")):
            name = self._name(part)
            if name not in found and name != usual:
                key = {"val": "validation"}.get(part, part)
                raise UserError(
                    f"{self.path} has no split {name}, only {', '.join(found)}: give dataset.{key}_split=NAME"
                )
        return {part: found[self._name(part)] for part in ("train", "val", "test") if self._name(part) in found}

    def _target(self, features: dict[str, Any]) -> str:
        from grow_cli.data import hub

        if self.target is not None:
            if self.target not in features:
                raise UserError(
                    f"dataset.target={self.target}: {self.path} has no such column; it has {', '.join(features)}"
                )
            if hub.kind(features[self.target]) not in hub.CELLS:
                raise UserError(
                    f"dataset.target={self.target}: that column holds {hub.kind(features[self.target])}: choose a column of "
                    "classes, numbers or names"
                )
            return self.target
        labels = [name for name, f in features.items() if hub.kind(f) == "classes" and name not in self.drop]
        if len(labels) != 1:
            has = f"several columns of class labels ({', '.join(labels)})" if labels else "no column of class labels"
            raise UserError(f"{self.path} has {has}: dataset.target must be one of {', '.join(features)}")
        return labels[0]

    def _labelled(self, parts: dict[str, tuple[Any, list[Any]]]) -> dict[str, Any]:
        """The splits' rows with a target. Where the test part has none (they are kept back), the validation split stands in."""
        from grow_cli.console import warn

        kept: dict[str, Any] = {}
        for name, (part, values) in parts.items():
            rows = [i for i, value in enumerate(values) if value is not None and value == value]  # NaN is not itself
            if name == "train" and not rows:
                raise UserError(
                    f"{self.path}: no row of {self.train_split} has a target: choose another dataset.target"
                )
            if len(rows) < len(values):
                warn(
                    f"{self.path}: rows of {self._name(name)} without a target are left out "
                    f"({len(values) - len(rows):,} of {len(values):,})"
                )
            if rows:
                kept[name] = part if len(rows) == len(values) else part.select(rows)
        if "test" not in kept and "val" in kept:
            warn(f"{self.path} has no labelled split {self.test_split}: {self.validation_split} is the test part")
            kept["test"] = kept.pop("val")
        return kept

    def _images(self, parts: dict[str, Any], column: str, target: str) -> RawData:
        from grow_cli.data import arrays, hub
        from grow_cli.data.images import Decoding, decode

        files: list[str | Held] = []
        read: list[tuple[str, np.ndarray]] = []
        for name, part in parts.items():
            where = f"{self.path}: {self._name(name)}"
            files += hub.pictures(part, column, where)
            read.append(arrays.targets(_array(hub.values(part, target)), f"{where}: {target}", self.task))
        task, y = read[0][0], [found for _, found in read]
        feature = parts["train"].features[target]
        seen = {name for part in y for name in part.tolist()} if hub.kind(feature) == "classes" else set()
        order = [name for name in getattr(feature, "names", ()) if name in seen]
        t, classes, table = arrays.learn_targets(y, task, f"{self.path}: {target}", target, order)
        decoding = Decoding(self.size, self.background)
        pixels = decode(files, decoding)
        x = dict(zip(parts, pixels.split([len(part) for part in y]), strict=True))
        known = {"task": task, "classes": classes, "table": table, "image": decoding.words(pixels.shape[1])}
        return self.raw(x, dict(zip(parts, t, strict=True)), str(self.path), "images", **known)


def _array(values: list[Any]) -> np.ndarray:
    import numpy as np

    return np.array([str(value) if isinstance(value, bool) else value for value in values])
