"""Predictions of a run's net for new data: files of images, tables or arrays, labelled or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import torch
from torch import Tensor

from grow_cli.analysis.phases import checkpoint_of, load_phase
from grow_cli.console import warn
from grow_cli.data import arrays
from grow_cli.data.tensors import Normalizer
from grow_cli.errors import UserError
from grow_cli.records.words import counted
from grow_cli.surgery.measure import evaluation_mode

if TYPE_CHECKING:
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.records.folder import RunFolder

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
_BATCH = 1000


@dataclass(frozen=True)
class Samples:
    """What is to be predicted."""

    names: list[str]
    """Of files, or numbers of rows from 1 on."""
    x: Tensor
    """As the dataset holds them: (N, C, H, W) uint8, or (N, d) float32."""
    y: Tensor | None = None
    """Classes (N,), or quantities (N, k) as they are in the file; None where they are not known."""


class Predictor:
    """A run's net, with what was done to its data."""

    def __init__(self, folder: RunFolder, which: str = "last") -> None:
        """:param which: the checkpoint, `last` or `best`"""
        phase = load_phase(checkpoint_of(folder, which))
        self.model: GrowableModel = phase.model
        if self.model.task == "language":
            raise UserError(
                f"{folder.path} predicts text byte by byte: `grow sample {folder.path} --prompt TEXT` shows what it writes"
            )
        if phase.trained.inputs is None:
            raise UserError(
                f"{folder.path} was trained by an older version of grow, which did not store how inputs are prepared: train "
                "it again"
            )
        self.inputs = phase.trained.inputs
        self.table: dict[str, Any] = self.inputs.get("table") or {}
        self.classes: list[str] = list(self.inputs["classes"]) if self.model.task == "classification" else []

    @property
    def reads(self) -> str:
        """What it takes, in words."""
        if self.table.get("columns"):
            return "a table with the columns " + ", ".join(column["name"] for column in self.table["columns"][:8])
        shape = tuple(self.model.input_shape)
        if len(shape) == 3:
            return f"images of {shape[2]}×{shape[1]} pixels, as files or as arrays"
        return f"vectors of {shape[0]} numbers, as arrays"

    def outputs(self, x: Tensor) -> Tensor:
        """(N, outputs) of samples as the dataset holds them: probabilities, or quantities in the target's own unit."""
        found = outputs_of(self.model, self.inputs, x)
        return torch.from_numpy(found).softmax(1) if self.classes else torch.from_numpy(in_unit(found, self.inputs))

    def read(self, source: Path | TextIO, *, labelled: bool = False) -> Samples:
        """Samples from a table, arrays, an image, or a folder of images; UserError where the net cannot take them."""
        if not isinstance(source, Path):
            return self._table(source, "standard input", labelled)
        if not source.exists():
            raise UserError(f"{source}: there is no such file or folder; the net reads {self.reads}")
        if source.is_dir() or source.suffix.lower() in IMAGES:
            return self._images(source, labelled)
        if self.table.get("columns"):
            return self._table(source, str(source), labelled)
        if source.suffix not in arrays.SUFFIXES:
            raise UserError(f"{source} holds data of another kind: the net reads {self.reads}")
        return self._arrays(source, labelled)

    def _table(self, source: Path | TextIO, where: str, labelled: bool) -> Samples:
        from grow_cli.data import tables

        if not self.table.get("columns"):
            raise UserError(f"{where} holds data of another kind: the net reads {self.reads}")
        frame = tables.read(source, where)
        if labelled and self.table["target"] in frame:
            frame = frame[frame[self.table["target"]].notna()]
        found = tables.encode(frame, self.table, self.classes, where, labelled=labelled)
        for column, values in found.unseen.items():
            warn(
                f"{where}: {column} has values that do not occur in the training data ({', '.join(values[:5])}): they are "
                "encoded as none of the known values"
            )
        y = None if found.y is None else torch.tensor(in_unit(found.y, self.inputs))
        return Samples([str(i + 1) for i in frame.index], torch.tensor(found.x), y)

    def _arrays(self, source: Path, labelled: bool) -> Samples:
        found = arrays.read(source)
        name = next((n for n in ("x", "x_test", *found) if n in found), None)
        if name is None:
            raise UserError(f"{source} holds no array")
        array = found[name]
        if array.ndim == len(self.model.input_shape) and array.shape == tuple(self.model.input_shape):
            array = array[None]
        x = arrays.samples(array, f"{source}: {name}")
        if tuple(x.shape[1:]) != tuple(self.model.input_shape):
            raise UserError(
                f"{source}: {name} holds samples of the shape {tuple(x.shape[1:])}, and the net reads {self.reads}"
            )
        y = self._labels(found, name.replace("x", "y", 1), source, len(x)) if labelled else None
        return Samples([str(i + 1) for i in range(len(x))], x, y)

    def _labels(self, found: dict[str, np.ndarray], name: str, source: Path, n: int) -> Tensor:
        if name not in found:
            raise UserError(f"{source} has no array {name}, the targets that predictions are compared with")
        _, y = arrays.targets(found[name], f"{source}: {name}", self.model.task)
        if len(y) != n:
            raise UserError(f"{source} has {counted(n, 'sample')} and {counted(len(y), 'target')}")
        if not self.classes:
            return torch.from_numpy(y)
        return torch.tensor([self._place(str(label), source) for label in y])

    def _place(self, label: str, source: Path) -> int:
        if label not in self.classes:
            known = ", ".join(self.classes[:12]) + (" ..." if len(self.classes) > 12 else "")
            raise UserError(f"{source}: the net knows no class {label}; it knows {known}")
        return self.classes.index(label)

    def _images(self, source: Path, labelled: bool) -> Samples:
        from grow_cli.data.images import Decoding, read_images

        if len(self.model.input_shape) != 3:
            raise UserError(f"{source} holds data of another kind: the net reads {self.reads}")
        channels, height, width = self.model.input_shape
        files, labels = self._labelled(source) if labelled else (_files(source), None)
        if not files:
            raise UserError(f"{source} holds no image ({', '.join(IMAGES)})")
        done = self.inputs.get("image") or {}
        x = read_images([str(file) for file in files], Decoding((width, height), done.get("background", 255)), channels)
        sizes = {_size(file) for file in files}
        if sizes != {(width, height)} and not done.get("size"):
            warn(f"images are scaled and cropped to the {width}×{height} pixels that the net reads")
        if (white := self.inputs["white"]) != 255:  # a file's white is 255, whatever that of the dataset is
            x = (x * (white / 255)).round().to(torch.uint8)
        names = [str(file.relative_to(source)) if source.is_dir() else str(file) for file in files]
        return Samples(names, x, labels)

    def _labelled(self, source: Path) -> tuple[list[Path], Tensor]:
        if not source.is_dir():
            raise UserError(f"{source}: labels come from folder names: give a folder of <class>/*")
        root = next((source / part for part in ("test", "val") if (source / part).is_dir()), source)
        folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not folders:
            raise UserError(f"{root} has no class folders: labels come from folder names, <class>/*")
        found = [(file, self._place(folder.name, root)) for folder in folders for file in _files(folder)]
        return [file for file, _ in found], torch.tensor([label for _, label in found])


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    return sorted(
        p for p in source.rglob("*") if p.suffix.lower() in IMAGES and p.is_file() and not p.name.startswith(".")
    )


