"""Measuring a net on a split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from grow_cli.hardware import precise
from grow_cli.surgery.measure import evaluation_mode, exact_products
from grow_cli.tasks import TASKS
from grow_cli.training.step import autocast, not_coarser

SPLITS = ("train", "val", "test")

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grow_cli.config import Config
    from grow_cli.data.tensors import Data


def measure_split(name: str, model: nn.Module, data: Data, config: Config) -> dict[str, float]:
    """`<name>_loss`, `<name>_<score>` and what the task has beside them, of the split `train`, `val` or `test`.

    The loss is the mean without label smoothing; all is read from the device at once.
    """
    task, split, precision = TASKS[data.spec.task], data.measured(name), config.precision
    batch_size = task.samples_at_once(config.evaluate.batch_size, split.y)
    loss_of = task.loss()
    device = split.x.device
    dtype = precise(device)
    sums = torch.zeros(4, dtype=dtype, device=device)
    loss = torch.zeros((), dtype=dtype, device=device)
    # in bf16 as it is used; TF32 is there to train fast, and a score is to be comparable
    products = autocast(device, precision) if precision == "bf16" else exact_products(device)
    with evaluation_mode(model), products:
        for x, y in zip(split.x.split(batch_size), split.y.split(batch_size), strict=True):
            outputs = not_coarser(model(data.prepare(x)))
            loss += loss_of(outputs, y).to(dtype) * len(y)
            sums += task.sums(outputs, y, dtype)
    total, *scored = torch.cat([loss[None], sums]).tolist()
    values = (total / max(1, len(split.y)), task.value(scored), *task.values_beside(scored).values())
    return dict(zip(task.columns(name), values, strict=True))


def measure_grid(model: nn.Module, data: Data, config: Config) -> dict[str, float]:
    """`grid_max_error`, the largest error of any output on the dense grid; nothing where the dataset has none.

    Nothing is selected by it, and like all evaluation it counts in neither seconds nor FLOPs.
    """
    if data.grid is None:
        return {}
    size, device = config.evaluate.batch_size, data.grid.x.device
    with evaluation_mode(model), exact_products(device):
        errors = [
            (model(x) - y).abs().amax() for x, y in zip(data.grid.x.split(size), data.grid.y.split(size), strict=True)
        ]
    return {"grid_max_error": float(torch.stack(errors).amax())}


def measure_splits(model: nn.Module, data: Data, config: Config, names: Sequence[str] = SPLITS) -> dict[str, float]:
    """All three, or some; without those that have no sample, where a net is measured on a test part alone.

    And the maximum error, where the dataset has a grid for it.
    """
    return {
        key: value
        for name in names
        if len(getattr(data, name))
        for key, value in measure_split(name, model, data, config).items()
    } | measure_grid(model, data, config)
