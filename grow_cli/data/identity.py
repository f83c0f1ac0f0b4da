"""Identity of the data that a net was trained on, and the check that the data read now are the same.

A checkpoint keeps `identity(...)`. Every command that continues or measures a net passes `Trained.of(checkpoint)` to
`load_data`, which checks before anything is placed or written.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from grow_cli.data.base import DataSpec, RawData
from grow_cli.errors import UserError
from grow_cli.words import counted, listed

_CHUNK_BYTES = 16 * 2**20
_LISTED = 12  # class names in a sentence


@dataclass(frozen=True)
class Trained:
    """What a checkpoint says of its net's data."""

    data: dict[str, Any] = field(default_factory=dict)
    """`identity(...)`, as far as it is known: older checkpoints have no counts and no fingerprint."""
    inputs: dict[str, Any] | None = None
    """`Data.inputs()`: how the net's inputs are normalised. None: the data read now decide."""
    other: bool = False
    """Whether the net is measured on other data on purpose: only task, shape and classes must then be the same."""
    begins: bool = False
    """Whether another run begins with the net: likewise."""

    @classmethod
    def of(cls, state: dict[str, Any], *, other: bool = False, begins: bool = False) -> Trained:
        """What a checkpoint's state says of its data; older checkpoints are read too."""
        net, inputs = state["architecture"], state.get("inputs")
        known = {name: net[name] for name in ("task", "input_shape", "outputs")}
        if inputs is not None:
            known["classes"] = inputs["classes"]
        return cls(known | (state.get("data") or {}), inputs, other, begins)

    def check(self, found: dict[str, Any]) -> None:
        """UserError unless data of this `identity` are what the net was trained on."""
        same = () if self.other or self.begins else ("corpus", "counts", "hash", "test_hash")
        for name in ("task", "input_shape", "outputs", "classes", *same):
            if name in self.data and _plain(found.get(name)) != _plain(self.data[name]):
                remedy = "restore the data, or train a new run"
                if self.other:
                    remedy = "measure it on data of the same kind"
                elif self.begins:
                    remedy = "start from a net that was trained on data of this kind, or leave init out"
                told = _difference(name, found, self.data)
                raise UserError(
                    f"dataset={found['name']} is not what the net was trained on: the data have {told}; {remedy}"
                )


def check_plain(data: Any) -> None:
    """TypeError unless this, from a file, is what `identity` gives, or a part of it as older files have."""
    if not isinstance(data, dict):
        raise TypeError("data is no dict")
    counts = data.get("counts", {})
    good = {
        **{name: isinstance(data.get(name, ""), str) for name in ("name", "task", "hash", "test_hash")},
        "outputs": isinstance(data.get("outputs", 0), int),
        "input_shape": _all(int, data.get("input_shape", [])),
        "classes": _all(str, data.get("classes", [])),
        "counts": isinstance(counts, dict) and _all(int, list(counts.values())),
    }
    for name, is_good in good.items():
        if not is_good:
            raise TypeError(f"data.{name} is not what a dataset gives")


def _all(kind: type, found: Any) -> bool:
    return isinstance(found, list | tuple) and all(isinstance(one, kind) for one in found)


def identity(spec: DataSpec, raw: RawData, sums: np.ndarray | None = None) -> dict[str, Any]:
    """Plain data that tell a dataset, as its files hold it, from every other.

    :param sums: `row_sums` of the training and then the test samples, where they are known
    """
    n = len(raw.train_x)
    train, test = (None, None) if sums is None else (sums[:n], sums[n:])
    known: dict[str, Any] = {"corpus": raw.corpus} if raw.corpus else {}
    return known | {
        "name": spec.name,
        "task": spec.task,
        "input_shape": list(spec.input_shape),
        "outputs": spec.outputs,
        "classes": list(spec.classes),
        "counts": {"train": len(raw.train_x), "test": len(raw.test_x)},
        "hash": fingerprint(raw.train_x, raw.train_y, train),
        "test_hash": fingerprint(raw.test_x, raw.test_y, test),
    }


def fingerprint(x: Tensor, y: Tensor, sums: np.ndarray | None = None) -> str:
    """32 hexadecimal digits of samples (N, ...) and their targets, on the CPU, in this order.

    :param sums: `row_sums(x)`, where they are known

    Each sample's bytes, as 64-bit numbers, are summed with fixed odd weights modulo 2^64, and the N sums are hashed with
    shapes and types: one pass over the memory, 25 ms for MNIST. Integers are exact, so it depends on no version, device
    or number of threads. It finds changes; it is no protection against forgery.
    """
    digest = hashlib.sha256()
    for tensor, known in ((x, sums), (y, None)):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update((row_sums(tensor) if known is None else known).tobytes())
    return digest.hexdigest()[:32]


def row_sums(tensor: Tensor) -> np.ndarray:
    """(N,) uint64: the weighted sum of each sample's bytes."""
    rows = tensor.contiguous().flatten(1) if tensor.dim() > 1 else tensor.contiguous()[:, None]
    data = rows.numpy().view(np.uint8)
    width = -(-data.shape[1] // 8) * 8
    weights = _weights(width)
    sums = np.empty(len(data), np.uint64)
    step = max(1, _CHUNK_BYTES // width)
    for start in range(0, len(data), step):
        chunk = data[start : start + step]
        if width != data.shape[1]:
            chunk = np.pad(chunk, ((0, 0), (0, width - data.shape[1])))
        np.matmul(chunk.view(np.uint64), weights, out=sums[start : start + step])
    return sums


@lru_cache(maxsize=8)
def _weights(width: int) -> np.ndarray:
    return np.frombuffer(hashlib.shake_256(b"grow").digest(width), dtype=np.uint64) | np.uint64(1)


def _difference(name: str, found: dict[str, Any], known: dict[str, Any]) -> str:
    """Words that follow "its data have"."""
    now, then = found[name], known[name]
    match name:
        case "task":
            return f"the task {now}, but the net learned {then}"
        case "input_shape":
            return f"inputs of shape {tuple(now)} instead of {tuple(then)}"
        case "outputs":
            what = "classes" if found["task"] == "classification" else "targets"
            named = f" ({listed(found['classes'], _LISTED)})" if found["classes"] else ""
            own = f" ({listed(known['classes'], _LISTED)})" if known.get("classes") else ""
            return f"{now} {what}{named} instead of {then}{own}"
        case "classes":
            order = "the same classes in another order" if sorted(now) == sorted(then) else "other classes"
            return f"{order} ({listed(now, _LISTED)} instead of {listed(then, _LISTED)})"
        case "corpus":
            return f"another corpus ({_corpus(now)} instead of {_corpus(then)})"
        case "counts":
            return f"{_counted(now)} instead of {_counted(then)}"
        case _:
            part = "training" if name == "hash" else "test"
            return (
                f"other {part} samples, or the same ones in another order (fingerprint {now[:8]} instead of {then[:8]})"
            )


def _corpus(corpus: dict[str, Any]) -> str:
    return f"{counted(corpus['files'], 'file')} with {corpus['bytes']:,} bytes, SHA-256 {corpus['sha256'][:8]}"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(counted(n, f"{'training' if split == 'train' else split} sample") for split, n in counts.items())


def _plain(value: Any) -> Any:
    """Tuples and lists are the same."""
    return list(value) if isinstance(value, tuple | list) else value
