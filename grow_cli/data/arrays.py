"""A user's arrays: samples and targets in an npz, npy or pt file. Nothing in such a file is executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grow_cli.errors import UserError, first_line
from grow_cli.words import counted

SUFFIXES = (".npz", ".npy", ".pt")


def read(path: Path) -> dict[str, np.ndarray]:
    """Name → array; of a file that holds one array, `x`. UserError where it cannot be read."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: arrays must be {', '.join(SUFFIXES)} files")
    try:
        with path.open("rb") as file:
            found: Any = (
                torch.load(file, weights_only=True) if path.suffix == ".pt" else np.load(file, allow_pickle=False)
            )
            if path.suffix == ".npz":
                found = {name: found[name] for name in found.files}
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file: give the path of an npz, npy or pt file") from None
    except Exception as error:  # each format has exceptions of its own
        raise UserError(f"{path} cannot be read as arrays ({first_line(error)})") from error
    if not isinstance(found, Mapping):
        found = {"x": found}
    arrays = {str(name): np.asarray(array) for name, array in found.items()}
    wrong = next((name for name, array in arrays.items() if array.dtype == object), None)
    if wrong is not None:
        raise UserError(f"{path}: {wrong} holds Python objects instead of numbers: save arrays of numbers")
    return arrays


def samples(array: np.ndarray, name: str) -> Tensor:
    """(N, d) float32 of vectors, (N, C, H, W) uint8 of images, whose channels may come last or be left out."""
    if array.ndim == 2 and array.dtype.kind in "fiub":
        return torch.from_numpy(np.array(array, np.float32))
    if array.ndim not in (3, 4) or array.dtype.kind not in "fiub":
        raise UserError(
            f"{name} has shape {array.shape} and type {array.dtype}: vectors must be (N, d), images (N, H, W), "
            "(N, C, H, W) or (N, H, W, C)"
        )
    if array.dtype != np.uint8:
        raise UserError(f"{name} holds images as {array.dtype}: save them as bytes from 0 to 255 (uint8)")
    if array.ndim == 3:
        array = array[:, None]
    elif array.shape[1] not in (1, 3):
        if array.shape[3] not in (1, 3):
            raise UserError(f"{name} has shape {array.shape}: images must have 1 or 3 channels, first or last")
        array = array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.array(array))


def targets(array: np.ndarray, name: str, task: str) -> tuple[str, np.ndarray]:
    """The task, and classes as texts (N,), or quantities (N, k) float64."""
    text = array.dtype.kind in "USb"
    if task == "auto":
        task = "classification" if array.ndim == 1 and (text or array.dtype.kind in "iu") else "regression"
    if task == "classification":
        if array.ndim != 1:
            raise UserError(f"{name} has shape {array.shape}: classes must be (N,), numbers or names")
        return task, np.array([str(int(v)) if array.dtype.kind in "iuf" else str(v) for v in array])
    if text or array.ndim > 2:
        raise UserError(
            f"{name} has type {array.dtype} and shape {array.shape}: quantities must be numbers, (N,) or (N, k)"
        )
    return task, np.asarray(array, float).reshape(len(array), -1)


def in_order(names: np.ndarray) -> tuple[str, ...]:
    """Classes: by number where all are numbers, else by name."""
    found = sorted(set(names.tolist()))
    return tuple(sorted(found, key=int) if all(name.lstrip("-").isdigit() for name in found) else found)


def learn_targets(
    parts: Sequence[np.ndarray], task: str, where: str, name: str, order: Sequence[str] = ()
) -> tuple[list[Tensor], tuple[str, ...], dict[str, Any]]:
    """What `targets` gave of each part as numbers, the classes, and `RawData.table`; UserError if nothing can be learned.

    :param parts: the training part first: a quantity's mean and spread are its
    :param order: the classes, if they have their own order
    """
    if task != "classification":
        mean, spread = float(parts[0].mean()), float(parts[0].std())
        if not spread > 0:
            raise UserError(f"{where} has only one value ({mean:g}), so there is nothing to learn")
        table = {"columns": [], "target": name, "task": task, "mean": mean, "spread": spread}
        return [torch.from_numpy(((part - mean) / spread).astype(np.float32)) for part in parts], (), table
    classes = tuple(order) or in_order(np.concatenate(parts))
    samples = sum(map(len, parts))
    if len(classes) < 2 or 2 * len(classes) > samples:
        raise UserError(
            f"{where} has {counted(len(classes), 'class', 'classes')} in {counted(samples, 'sample')}: give two classes or "
            "more, with several samples each"
        )
    places = {name: i for i, name in enumerate(classes)}
    return [torch.tensor([places[name] for name in part]) for part in parts], classes, {}
