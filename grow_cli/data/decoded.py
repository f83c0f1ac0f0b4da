"""The decoded images of a folder as one flat file, which every job of a machine maps into its memory.

    header (JSON, 4096 bytes) | pixels (N, C, H, W) uint8 | counts (N, C, 256) | sums (N,) uint64

Beside the pixels stands what would otherwise be read off them at each start: per image and channel how often each byte
occurs, of which the mean and the standard deviation of any part follow exactly, and the sum that the part's fingerprint
is made of. The header comes last, the file is renamed into place when it is whole and on the disk, and of several jobs
that want it at once one writes it while the others wait.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grow_cli.console import note
from grow_cli.data.identity import row_sums
from grow_cli.errors import UserError
from grow_cli.files import open_lock, write_atomically

_HEADER = 4096
_KIND = "grow: decoded images, 1"
_LEVELS = 256
_PART = 4096  # images whose counts are added at a time
_ROOM = 64 * 2**20  # bytes that stay free on the disk beside the file

Shape = tuple[int, int, int, int]
Put = Callable[[int, np.ndarray], None]
"""Takes an image and its place."""


@dataclass(frozen=True)
class Decoded:
    """An open file; its arrays are maps of it, whose pages the system takes back when it needs the memory."""

    pixels: Tensor
    """(N, C, H, W) uint8, to be read only."""
    counts: np.ndarray
    """(N, C, 256): how often each byte occurs."""
    sums: np.ndarray
    """(N,) uint64, `identity.row_sums` of each image."""
    path: Path

    def counted(self, index: np.ndarray) -> Tensor:
        """(C, 256) int64: how often each byte occurs in these images (n,)."""
        total = np.zeros(self.counts.shape[1:], np.int64)
        for start in range(0, len(index), _PART):
            total += self.counts[index[start : start + _PART]].sum(0, dtype=np.int64)
        return torch.from_numpy(total)


def size_of(shape: Shape) -> int:
    """The size in bytes of the file that holds images of this shape."""
    return _layout(shape)[-1]


def open_decoded(path: Path, fingerprint: str) -> Decoded | None:
    """None where there is no file, or one of other images.

    ValueError for a file that is damaged, OSError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER)
            size = os.fstat(file.fileno()).st_size
            found: dict[str, Any] = json.loads(head)
            if found["kind"] != _KIND or found["fingerprint"] != fingerprint:
                return None
            n, channels, height, width = shape = tuple(map(int, found["shape"]))
            counts, sums, end = _layout((n, channels, height, width))
            if size != end:
                raise ValueError(f"it has {size:,} bytes and should have {end:,}")
            # read-only: a private writable map of 20 GB is refused where less memory is free
            pixels = np.memmap(file, np.uint8, "r", _HEADER, shape)
            of_bytes = np.memmap(file, _kind(shape), "r", counts, (n, channels, _LEVELS))
            of_images = np.memmap(file, np.uint64, "r", sums, (n,))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise UserError(
                f"{path}: there is no address space for a map of {size / 1e9:.1f} GB: raise the limit of `ulimit -v`"
            ) from error
        raise
    except (KeyError, TypeError) as error:
        raise ValueError("its header is damaged") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nobody may write to it
        return Decoded(torch.from_numpy(pixels), of_bytes, of_images, path)


class Writer:
    """Fills the file of (N, C, H, W) images, in any order and from several threads. OSError where the disk is full."""

    def __init__(self, descriptor: int, shape: Shape) -> None:
        self._file, self._shape = descriptor, shape
        self._counts, self._at_sums, _ = _layout(shape)
        self._sums = np.zeros(shape[0], np.uint64)

    def put(self, i: int, pixels: np.ndarray) -> None:
        """Image i, (C, H, W), or (1, H, W) for as many equal channels."""
        # a write that fails says so; a full disk below a writable map would kill the process
        pixels = np.ascontiguousarray(np.broadcast_to(pixels, self._shape[1:]))
        _write(self._file, pixels.data, _HEADER + i * pixels.nbytes)
        counts = np.stack([np.bincount(channel.ravel(), minlength=_LEVELS) for channel in pixels])
        counts = counts.astype(_kind(self._shape))
        _write(self._file, counts.data, self._counts + i * counts.nbytes)
        self._sums[i] = row_sums(torch.from_numpy(pixels)[None])[0]

    def finish(self, fingerprint: str) -> None:
        """The header, when every image is there."""
        _write(self._file, self._sums.data, self._at_sums)
        header = {"kind": _KIND, "fingerprint": fingerprint, "shape": list(self._shape)}
        _write(self._file, memoryview(json.dumps(header).encode().ljust(_HEADER)), 0)


def write_decoded(path: Path, fingerprint: str, shape: Shape, fill: Callable[[Put], object]) -> None:
    """The file of the images that `fill` hands on, or none if it raises. OSError where writing fails."""
    need, free = size_of(shape), shutil.disk_usage(path.parent).free
    if free < need + _ROOM:
        raise OSError(errno.ENOSPC, f"{need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")

    def write(temporary: Path) -> None:
        with temporary.open("r+b", buffering=0) as file:
            writer = Writer(file.fileno(), shape)
            fill(writer.put)
            writer.finish(fingerprint)

    write_atomically(path, write)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Holds the lock of a file that is to be written; waits, and says so, while another job has it.

    Where locks are not to be had (some network folders), each job writes for itself: the last one's file stays.
    """
    lock = path.with_suffix(".lock")
    held = None
    try:
        while held is None:
            descriptor = open_lock(lock)
            try:
                _wait_for(descriptor, path)
            except OSError:
                os.close(descriptor)
                break
            if _is(lock, descriptor):
                held = descriptor
            else:  # the job that had it has removed it
                os.close(descriptor)
        if held is not None:
            for stale in path.parent.glob(f".{path.name}.*.tmp"):  # of a job that was killed
                stale.unlink(missing_ok=True)
        yield
    finally:
        if held is not None:
            lock.unlink(missing_ok=True)
            os.close(held)


def _wait_for(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note(f"Another job is decoding these images; waiting for its file in {path.parent}.")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _kind(shape: tuple[int, ...]) -> np.dtype[Any]:
    """The type of a histogram's counts: two bytes are enough for images below 256x256."""
    return np.dtype(np.uint16 if shape[2] * shape[3] < 2**16 else np.uint32)


def _layout(shape: Shape) -> tuple[int, int, int]:
    """Where counts and sums begin, at multiples of 8, and the size of the file."""
    n, channels, height, width = shape
    counts = _HEADER + -(-n * channels * height * width // 8) * 8
    sums = counts + n * channels * _LEVELS * _kind(shape).itemsize
    return counts, sums, sums + 8 * n


def _write(descriptor: int, data: memoryview, at: int) -> None:
    rest = data.cast("B")
    while rest:
        done = os.pwrite(descriptor, rest, at)
        rest, at = rest[done:], at + done
