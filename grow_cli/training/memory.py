"""Running out of memory, on any device and in any library: one sentence that names what was running."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from grow_cli.errors import Crashed, UserError

# What torch and numpy say, under the types RuntimeError and ValueError, where they have no type for it.
_WORDS = (
    "cuda out of memory",
    "array is too big",
    "maximum allowed size exceeded",
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_failed",
    "storage size calculation overflowed",
    "invalid buffer size",
    "integer multiplication overflow",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what an error means."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    told = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError | ValueError) and any(words in told for words in _WORDS)
    )


@contextmanager
def enough_memory(doing: str, remedy: str) -> Iterator[None]:
    """Crashed where memory runs out inside the block: `out of memory while DOING: REMEDY`."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise Crashed(f"out of memory while {doing}: {remedy}") from error


def refuse_too_large(net: nn.Module, device: torch.device) -> None:
    """UserError where weights, gradients and two moments of each would not fit the whole device.

    To be asked of a net on the meta device: allocating too much kills a process without a message where the system promises
    more memory than it has.
    """
    there = _bytes_of(device)
    parameters = sum(p.numel() for p in net.parameters())
    needed = 4 * sum(p.numel() * p.element_size() for p in net.parameters())
    if there is not None and needed > there:
        raise UserError(
            f"the net has {parameters:,} parameters: training it takes {needed / 2**30:,.0f} GiB, and {device} has "
            f"{there / 2**30:,.0f}: lower the model's size"
        )


def _bytes_of(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):  # a system that does not tell
        return None
