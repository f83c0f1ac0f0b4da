"""Training what has just been added by itself, everything else frozen (Alether, Algorithm 2, phases 1, 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from grow_cli.training.step import products_so_far, training_passes
from grow_cli.training.streams import fork

if TYPE_CHECKING:
    from grow_cli.training.state import Run


def warm_up_alone(run: Run, new: list[nn.Parameter], *, steps: int, rate: float) -> tuple[float, float, int]:
    """Train only `new` for `steps` at `rate` times the base rate.

    Returns the mean loss of the first and of the last ten steps, and the forward passes that all of them were worth.

    The minibatches come from the growth stream: the run's own data order does not move. The optimizer is the run's own, so the
    moments of what is warmed up are carried on; it skips frozen parameters, whose gradient stays None.
    """
    from grow_cli.data.batches import Batches

    if steps == 0:
        return float("nan"), float("nan"), 0
    added = {id(p) for p in new}
    frozen = [p for p in run.model.parameters() if p.requires_grad and id(p) not in added]
    batches = Batches(
        run.data.train,
        run.batches.batch_size,
        fork(run.streams["growth"]),
        prepare=run.data.prepare,
        augment=run.data.augment,
    )
    losses = []
    for group in run.optimizer.param_groups:
        group["lr"] = run.config.optimizer.lr * rate
    for parameter in frozen:
        parameter.requires_grad_(False)
    for module in run.model.modules():  # a frozen batch norm's running statistics are frozen, too
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(id(p) in added for p in module.parameters()):
            module.eval()
    try:
        step, products = run.train_step(), products_so_far(run)
        for _ in range(steps):
            run.stop_if_interrupted()
            losses.append(step(*batches.next())[0])
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        run.model.train()
    values = torch.stack(losses)
    first, last = torch.stack([values[:10].mean(), values[-10:].mean()]).tolist()
    return first, last, training_passes(run, steps, products)
