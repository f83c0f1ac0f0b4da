"""A net's outputs on a fixed batch, measured without side effects, and how much growth changed them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grow_cli.hardware import Readings, precise


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
    """On one batch; its numbers are read from the device when they are asked for."""

    values: Callable[[], list[float]]
    outputs: Tensor
    """(n, outputs), or (n, tokens, outputs)."""

    @property
    def loss(self) -> float:
        """The mean over the batch."""
        return self.values()[0]

    @property
    def accuracy(self) -> float | None:
        """None where the targets are not classes."""
        return self.values()[1] if len(self.values()) > 1 else None


def measure(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    readings: Readings | None = None,
) -> Measurement:
    """In evaluation mode; parameters, buffers, modes and random streams stay as they are.

    :param readings: that its numbers are read with
    """
    with evaluation_mode(model), exact_products(x.device):
        outputs = model(x)
        values = [loss(outputs, y)]
        if not y.is_floating_point():
            values.append((outputs.argmax(-1) == y).to(values[0].dtype).mean())
    return Measurement((readings or Readings()).later(torch.stack(values)), outputs)


@dataclass(frozen=True)
class FunctionChange:
    """How far apart two nets are on one batch; read from the device when it is asked for."""

    squares: Callable[[], list[float]]

    @property
    def mean_squared(self) -> float:
        """E‖f_new − f_old‖², over the samples."""
        return self.squares()[0]

    @property
    def relative(self) -> float:
        """Its root, divided by that of E‖f_old‖²."""
        change, size = self.squares()
        if size == 0:
            return 0.0 if change == 0 else math.inf
        return float((change / size) ** 0.5)


def function_change(before: Tensor, after: Tensor, readings: Readings | None = None) -> FunctionChange:
    """From the outputs (n, ..., outputs) of the two nets on the same batch; `readings` as of `measure`."""
    dtype = precise(before.device)
    old, new = before.to(dtype).flatten(0, -2), after.to(dtype).flatten(0, -2)
    squares = torch.stack([(new - old).square().sum(1).mean(), old.square().sum(1).mean()])
    return FunctionChange((readings or Readings()).later(squares))
