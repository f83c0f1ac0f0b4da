"""What a dataset is: the schema every dataset option derives from, and what it hands over. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grow_cli.errors import check
from grow_cli.registry import Option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DataSpec:
    """What a model must fit."""

    name: str
    task: str
    """`classification` or `regression`."""
    input_shape: tuple[int, ...]
    """(C, H, W) of an image, or (d,)."""
    outputs: int
    """Classes, or the dimension of the regression target."""
    classes: tuple[str, ...] = ()


@dataclass
class RawData:
    """A dataset as its files hold it, on the CPU."""

    train_x: Tensor
    """(N, C, H, W) uint8 images, or (N, d) float32."""
    train_y: Tensor
    """(N,) int64 class indices, or (N, k) float32 targets."""
    test_x: Tensor
    test_y: Tensor
    task: str = "classification"
    """`classification` or `regression`."""
    classes: tuple[str, ...] = ()
    white: int = 255
    """The byte of a white pixel; images that are not normalised are divided by it."""


@dataclass
class DatasetOption(Option):
    """Base of every dataset's schema."""

    validation: float = 0.1
    """Fraction of the training samples that is cut off as validation split; 0: all are trained on, and validated on, too."""
    split_seed: int = 0
    """Seed of that cut, of the subset and of the probe batch; independent of the run's seed."""
    normalize: bool = True
    """Standardise inputs per channel (images) or per feature, with the statistics of the training split."""
    scale: float = 1.0
    """Factor on the inputs after that: rational activations overfit large ones."""
    crop: int = 0
    """Random crop of training images after zero padding by so many pixels; 0: none."""
    flip: bool = False
    """Random horizontal flip of training images."""

    def __post_init__(self) -> None:
        check(0 <= self.validation < 1, f"dataset.validation={self.validation}: must be 0 or more and below 1")
        check(
            0 <= self.split_seed < 2**63,
            f"dataset.split_seed={self.split_seed}: must be from 0 to 2^63 - 1",
        )
        check(self.scale > 0, f"dataset.scale={self.scale:g}: must be above 0")
        check(self.crop >= 0, f"dataset.crop={self.crop}: must be 0 (no cropping) or more pixels")

    def load(self, data_dir: Path) -> RawData:
        """Read it; files are looked for in `data_dir`. UserError where they are absent or damaged."""
        raise NotImplementedError(f"{type(self).__name__} must define load")
