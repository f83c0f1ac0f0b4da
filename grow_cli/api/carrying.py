"""`grow.carry`: an optimizer's state across growth, for custom training loops."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from grow_cli.errors import UserError
from grow_cli.surgery import optimizer as surgery


def carry(optimizer: Optimizer, old: nn.Parameter, new: nn.Parameter, dim: int) -> None:
    """Put `new` in the place of `old`, which it continues along `dim`: old entries keep their moments, new ones start at zero.

        longer = nn.Parameter(torch.cat([layer.weight, rows]))
        grow.carry(optimizer, layer.weight, longer, 0)
        layer.weight = longer

    Adam's step count is the tensor's. UserError where the optimizer does not hold `old`, or `new` is not shaped like it but for
    a longer `dim`.
    """
    group = next((g for g in optimizer.param_groups if any(p is old for p in g["params"])), None)
    if group is None:
        raise UserError("the optimizer does not have the old parameter: call carry before the optimizer drops it")
    if not -old.dim() <= dim < old.dim():
        raise UserError(f"dim={dim}: a parameter of shape {tuple(old.shape)} has no such dimension")
    dim %= old.dim()
    alike = [n for i, n in enumerate(old.shape) if i != dim] == [n for i, n in enumerate(new.shape) if i != dim]
    if new.dim() != old.dim() or not alike or new.shape[dim] < old.shape[dim]:
        raise UserError(
            f"the new parameter has the shape {tuple(new.shape)} and the old one {tuple(old.shape)}: it must be at least as "
            f"long along dim={dim} and equal in all other dimensions"
        )
    surgery.carry(optimizer, old, new, dim)
    group["params"] = [new if p is old else p for p in group["params"]]
