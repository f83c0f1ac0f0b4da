"""Measuring a net on a split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from grow_cli.surgery.measure import evaluation_mode
from grow_cli.training.gathering import score, score_name, score_sums
from grow_cli.training.step import autocast, loss_function

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.data.tensors import Data, Split


def evaluate(
    model: nn.Module, data: Data, split: Split, *, batch_size: int, precision: str = "fp32"
) -> tuple[float, float]:
    """(mean loss without label smoothing, accuracy or R²) on a whole split; one read from the device."""
    task = data.spec.task
    loss_of = loss_function(task, 0.0)
    device = split.x.device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    sums = torch.zeros(4, dtype=dtype, device=device)
    loss = torch.zeros((), dtype=dtype, device=device)
    with evaluation_mode(model), autocast(device, precision):
        for x, y in zip(split.x.split(batch_size), split.y.split(batch_size), strict=True):
            outputs = model(data.prepare(x)).float()
            loss += loss_of(outputs, y).to(dtype) * len(y)
            sums += score_sums(outputs, y, task, dtype)
    total, *scored = torch.cat([loss[None], sums]).tolist()
    return total / max(1, len(split.y)), score(scored, task)


def measure_split(name: str, model: nn.Module, data: Data, config: Config) -> dict[str, float]:
    """`<name>_loss` and `<name>_accuracy` or `<name>_r2` of the split `train`, `val` or `test`."""
    loss, scored = evaluate(
        model, data, getattr(data, name), batch_size=config.evaluate.batch_size, precision=config.precision
    )
    return {f"{name}_loss": loss, f"{name}_{score_name(data.spec.task)}": scored}


def measure_splits(model: nn.Module, data: Data, config: Config) -> dict[str, float]:
    """All three."""
    return {
        key: value
        for name in ("train", "val", "test")
        for key, value in measure_split(name, model, data, config).items()
    }