def _size(file: Path) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.size
    except Exception:  # said where it is read
        return None


def outputs_of(net: GrowableModel, inputs: dict[str, Any], x: Any) -> np.ndarray:
    """What a net on the CPU puts out for raw samples (n, *input_shape), normalised by `Data.inputs`; in the net's precision."""
    samples = _samples(x, net.input_shape)
    if samples.dtype == torch.uint8 and int(samples.max()) > inputs["white"]:
        raise UserError(
            f"the samples hold bytes up to {int(samples.max())}, and white is {inputs['white']} in the data that the net was "
            f"trained on: multiply them by {inputs['white']} / 255"
        )
    normalizer = Normalizer(inputs["mean"], inputs["std"], next(net.parameters()).dtype)
    with evaluation_mode(net):
        parts = [net(part if net.task == "language" else normalizer(part)) for part in samples.split(_BATCH)]
    return np.asarray(torch.cat(parts).numpy())


def _samples(x: Any, shape: tuple[int, ...]) -> Tensor:
    """(n, *shape) numbers on the CPU; UserError where they are none, or of another shape."""
    try:
        samples = torch.as_tensor(x if isinstance(x, Tensor) else np.asarray(x)).detach().cpu()
    except (TypeError, ValueError) as error:
        raise UserError(f"the samples are not an array of numbers: {str(error).splitlines()[0]}") from error
    if tuple(samples.shape[1:]) != shape or not len(samples):
        told = "a sample" if tuple(samples.shape) == shape else f"the shape {tuple(samples.shape)}"
        raise UserError(f"the net takes samples (n, {', '.join(map(str, shape))}), and {told} was given")
    if samples.is_floating_point() and not bool(samples.isfinite().all()):
        raise UserError("the samples contain numbers that are not finite: fill in or drop missing values")
    return samples


