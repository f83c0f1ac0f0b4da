"""From a dataset option to splits on the device, normalised once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grow_cli.console import note
from grow_cli.data import corpus, splits
from grow_cli.data.augment import Augment
from grow_cli.data.base import DatasetOption, DataSpec, RawData
from grow_cli.data.batches import Batches, Chosen, Split
from grow_cli.data.decoded import Decoded
from grow_cli.data.identity import Trained, identity
from grow_cli.data.mapped import Rows, fits
from grow_cli.errors import UserError
from grow_cli.hardware import sent
from grow_cli.words import counted

FLOAT32_LIMIT = 4 * 2**30
"""Bytes: images whose training split takes more than this as float32 stay uint8, normalised batch by batch."""


@dataclass(frozen=True)
class Normalizer:
    """(x - mean) / std, per channel or feature."""

    mean: Tensor
    """(1, C, 1, 1) of images, in bytes; (1, d) of vectors."""
    std: Tensor
    dtype: torch.dtype = torch.float32
    """Of what comes out: that of the net; mean and standard deviation are float32 whatever it is."""

    def __call__(self, x: Tensor) -> Tensor:
        """The same shape, of `dtype`."""
        return x.to(self.dtype, copy=True).sub_(self.mean).div_(self.std)

    def inverse(self, x: Tensor) -> Tensor:
        """What a model sees, back in the dataset's own unit: bytes (0 to `RawData.white`), or the features'."""
        return x * self.std + self.mean


@dataclass(frozen=True)
class Data:
    """A dataset on the device."""

    spec: DataSpec
    train: Split
    val: Split
    """With `dataset.validation=0` the same as `train`."""
    test: Split
    augment: Augment | None
    normalizer: Normalizer
    white: int
    """The byte of a white pixel, to show an image: `normalizer.inverse(x) / white`."""
    split_seed: int
    identity: dict[str, Any] = field(default_factory=dict)
    """What tells these data from others (`grow_cli.data.identity`), as plain data."""
    image: dict[str, Any] = field(default_factory=dict)
    """`RawData.image`."""
    table: dict[str, Any] = field(default_factory=dict)
    """`RawData.table`."""
    grid: Split | None = None
    """`RawData.grid`."""
    parts_measured: dict[str, Split] = field(default_factory=dict)
    """Split → the part of it that a net is measured on, where that is not all of it."""

    def measured(self, name: str) -> Split:
        """What a net is measured on of `train`, `val` or `test`."""
        split: Split = getattr(self, name)
        return self.parts_measured.get(name, split)

    def prepare(self, x: Tensor) -> Tensor:
        """Stored inputs as a model takes them: bytes of text as they are, else numbers, normalised now if stored as bytes."""
        return x if x.dtype == self.normalizer.dtype or self.spec.task == "language" else self.normalizer(x)

    def inputs(self) -> dict[str, Any]:
        """What a net trained on this data must be used with, for its checkpoints; on the CPU."""
        return {
            "mean": self.normalizer.mean.cpu(),
            "std": self.normalizer.std.cpu(),
            "white": self.white,
            "classes": list(self.spec.classes),
            "image": self.image,
            "table": self.table,
        }

    def batches(self, batch_size: int, generator: torch.Generator) -> Batches:
        """Endless minibatches of the training split, prepared and augmented."""
        return Batches(self.train, batch_size, generator, prepare=self.prepare, augment=self.augment)

    def probe(self, n: int) -> Chosen:
        """A fixed batch of n training samples (all, if there are fewer), prepared and not augmented."""
        order = torch.randperm(len(self.train), generator=splits.stream(self.split_seed, "probe"))
        index = sent(order[:n], self.train.y.device)
        return Chosen(self.prepare(self.train.x.index_select(0, index)), self.train.y.index_select(0, index))


def load_data(
    option: DatasetOption,
    *,
    data_dir: Path,
    subset: int | float | None,
    device: torch.device,
    trained: Trained | None = None,
    seed: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Data:
    """Read, cut, take the subset, normalise with the statistics of what is left to train on, and move to the device.

    `trained`, of a net's checkpoint: the data must be those that it was trained on, and are normalised as they were then.
    `seed`, of the run: what `dataset.split_seed=seed` stands for. `dtype`: of the net, and so of what it is given.
    """
    split_seed = option.cut_by(seed)
    option = replace(option, split_seed=split_seed)
    raw = _read(option, data_dir, trained)
    spec = _spec(option.name, raw)
    file = _read_in_batches(option, raw, device)
    known = identity(spec, raw, None if file is None else file.sums)
    if trained is not None:
        trained.check(known)
    _check_dtype(option, raw, dtype)
    if raw.task == "language":
        return _text(option, raw, spec, known, subset, split_seed, device)
    _check_augmentation(option, raw.train_x)
    train, val = _cut(option, raw, subset, split_seed, measured=trained is not None and trained.other)
    train_x = raw.train_x[train] if file is None else Rows(file, train, device)
    if trained is not None and trained.inputs is not None:
        normalizer = Normalizer(trained.inputs["mean"].to(device), trained.inputs["std"].to(device), dtype)
    else:
        normalizer = _normalizer(train_x, option, raw.white if raw.train_x.dim() == 4 else 1, device, dtype)
    as_floats = train_x.dtype != torch.uint8 or 4 * train_x.shape.numel() <= FLOAT32_LIMIT

    def placed(x: Tensor | Rows, y: Tensor) -> Split:
        if isinstance(x, Tensor):
            x = normalizer(x.to(device)) if as_floats else x.to(device)
        return Split(x, y.to(device, dtype) if y.is_floating_point() else y.to(device))

    trained_on = placed(train_x, raw.train_y[train])
    held_out: tuple[Tensor | Rows, Tensor] | None = raw.held_out
    if held_out is None and val is not None:
        held_out = raw.train_x[val] if file is None else Rows(file, val, device), raw.train_y[val]
    validated_on = trained_on if held_out is None else placed(*held_out)
    test_x = raw.test_x if file is None else Rows(file, len(raw.train_y) + torch.arange(len(raw.test_y)), device)
    return Data(
        spec=spec,
        train=trained_on,
        val=validated_on,
        test=placed(test_x, raw.test_y),
        augment=Augment(option.crop, option.flip) if option.crop or option.flip else None,
        normalizer=normalizer,
        white=raw.white,
        split_seed=split_seed,
        identity=known | {"splits": {"train": len(train), "val": len(validated_on), "test": len(raw.test_x)}},
        image=raw.image,
        table=raw.table,
        grid=None if raw.grid is None else placed(*raw.grid),
    )


def _check_dtype(option: DatasetOption, raw: RawData, dtype: torch.dtype) -> None:
    if dtype == torch.float64 and raw.task != "regression":
        raise UserError(
            f"precision=fp64 is for regression, and dataset={option.name} is for {raw.task}: set precision=fp32"
        )


def _read(option: DatasetOption, data_dir: Path, trained: Trained | None) -> RawData:
    """As the option reads it for a new net, or for one whose checkpoint says how its table was read."""
    kept = (trained.inputs or {}).get("table") if trained is not None else None
    raw = option.load_like(data_dir, kept or None)
    if raw.test_only and (trained is None or not trained.other or trained.inputs is None):
        raise UserError(
            f"dataset={option.name} has a test part but no training part: you can measure a trained net on it, but not "
            "train one"
        )
    return raw


def _read_in_batches(option: DatasetOption, raw: RawData, device: torch.device) -> Decoded | None:
    """The file of the images, where memory has no room for them; None where they are placed on the device at once."""
    storage = getattr(option, "storage", "memory")
    if raw.decoded is None or storage == "memory":
        return None
    size = raw.decoded.pixels.numel()
    if storage == "auto":
        if fits(size, 4 * size if 4 * size <= FLOAT32_LIMIT else size, device):
            return None
        note(
            f"The images take {size / 1e9:.1f} GB decoded, too much of the memory that is free: each batch is read from "
            f"{raw.decoded.path} (dataset.storage=memory keeps them in memory all the same)."
        )
    return raw.decoded


def _text(
    option: DatasetOption,
    raw: RawData,
    spec: DataSpec,
    known: dict[str, Any],
    subset: int | float | None,
    split_seed: int,
    device: torch.device,
) -> Data:
    """Windows of text: the bytes lie on the device once, whatever is measured of them is spread evenly over its part."""
    train = Split(*corpus.moved(raw.train_x, device))
    if subset is not None:
        chosen = splits.subset(torch.zeros(len(train), dtype=torch.int64), subset, split_seed).to(device)
        train = Split(train.x.index_select(0, chosen), train.y.index_select(0, chosen))
    test = Split(*corpus.moved(raw.test_x, device))
    val = train if raw.held_out is None else Split(*corpus.moved(raw.held_out[0], device))
    most = getattr(option, "measured", None)
    parts = {"train": train, "val": val, "test": test}
    return Data(
        spec=spec,
        train=train,
        val=val,
        test=test,
        augment=None,
        normalizer=Normalizer(torch.zeros(1, 1, device=device), torch.ones(1, 1, device=device)),
        white=raw.white,
        split_seed=split_seed,
        identity=known | {"splits": {name: len(part) for name, part in parts.items()}},
        parts_measured={} if most is None else {name: _spread(part, most) for name, part in parts.items()},
    )


def _spread(split: Split, most: int) -> Split:
    """Equally spaced windows of at most `most` bytes together; the whole split if it is no larger."""
    n, windows = len(split), max(1, most // split.x.shape[1])
    if n <= windows:
        return split
    index = torch.arange(windows, device=split.x.device) * n // windows
    return Split(split.x.index_select(0, index), split.y.index_select(0, index))


def _cut(
    option: DatasetOption, raw: RawData, subset: int | float | None, split_seed: int, *, measured: bool
) -> tuple[Tensor, Tensor | None]:
    """Indices of what is trained on and of what is held out, None where nothing is.

    UserError where a part that is asked for would be too small to have a score, unless a net is only `measured`.
    """
    classification = raw.task == "classification"
    n = len(raw.train_y)
    labels = raw.train_y if classification else torch.zeros(n, dtype=torch.int64)
    least = 1 if classification else 2  # R² of one sample is undefined
    train: Tensor = torch.arange(n)
    val: Tensor | None = None
    if option.validation > 0 and not raw.test_only and raw.held_out is None:
        train, val = splits.cut(labels, option.validation, split_seed)
        if min(round(option.validation * n), len(val)) < least and not measured:
            raise UserError(
                f"dataset.validation={option.validation}: the training part has {counted(n, 'sample')}, too few to hold "
                f"out that part: ask for more ({least / n:.2g} is {least} of them), for 0, which holds nothing out, or add "
                "samples"
            )
    if subset is not None and not raw.test_only:
        train = train[splits.subset(labels[train], subset, split_seed)]
    return train, val


def _spec(name: str, raw: RawData) -> DataSpec:
    if raw.task == "language":
        return DataSpec(name, raw.task, tuple(raw.train_x.shape[1:]), 256)
    outputs = len(raw.classes) if raw.task == "classification" else raw.train_y.shape[1]
    return DataSpec(name, raw.task, tuple(raw.train_x.shape[1:]), outputs, raw.classes)


def _check_augmentation(option: DatasetOption, x: Tensor) -> None:
    if x.dim() != 4:
        if option.crop or option.flip:
            raise UserError(
                f"dataset.crop={option.crop}, dataset.flip={option.flip}: {option.name} has no images: leave them at 0 and "
                "false"
            )
    elif option.crop >= min(x.shape[2:]):
        raise UserError(
            f"dataset.crop={option.crop}: an image of {option.name} has {x.shape[3]}×{x.shape[2]} pixels and could be "
            "cropped away entirely: use fewer"
        )


def _normalizer(
    x: Tensor | Rows, option: DatasetOption, white: int, device: torch.device, dtype: torch.dtype
) -> Normalizer:
    """To `dtype`, by the statistics of the training inputs x, on the CPU, in float64 throughout."""
    shape = (1, x.shape[1], *[1] * (len(x.shape) - 2))
    if not option.normalize:
        mean, std = torch.zeros(shape), torch.full(shape, float(white) if x.dtype == torch.uint8 else 1.0)
    elif isinstance(x, Rows):
        mean, std = _byte_statistics(x.counts())
    elif x.dtype == torch.uint8:
        mean, std = _byte_statistics(
            torch.stack([x[:, c].flatten().bincount(minlength=256) for c in range(x.shape[1])])
        )
    else:
        over = (0, 2, 3) if x.dim() == 4 else (0,)
        mean, std = x.double().mean(over), x.double().std(over, correction=0)
    # a spread below float32's resolution of the mean is none: such a channel becomes 0 everywhere, not noise or NaN
    std = torch.where(std > 1e-7 * mean.abs(), std, 1.0)
    std = std / option.factor(math.prod(x.shape[1:]))
    return Normalizer(mean.float().view(shape).to(device), std.float().view(shape).to(device), dtype)


def _byte_statistics(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of images of which each byte occurs so often (C, 256): exact."""
    values = torch.arange(256, dtype=torch.float64)
    histograms = counts.double()
    weights = histograms / histograms.sum(1, keepdim=True)
    mean = weights @ values
    return mean, ((values - mean[:, None]) ** 2 * weights).sum(1).sqrt()
