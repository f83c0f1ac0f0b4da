"""What a GPU wants otherwise than a CPU: copies that nobody waits for, few readings, and large pieces of work.

Reading a value from a GPU waits until all that was asked of it before is done, and leaves it idle until the next operation
arrives; and whatever the size of an operation, a GPU takes some microseconds to begin it. A CPU has neither cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

# How much more a GPU is given at a time than a CPU, whose pieces are to fit its cache.
_LARGER = 64
# Bytes of free memory for each number of a piece: it is held in float32 and float64, and some ten times on its way.
_BYTES = 128

SOLVED_HERE = 2**20
"""Numbers of the largest matrix that the CPU solves for a GPU, which waits several times for each and has none of the CPU's
advantage in small ones. (Not measured on a GPU.)"""


def precise(device: torch.device) -> torch.dtype:
    """float64; MPS has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def waits(device: torch.device) -> bool:
    """Whether the host waits for the device when it reads a value."""
    return device.type != "cpu"


def piece(on_cpu: int, device: torch.device) -> int:
    """Numbers to be worked on at a time: `on_cpu`, which suit a CPU's cache, and more on a GPU, as far as its memory goes."""
    if device.type != "cuda":
        return on_cpu
    free, _ = torch.cuda.mem_get_info(device)
    return max(on_cpu, min(_LARGER * on_cpu, free // _BYTES))


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device; from a CPU to a GPU the host goes on at once, as it is copied from page-locked memory."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    locked = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor.detach())
    return locked.to(device, non_blocking=True)


def sent_module(module: Module, like: Tensor) -> Module:
    """A new module on the device of a tensor and in its dtype, as by `sent`."""
    module.to(dtype=like.dtype)
    return module._apply(lambda tensor: sent(tensor, like.device))


def fetched(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one device on the CPU; the host waits once, however many there are."""
    if not tensors or not waits(tensors[0].device):
        return list(tensors)
    bytes_of = [t.detach().reshape(-1).view(torch.uint8) for t in tensors]
    parts = torch.cat(bytes_of).cpu().split([len(b) for b in bytes_of])
    # copied, as each begins at a place of its own
    return [part.clone().view(t.dtype).view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def numbers(tensors: Sequence[Tensor]) -> list[Any]:
    """What `tolist` gives for each of some tensors of one device, as floats; the host waits once."""
    return [t.tolist() for t in fetched([t.detach().to(precise(t.device)) for t in tensors])]


class Readings:
    """Values that are read from one device together, once the first of them is asked for."""

    def __init__(self) -> None:
        self._pending: list[tuple[int, Tensor]] = []
        self._known: dict[int, Any] = {}

    def later(self, tensor: Tensor) -> Callable[[], Any]:
        """What `tolist` gives for the tensor, as floats, when it is called."""
        number = len(self._known) + len(self._pending)
        self._pending.append((number, tensor))

        def value() -> Any:
            if number not in self._known:
                found = numbers([t for _, t in self._pending])
                self._known |= dict(zip((n for n, _ in self._pending), found, strict=True))
                self._pending.clear()
            return self._known[number]

        return value
