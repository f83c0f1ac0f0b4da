"""A net's outputs on a fixed batch, measured without side effects, and how much growth changed them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode inside the block, in its former mode afterwards; no gradients."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """float32 products as float32, whatever the run trains in.

    TF32's error, 5e-4, is above what growth may change a function by, and above the tolerance of its solvers.
    """
    precision, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = cudnn


@dataclass(frozen=True)
class Measurement:
    """On one batch."""

    loss: float
    accuracy: float | None
    """None where the targets are not classes."""
    outputs: Tensor
    """(n, outputs), or (n, tokens, outputs)."""


def measure(model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Measurement:
    """In evaluation mode; parameters, buffers, modes and random streams stay as they are."""
    with evaluation_mode(model), exact_products(x.device):
        outputs = model(x)
        value = loss(outputs, y).item()
        classes = not y.is_floating_point()
        accuracy = (outputs.argmax(-1) == y).float().mean().item() if classes else None
    return Measurement(value, accuracy, outputs)


@dataclass(frozen=True)
class FunctionChange:
    """How far apart two nets are on one batch."""

    mean_squared: float
    """E‖f_new − f_old‖², over the samples."""
    relative: float
    """Its root, divided by that of E‖f_old‖²."""


def function_change(before: Tensor, after: Tensor) -> FunctionChange:
    """From the outputs (n, ..., outputs) of the two nets on the same batch."""
    dtype = torch.float32 if before.device.type == "mps" else torch.float64
    old, new = before.to(dtype).flatten(0, -2), after.to(dtype).flatten(0, -2)
    change, size = torch.stack([(new - old).square().sum(1).mean(), old.square().sum(1).mean()]).tolist()
    if size == 0:
        return FunctionChange(change, 0.0 if change == 0 else float("inf"))
    return FunctionChange(change, (change / size) ** 0.5)
