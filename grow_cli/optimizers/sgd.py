"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import check
from grow_cli.keys import key
from grow_cli.optimizers.base import OptimizerOption, fused
from grow_cli.registry import option

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


@option("optimizer", "sgd")
@dataclass
class SGD(OptimizerOption):
    """Stochastic gradient descent with momentum."""

    on_several_ranks = True
    replayable = True

    lr: float = key(0.02, above=0, tune=(1e-3, 0.5))
    weight_decay: float = key(5e-4, at_least=0, tune=(1e-6, 1e-2))
    momentum: float = key(0.9, at_least=0, below=1)
    """Part of the previous step that is added to the next one."""
    nesterov: bool = True
    """Compute the gradient where the momentum leads (Nesterov)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.momentum > 0 or not self.nesterov,
            "optimizer.nesterov=true needs a momentum above 0: set optimizer.nesterov=false or optimizer.momentum=0.9",
        )

    def make(self, groups: list[dict[str, Any]], model: nn.Module) -> Optimizer:
        from torch import optim

        made = optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=fused(model))
        if self.momentum:
            made.register_step_pre_hook(_give_new_ones_momentum)
        return made


def _give_new_ones_momentum(optimizer: Optimizer, *_: Any) -> None:
    """Zero, which makes a first step of what is a first step without: torch's fused kernel wants all of a group to have some."""
    for group in optimizer.param_groups:
        states = [(p, optimizer.state[p]) for p in group["params"] if p.grad is not None]
        new = [(p, state) for p, state in states if state.get("momentum_buffer") is None]
        if 0 < len(new) < len(states):
            for parameter, state in new:
                state["momentum_buffer"] = parameter.detach().new_zeros(parameter.shape)
