"""Images that are read from their file batch by batch, and which sets are: those that memory has no room for."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grow_cli.data.decoded import Decoded

_SHARE = 2  # a set may take one of so many parts of what is free: nets, activations and other jobs need the rest
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ON_LINUX = Path("/proc/meminfo")
_CONTROL = Path("/sys/fs/cgroup")


class Rows:
    """Images of a map in an order of their own, with what a split's inputs are asked for; a batch is on the device."""

    dtype = torch.uint8

    def __init__(self, file: Decoded, index: Tensor, device: torch.device) -> None:
        """:param index: (n,), on the CPU: which of the file's images these are"""
        self._file, self._index, self.device = file, index, device
        self.shape = torch.Size((len(index), *file.pixels.shape[1:]))
        self._buffers = _Buffers(device) if device.type == "cuda" else None

    def __len__(self) -> int:
        return len(self._index)

    def counts(self) -> Tensor:
        """(C, 256) int64: how often each byte occurs; no image is read."""
        return self._file.counted(self._index.numpy())

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """(m, C, H, W) uint8; from an index on the CPU this waits for no device."""
        assert dim == 0
        rows = self._index.index_select(0, index.cpu())
        if self._buffers is not None:
            return self._buffers.moved(self._file.pixels, rows)
        return self._file.pixels.index_select(0, rows).to(self.device)

    def __getitem__(self, key: Any) -> Tensor:
        key = key.cpu() if isinstance(key, Tensor) else key
        index = torch.arange(len(self))[key]
        return self.index_select(0, index.reshape(-1)).view(*index.shape, *self.shape[1:])

    def split(self, size: int) -> Iterator[Tensor]:
        """One batch after the other; the next is read when it is asked for."""
        for index in torch.arange(len(self)).split(size):
            yield self.index_select(0, index)


class _Buffers:
    """Two page-locked buffers in turn: one is filled while the device still copies out of the other."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._of: list[Tensor | None] = [None, None]
        self._copied = [torch.cuda.Event(), torch.cuda.Event()]
        self._turn = 0

    def moved(self, pixels: Tensor, rows: Tensor) -> Tensor:
        self._turn = 1 - self._turn
        self._copied[self._turn].synchronize()  # of two batches ago
        buffer = self._of[self._turn]
        if buffer is None or len(buffer) < len(rows):
            buffer = self._of[self._turn] = _page_locked((len(rows), *pixels.shape[1:]))
        part = buffer[: len(rows)]
        torch.index_select(pixels, 0, rows, out=part)
        x = part.to(self._device, non_blocking=True)
        self._copied[self._turn].record(torch.cuda.current_stream(self._device))
        return x


def _page_locked(shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True)


def fits(on_host: int, on_device: int, device: torch.device) -> bool:
    """Whether a dataset of this many bytes leaves enough memory for the rest of a run.

    :param on_host: while the set is read; on the CPU with `on_device`
    """
    if device.type == "cuda" and on_device > torch.cuda.mem_get_info(device)[0] // _SHARE:
        return False
    return on_host + (0 if device.type == "cuda" else on_device) <= free_memory() // _SHARE


def free_memory() -> int:
    """Bytes that this process may still take without another having to give up any: of the machine, a container, `ulimit`."""
    if not _ON_LINUX.exists():
        return os.sysconf("SC_PHYS_PAGES") * _PAGE
    fields = dict(line.split(":") for line in _ON_LINUX.read_text(encoding="ascii").splitlines())
    free = 1024 * int(fields["MemAvailable"].split()[0])
    taken = [int(pages) * _PAGE for pages in Path("/proc/self/statm").read_text(encoding="ascii").split()]
    for limit, used in ((resource.RLIMIT_AS, taken[0]), (resource.RLIMIT_DATA, taken[5])):
        allowed = resource.getrlimit(limit)[0]
        if allowed != resource.RLIM_INFINITY:
            free = min(free, allowed - used)
    return max(0, min(free, _left_to_the_container()))


def _left_to_the_container() -> int:
    """By the second version of control groups, else the first; files that can be read again are no use of memory."""
    for limit, used, pages in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            allowed, taken = ((_CONTROL / name).read_text(encoding="ascii").strip() for name in (limit, used))
            told = (_CONTROL / limit).with_name("memory.stat").read_text(encoding="ascii")
        except OSError:
            continue
        if allowed != "max":
            again = dict(line.split() for line in told.splitlines()).get(pages, "0")
            return int(allowed) - int(taken) + int(again)
    return 2**63
