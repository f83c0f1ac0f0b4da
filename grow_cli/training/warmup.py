"""Training only what has just been added, with everything else frozen (Alether, Algorithm 2, phases 1, 3 and 4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from grow_cli.surgery.flops import step_flops_per_sample
from grow_cli.training.step import extra_flops, extra_so_far, make_step
from grow_cli.training.streams import fork

if TYPE_CHECKING:
    from torch import Tensor

    from grow_cli.methods.base import WarmUp
    from grow_cli.training.session import Session

_THAWS = 10
"""Times at which more is unfrozen: the step is made, and its FLOPs are counted, anew at each."""


def warm_up_alone(session: Session, new: list[nn.Parameter], wanted: WarmUp) -> tuple[tuple[float, float] | None, int]:
    """Train only `new`, and then ever more of the others, at a multiple of the base rate.

    Returns the mean loss of the first and of the last ten steps (None without a step), and the FLOPs
    of all of them: what is frozen gets no gradients, and what lies below the new parameters none at all.

    The minibatches come from the growth stream: the run's own data order does not move. The optimizer is the run's own, so the
    moments of what is warmed up are carried on; it skips frozen parameters, whose gradient stays None. These few steps are never
    compiled: each set of frozen parameters would be a program of its own, and cost more than it saves.
    """
    if wanted.steps + wanted.thaw == 0:
        return None, 0
    batches = session.data.batches(session.batches.batch_size, fork(session.streams["growth"]))
    losses: list[Tensor] = []
    flops, extra = 0, extra_so_far(session)
    for group in session.optimizer.param_groups:
        group["lr"] = session.config.optimizer.lr * wanted.rate
    for trained, steps in _parts(session.model, new, wanted):
        if not steps:
            continue
        with _alone(session.model, trained):
            step, now = make_step(session), session.moment()
            for _ in range(steps):
                now.stop_if_interrupted()
                losses.append(step(*batches.next())[0])
        flops += steps * step_flops_per_sample(session.model, session.data.spec.input_shape, trained)
    values = torch.stack(losses)
    first, last = torch.stack([values[:10].mean(), values[-10:].mean()]).tolist()
    flops += extra_flops(session, extra)
    return (first, last), flops * session.batches.batch_size


def _parts(model: nn.Module, new: list[nn.Parameter], wanted: WarmUp) -> list[tuple[list[nn.Parameter], int]]:
    """What is trained for how many steps: the new ones alone, and then with as many more of the others each time.

    Nearest first: by the distance, in the order of `model.parameters()`, from the next new one.
    """
    added = {id(p) for p in new}
    order = [p for p in model.parameters() if p.requires_grad or id(p) in added]
    places = [place for place, p in enumerate(order) if id(p) in added]
    others = [(min(abs(place - n) for n in places), place) for place, p in enumerate(order) if id(p) not in added]
    nearest = [order[place] for _, place in sorted(others)]
    parts = min(_THAWS, len(nearest), wanted.thaw)
    ends = [wanted.thaw * part // parts for part in range(parts + 1)] if parts else []
    thawed = [
        ([*new, *nearest[: len(nearest) * (part + 1) // (parts + 1)]], ends[part + 1] - ends[part])
        for part in range(parts)
    ]
    return [(new, wanted.steps), *thawed]


@contextmanager
def _alone(model: nn.Module, trained: list[nn.Parameter]) -> Iterator[None]:
    """Everything else frozen, a batch norm's running statistics too."""
    kept = {id(p) for p in trained}
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in kept]
    for parameter in frozen:
        parameter.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(id(p) in kept for p in module.parameters()):
            module.eval()
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        model.train()
