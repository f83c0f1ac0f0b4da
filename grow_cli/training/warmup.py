"""Training what has just been added by itself, everything else frozen (Alether, Algorithm 2, phases 1, 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from grow_cli.data.batches import Batches
from grow_cli.surgery.flops import step_flops_per_sample
from grow_cli.training.step import make_step, products_so_far, training_passes
from grow_cli.training.streams import fork

if TYPE_CHECKING:
    from grow_cli.training.session import Session


def warm_up_alone(
    session: Session, new: list[nn.Parameter], *, steps: int, rate: float
) -> tuple[tuple[float, float] | None, int]:
    """Train only `new` for `steps` at `rate` times the base rate.

    Returns the mean loss of the first and of the last ten steps (None without a step), and the FLOPs
    of all of them: what is frozen gets no gradients, and what lies below the new parameters none at all.

    The minibatches come from the growth stream: the run's own data order does not move. The optimizer is the run's own, so the
    moments of what is warmed up are carried on; it skips frozen parameters, whose gradient stays None.
    """
    if steps == 0:
        return None, 0
    added = {id(p) for p in new}
    frozen = [p for p in session.model.parameters() if p.requires_grad and id(p) not in added]
    batches = Batches(
        session.data.train,
        session.batches.batch_size,
        fork(session.streams["growth"]),
        prepare=session.data.prepare,
        augment=session.data.augment,
    )
    losses = []
    for group in session.optimizer.param_groups:
        group["lr"] = session.config.optimizer.lr * rate
    for parameter in frozen:
        parameter.requires_grad_(False)
    for module in session.model.modules():  # a frozen batch norm's running statistics are frozen, too
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(id(p) in added for p in module.parameters()):
            module.eval()
    try:
        step, products, now = make_step(session), products_so_far(session), session.moment()
        for _ in range(steps):
            now.stop_if_interrupted()
            losses.append(step(*batches.next())[0])
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        session.model.train()
    values = torch.stack(losses)
    first, last = torch.stack([values[:10].mean(), values[-10:].mean()]).tolist()
    a_step = step_flops_per_sample(session.model, session.data.spec.input_shape, new)
    a_sample = steps * a_step + training_passes(session, 0, products) * session.flops
    return (first, last), a_sample * session.batches.batch_size
