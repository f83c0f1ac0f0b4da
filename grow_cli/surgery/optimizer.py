"""The optimizer's side of growth: its parameters, their order, and its state for each."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Beside the moments in an optimizer's state, where asked for: the tensor's step at which an entry was added, its rate's factor,
# and the steps until its rate has risen to that.
_BORN, _FACTOR, _RISING = "born", "lr_factor", "rising"
_MARKS = (_BORN, _FACTOR, _RISING)


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


def carry(
    optimizer: Optimizer,
    old: nn.Parameter,
    new: nn.Parameter,
    dim: int,
    *,
    ages: bool = False,
    lr_factor: float = 1.0,
    lr_warmup: int = 0,
) -> None:
    """Pass the state of `old` to `new`, which is longer along `dim`; zero for the new entries.

    Moments keep their place. The step count is the tensor's, so that Adam's bias correction treats the new entries as old,
    though their moments begin at zero. With the usual constants, and a gradient that stays alike, their steps reach 5.2 times
    the rate at about the twelfth step where the tensor is 1,000 steps old, and 6.6 times from 10,000 steps on.

    :param ages: note when the new entries were born, for `follow_new_entries` to correct that
    :param lr_factor: of the new entries' rate, for the same
    :param lr_warmup: steps over which their rate rises to it, for the same
    """
    known = optimizer.state.pop(old, {})
    state = dict[str, Any]()
    kept = dict(known)
    if ages and "step" in known:
        kept.setdefault(_BORN, torch.zeros_like(old))
    if lr_factor != 1:
        kept.setdefault(_FACTOR, torch.ones_like(old))
    if lr_warmup:
        kept.setdefault(_RISING, torch.zeros_like(old))
    added = list(new.shape)
    added[dim] -= old.shape[dim]
    for name, value in kept.items():
        if isinstance(value, Tensor) and value.shape == old.shape:
            fresh = value.new_full(added, {_FACTOR: lr_factor, _RISING: lr_warmup}.get(name, 0.0))
            if name == _BORN:
                fresh += known.get("step", 0.0)
            value = torch.cat([value, fresh], dim)
        elif isinstance(value, Tensor) and value.ndim:
            state = {}  # a factored state (Adafactor's) has no entries that could be kept: the tensor starts anew
            break
        state[name] = value
    if state:
        optimizer.state[new] = state


def select(optimizer: Optimizer, old: nn.Parameter, new: nn.Parameter, dim: int, kept: Tensor) -> None:
    """Pass the state of `old` to `new`, which has only these of its entries along `dim`."""
    known = optimizer.state.pop(old, {})
    if any(isinstance(value, Tensor) and value.ndim and value.shape != old.shape for value in known.values()):
        return  # a factored state, as in `carry`
    state = {
        name: value.index_select(dim, kept) if isinstance(value, Tensor) and value.ndim else value
        for name, value in known.items()
    }
    if state:
        optimizer.state[new] = state


def inherit(optimizer: Optimizer, source: nn.Parameter, new: nn.Parameter) -> None:
    """Remember of `new` what is remembered of `source`, shaped like it, its age included; its rate is its own."""
    known = {
        name: deepcopy(value)
        for name, value in optimizer.state.get(source, {}).items()
        if name not in (_FACTOR, _RISING)
    }
    if known:
        optimizer.state[new] = known


def mark_new(
    optimizer: Optimizer, parameters: Iterable[nn.Parameter], lr_factor: float = 1.0, lr_warmup: int = 0
) -> None:
    """Parameters of a new layer: their rate's factor, and the steps over which it rises to that."""
    for parameter in parameters:
        if lr_factor != 1:
            optimizer.state[parameter][_FACTOR] = torch.full_like(parameter, lr_factor, requires_grad=False)
        if lr_warmup:
            optimizer.state[parameter][_RISING] = torch.full_like(parameter, lr_warmup, requires_grad=False)


def forget(optimizer: Optimizer, parameters: Iterable[Tensor]) -> None:
    """All that is remembered of them but their rate."""
    for parameter in list(parameters):
        known = optimizer.state.pop(parameter, {})
        for name in {_FACTOR, _RISING} & known.keys():
            optimizer.state[parameter][name] = known[name]


def follow_new_entries(optimizer: Optimizer, lr_warmup: int = 0) -> None:
    """From now on every step gives new entries their own age in Adam's bias correction, and their own rate.

    That rises linearly over their first `lr_warmup` steps. All of it stands beside the moments in the optimizer's state, so that
    it is carried, saved and taken back with these. They are put away while it steps or loads, since it knows a fresh parameter
    by its empty state.
    """
    away: list[tuple[Tensor, dict[str, Tensor], Tensor]] = []

    def before(*_: Any) -> None:
        for parameter, marks, _earlier in away:  # of a step that failed
            optimizer.state[parameter].update(marks)
        away.clear()
        for parameter, state in optimizer.state.items():
            marks = {name: state.pop(name) for name in _MARKS if name in state}
            if marks:
                away.append((parameter, marks, parameter.detach().clone()))

    @torch.no_grad()
    def after(*_: Any) -> None:
        groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
        for parameter, marks, earlier in away:
            state = optimizer.state[parameter]
            if parameter.grad is not None:
                if _BORN in marks and "betas" in groups[parameter]:
                    moments = (state, groups[parameter])
                    parameter.add_(_adam_step(*moments, marks[_BORN]) - _adam_step(*moments, torch.zeros_like(earlier)))
                if _FACTOR in marks:
                    parameter.copy_(earlier + marks[_FACTOR] * (parameter - earlier))
                if _RISING in marks:
                    left = marks[_RISING]
                    risen = earlier + (1 - left / (lr_warmup + 1)) * (parameter - earlier)
                    parameter.copy_(torch.where(left > 0, risen, parameter))  # the others to the last bit as they are
                    left.sub_(1).clamp_(min=0)  # in place: a recorded step (training/graph.py) goes on from there
            state.update(marks)
        away.clear()

    lone: dict[int, dict[str, Tensor]] = {}

    def loading(_: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
        """Without what has marks and no memory yet, which Adam cannot load."""
        lone.update({i: state for i, state in saved["state"].items() if not state.keys() - set(_MARKS)})
        return saved | {"state": {i: state for i, state in saved["state"].items() if i not in lone}}

    def loaded(_: Optimizer) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for i, state in lone.items():
            optimizer.state[parameters[i]] = {name: value.to(parameters[i]) for name, value in state.items()}
        lone.clear()

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
    optimizer.register_load_state_dict_pre_hook(loading)
    optimizer.register_load_state_dict_post_hook(loaded)


def _adam_step(state: dict[str, Any], group: dict[str, Any], born: Tensor) -> Tensor:
    """Adam's last step without decay, for entries that were added after `born` of the tensor's steps."""
    (beta1, beta2), age = group["betas"], torch.as_tensor(state["step"], device=born.device) - born
    second = state.get("max_exp_avg_sq", state["exp_avg_sq"])
    length = second.sqrt() / (1 - beta2**age).sqrt() + group["eps"]
    return -group["lr"] * (state["exp_avg"] / (1 - beta1**age)) / length


def _split(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    parameters = list(model.parameters())
    return [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
