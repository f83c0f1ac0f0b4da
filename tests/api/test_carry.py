"""`grow.carry` in a training loop of one's own: old entries go on as if nothing had been added."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

import grow_cli as grow
from grow_cli.errors import UserError

MAKERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "adam": lambda p: Adam(p, lr=0.1),
    "adamw": lambda p: AdamW(p, lr=0.1, amsgrad=True),
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9),
    "plain": lambda p: SGD(p, lr=0.1),
}


def step(optimizer: Optimizer, parameter: nn.Parameter, seed: int) -> None:
    """The gradient of the first three rows is the same whatever follows them."""
    gradient = torch.randn(3, 2, generator=torch.Generator().manual_seed(seed))
    parameter.grad = torch.cat([gradient, torch.ones(len(parameter) - 3, 2)])
    optimizer.step()


@pytest.mark.parametrize("name", MAKERS)
def test_old_entries_train_on_to_the_same_bits_and_new_ones_train(name: str) -> None:
    start = torch.randn(3, 2, generator=torch.Generator().manual_seed(9))
    kept, layer = nn.Parameter(start.clone()), nn.Linear(2, 3, bias=False)
    layer.weight.data.copy_(start)
    bias = nn.Parameter(torch.zeros(1))
    same, optimizer = MAKERS[name]([kept]), MAKERS[name]([layer.weight, bias])
    for seed in range(3):
        step(same, kept, seed)
        step(optimizer, layer.weight, seed)
    longer = nn.Parameter(torch.cat([layer.weight.detach(), torch.zeros(2, 2)]))
    grow.carry(optimizer, layer.weight, longer, 0)
    layer.weight = longer
    assert optimizer.param_groups[0]["params"][0] is longer
    assert optimizer.param_groups[0]["params"][1] is bias
    for seed in range(3, 6):
        step(same, kept, seed)
        step(optimizer, layer.weight, seed)
    assert torch.equal(layer.weight[:3], kept)
    assert bool((layer.weight[3:] < 0).all())


@pytest.mark.parametrize(
    ("shape", "dim", "told"),
    [((3, 2), 2, "no such dimension"), ((2, 2), 0, "at least as long"), ((4, 3), 0, "at least as long")],
)
def test_what_cannot_be_carried_is_refused(shape: tuple[int, ...], dim: int, told: str) -> None:
    old = nn.Parameter(torch.zeros(3, 2))
    with pytest.raises(UserError, match=told):
        grow.carry(Adam([old]), old, nn.Parameter(torch.zeros(shape)), dim)
    with pytest.raises(UserError, match="does not have the old parameter"):
        grow.carry(Adam([old]), nn.Parameter(torch.zeros(3, 2)), old, 0)
