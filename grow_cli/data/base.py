"""The schema that every dataset option derives from, and the data that it returns. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.registry import Option
from grow_cli.tasks import TASKS

if TYPE_CHECKING:
    from torch import Tensor

    from grow_cli.data.decoded import Decoded


@dataclass(frozen=True)
class DataSpec:
    """What a model must fit."""

    name: str
    task: str
    """`classification`, `regression` or `language`."""
    input_shape: tuple[int, ...]
    """(C, H, W) of an image, (d,), or (context,) of text."""
    outputs: int
    """Classes, the dimension of the regression target, or 256 bytes."""
    classes: tuple[str, ...] = ()


_NUMBERS = ("torch.float32", "torch.float64")
"""Of vectors and of quantities: where they are exact in float64, `precision=fp64` trains on them as they are."""


@dataclass
class RawData:
    """A dataset as its files hold it, on the CPU."""

    train_x: Tensor
    """(N, C, H, W) uint8 or float32 images, (N, d) float32 or float64, or (N, context) uint8 of text."""
    train_y: Tensor
    """(N,) int64 class indices, (N, k) float32 or float64 targets, or the bytes (N, context) that come next."""
    test_x: Tensor
    test_y: Tensor
    task: str = "classification"
    """`classification`, `regression` or `language`."""
    classes: tuple[str, ...] = ()
    """Their names; left out, classes are counted and named by their numbers."""
    white: int = 255
    """The byte of a white pixel; images that are not normalised are divided by it."""
    image: dict[str, Any] = field(default_factory=dict)
    """What was done to each image file, as plain data, so that others can do the same; empty where nothing was."""
    table: dict[str, Any] = field(default_factory=dict)
    """How a table's rows became vectors (`grow_cli.data.tables.learn`), as plain data; empty where there was none."""
    test_only: bool = False
    """Whether the files hold no training part: a net can then be measured on them, and none trained."""
    held_out: tuple[Tensor, Tensor] | None = None
    """Inputs and targets of a validation part that the dataset has of its own (texts do): none is cut from the training part."""
    grid: tuple[Tensor, Tensor] | None = None
    """Inputs and targets of a regression that lie densely over its whole domain, on which the maximum error is measured."""
    no_test: bool = False
    """Whether there is no test part, which is then empty: nothing is measured on it."""
    corpus: dict[str, Any] = field(default_factory=dict)
    """What tells a corpus from others, as plain data; empty where samples are no windows of one."""

    decoded: Decoded | None = None
    """The file whose maps `train_x` and then `test_x` are; None where they lie in memory."""

    def __post_init__(self) -> None:
        if self.task == "language":
            self._check_text()
            return
        parts = [("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)]
        if self.held_out is not None:
            parts.append(("val", *self.held_out))
        if self.grid is not None:
            parts.append(("grid", *self.grid))
        for split, x, y in parts:
            if self.no_test and split == "test":
                _check(len(x) == len(y) == 0, "no_test is set, but test_x holds samples")
                continue
            _check(len(x) == len(y), f"{split}_x has {len(x)} samples and {split}_y {len(y)}")
            if self.test_only and split == "train":
                continue
            _check(len(x) > 0, f"{split}_x has no sample")
            _check(x.shape[1:] == self.train_x.shape[1:], f"{split}_x has samples of shape {tuple(x.shape[1:])}")
            image = x.dim() == 4
            kinds = ("torch.uint8", "torch.float32") if image else _NUMBERS
            _check(image or x.dim() == 2, f"{split}_x has the shape {tuple(x.shape)}: (N, C, H, W) or (N, d) is needed")
            _check(
                str(x.dtype) in kinds,
                f"{split}_x is {x.dtype}: {' or '.join(kinds)} is needed for {'images' if image else 'vectors'}",
            )
            _check(
                str(x.dtype) == "torch.uint8" or bool(x.isfinite().all()),
                f"{split}_x holds numbers that are not finite",
            )
            self._check_targets(split, y)

    def _check_text(self) -> None:
        for split, x, y in (("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            _check(len(x) > 0, f"{split}_x has no window")
            _check(
                x.dim() == 2 and x.shape == y.shape,
                f"{split}_x and {split}_y must be windows (N, context) of equal number",
            )
            _check(str(x.dtype) == str(y.dtype) == "torch.uint8", f"{split}_x and {split}_y must be bytes, torch.uint8")

    def _check_targets(self, split: str, y: Tensor) -> None:
        if self.task == "regression":
            _check(y.dim() == 2, f"{split}_y has the shape {tuple(y.shape)}: (N, k) is needed for a regression")
            _check(
                str(y.dtype) in _NUMBERS, f"{split}_y is {y.dtype}: {' or '.join(_NUMBERS)} is needed for a regression"
            )
            _check(bool(y.isfinite().all()), f"{split}_y holds numbers that are not finite")
            _check(len(y) > 1, f"{split}_y holds one target: a regression needs 2 or more, because one has no variance")
            return
        _check(self.task in TASKS, f"task={self.task!r}: must be one of {', '.join(TASKS)}")
        _check(y.dim() == 1, f"{split}_y has the shape {tuple(y.shape)}: (N,) is needed for classes")
        _check(str(y.dtype) == "torch.int64", f"{split}_y is {y.dtype}: torch.int64 is needed for classes")
        low, high = int(y.min()), int(y.max())
        _check(low >= 0, f"{split}_y holds the label {low}: labels start at 0")
        if not self.classes:
            self.classes = tuple(map(str, range(max(2, high + 1))))
        _check(
            high < len(self.classes),
            f"{split}_y holds the label {high}, but there are only {len(self.classes)} classes",
        )


def _check(condition: bool, sentence: str) -> None:
    if not condition:
        raise UserError(f"the dataset is not valid: {sentence}")


@dataclass
class DatasetOption(Option):
    """Base of every dataset."""

    group_name: ClassVar[str] = "dataset"
    language: ClassVar[bool] = False
    """Whether its samples are windows of text, which only some models read."""
    photographs: ClassVar[bool] = False
    """Whether its samples are taken for photographs, on which nets of convolutions take the place of others
    (`composition.CONVOLUTIONAL`)."""

    validation: float = key(0.1, at_least=0, below=1, role="split")
    """Fraction of the training samples that is held out as validation split; 0: train and validate on all of them."""
    split_seed: int | str = key(0, at_least=0, at_most=2**63 - 1, word="seed", role="split")
    """Seed of that split, of the subset and of the probe batch, independent of the run's seed. `seed` uses the run's
    seed, so that results over seeds hold for more than one split."""
    normalize: bool = True
    """Standardise inputs per channel (images) or per feature, with the statistics of the training split."""
    scale: float | None = key(1.0, above=0, at_most=10**6, null="for what the model reads best")
    """Factor on the normalised inputs. With null it is 1, and for `model=mlp` with rational activations, which are all but
    linear on more, 3 over the root of the number of inputs, at most 1: the root mean square of a sample's norm is then 3."""
    crop: int = key(0, at_least=0, unit="pixels")
    """Random crop of training images after zero padding by this many pixels; 0: none."""
    flip: bool = False
    """Random horizontal flip of training images."""

    def factor(self, inputs: int) -> float:
        """`scale` of samples with so many inputs, for a model that needs bounded ones if it is null."""
        if self.scale is not None:
            return self.scale
        return min(1.0, 3 / math.sqrt(inputs)) if self.normalize else 1.0

    def cut_by(self, seed: int | None) -> int:
        """`split_seed` of a run of this seed. Its folder keeps the word `seed`, so that runs of all seeds are one way."""
        if not isinstance(self.split_seed, str):
            return self.split_seed
        if seed is None:
            raise UserError("dataset.split_seed=seed needs the seed of a run: give a number outside a run")
        return seed

    def at_hand(self, data_dir: Path) -> bool:
        """Whether `load` reads it in a moment and without a network; unless an option knows better, it does not."""
        return False

    def load(self, data_dir: Path) -> RawData:
        """Read it; files are looked for in `data_dir`. UserError where they are absent or damaged."""
        raise NotImplementedError(f"{type(self).__name__} must define load")

    def load_like(self, data_dir: Path, kept: dict[str, Any] | None) -> RawData:
        """The same for a trained net, from whose data `kept` was learned (`RawData.table`)."""
        return self.load(data_dir)
