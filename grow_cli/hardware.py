"""What a GPU wants otherwise than a CPU: copies that nobody waits for, few readings, and large pieces of work.

Reading a value from a GPU waits until all that was asked of it before is done; the next operations are sent to it only then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def waits(device: torch.device) -> bool:
    """Whether reading a value from there makes the host wait."""
    return device.type != "cpu"


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU's tensor on the device; the host goes on at once, as the copy is made from page-locked memory."""
    if device.type != "cuda":
        return tensor.to(device)
    locked = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
    return locked.to(device, non_blocking=True)


def fetched(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one device and one dtype, on the CPU; with a single wait, however many there are."""
    if not tensors or not waits(tensors[0].device):
        return list(tensors)
    flat = torch.cat([t.reshape(-1) for t in tensors]).cpu()
    parts = flat.split([t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def numbers(tensors: Sequence[Tensor]) -> list[Any]:
    """What `tolist` gives for each of some tensors of one device, as floats; with a single wait."""
    precise = torch.float32 if tensors and tensors[0].device.type == "mps" else torch.float64
    return [t.tolist() for t in fetched([t.detach().to(precise) for t in tensors])]