def in_unit(outputs: np.ndarray, inputs: dict[str, Any]) -> np.ndarray:
    """A regression's outputs in the unit of the dataset's target, which `inputs["table"]` says where it was scaled."""
    table = inputs.get("table") or {}
    return outputs * table["spread"] + table["mean"] if "spread" in table else outputs


def predicted(predictor: Predictor, samples: Samples, top: int = 1) -> dict[str, list[Any]]:
    """Columns, for each sample: its name; the `top` likeliest classes with their probabilities, or the values."""
    outputs = predictor.outputs(samples.x)
    columns: dict[str, list[Any]] = {"sample": samples.names}
    if not predictor.classes:
        several = outputs.shape[1] > 1
        for i, values in enumerate(outputs.T.tolist(), 1):
            columns[f"value {i}" if several else "value"] = values
        return columns
    if not 1 <= top <= len(predictor.classes):
        raise UserError(f"--top {top}: the net knows {len(predictor.classes)} classes")
    chances, order = outputs.sort(dim=1, descending=True, stable=True)
    for i in range(top):
        number = f" {i + 1}" if top > 1 else ""
        columns[f"class{number}"] = [predictor.classes[c] for c in order[:, i].tolist()]
        columns[f"probability{number}"] = chances[:, i].tolist()
    return columns


def measure(predictor: Predictor, samples: Samples) -> dict[str, Any]:
    """How right the net is on labelled samples, as plain data: scores, and per class precision, recall and F1."""
    from sklearn import metrics

    assert samples.y is not None
    outputs, y = predictor.outputs(samples.x), samples.y
    found: dict[str, Any] = {"samples": len(y)}
    if not predictor.classes:
        error = (outputs.double() - y.double()).numpy()
        spread = float((y.double() - y.double().mean(0)).square().sum())
        r2 = 1 - float((error**2).sum()) / spread if spread > 0 else None
        return found | {
            "r2": r2,
            "root_mean_square_error": float(np.sqrt((error**2).mean())),
            "mean_absolute_error": float(np.abs(error).mean()),
        }
    answers, labels = outputs.argmax(1).numpy(), list(range(len(predictor.classes)))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        y.numpy(), answers, labels=labels, zero_division=0
    )
    rows = zip(predictor.classes, precision, recall, f1, support, strict=True)
    return found | {
        "accuracy": float((answers == y.numpy()).mean()),
        "loss": float(-outputs.double().clamp_min(1e-300).log().gather(1, y[:, None]).mean()),
        "classes": [
            {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "samples": int(n)}
            for name, p, r, f, n in rows
        ],
        "confusion": metrics.confusion_matrix(y.numpy(), answers, labels=labels).tolist(),
    }
