"""The optimizer's side of growth: which parameters it holds, in which order, and what it remembers of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels, which decay; biases and norms, which do not. Each group is in the model's own order."""
    matrices, vectors = _split(model)
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def regroup(model: nn.Module, optimizer: Optimizer) -> None:
    """Make the groups hold the model's present parameters, in the order of an optimizer built for it now.

    So that what `optimizer.state_dict()` numbers by position loads into such an optimizer. The groups' rates and
    other settings stay; what is remembered of parameters that the model no longer has is dropped.
    """
    groups = optimizer.param_groups
    if len(groups) == 1:
        groups[0]["params"] = list(model.parameters())
    elif len(groups) == 2:
        for group, parameters in zip(groups, _split(model), strict=True):
            group["params"] = parameters
    else:
        raise ValueError(
            f"the optimizer has {len(groups)} parameter groups: growth knows one, or the two of `parameter_groups`"
        )
    present = {id(parameter) for parameter in model.parameters()}
    for parameter in [p for p in optimizer.state if id(p) not in present]:
        del optimizer.state[parameter]


def carry(optimizer: Optimizer, old: nn.Parameter, new: nn.Parameter, dim: int) -> None:
    """Hand on what is remembered of `old` to `new`, which is longer along `dim`; zero for the new entries.

    Moments keep their place. The step count is the tensor's, so that Adam's bias correction treats the new entries
    as old: their first step is (1 − β1)/√(1 − β2) times that of a fresh tensor, 3 with the usual constants.
    """
    if old not in optimizer.state:
        return
    added = list(new.shape)
    added[dim] -= old.shape[dim]
    state: dict[str, Any] = {}
    for name, value in optimizer.state.pop(old).items():
        if isinstance(value, Tensor) and value.shape == old.shape:
            value = torch.cat([value, value.new_zeros(added)], dim)
        elif isinstance(value, Tensor) and value.ndim:
            return  # a factored state (Adafactor's) has no entries that could be kept: the tensor starts anew
        state[name] = value
    optimizer.state[new] = state


def _split(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    parameters = list(model.parameters())
    return [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
