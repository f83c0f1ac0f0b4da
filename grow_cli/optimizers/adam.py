"""Adam and AdamW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.keys import key
from grow_cli.optimizers.base import OptimizerOption, fused
from grow_cli.registry import option

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


@option("optimizer", "adam")
@dataclass
class Adam(OptimizerOption):
    """Adam; `weight_decay` is an L2 term in the gradient."""

    on_several_ranks = True
    replayable = True

    weight_decay: float = key(1e-3, at_least=0, tune=(1e-6, 1e-2))
    beta1: float = key(0.9, at_least=0, below=1)
    """Decay per step of the average of gradients."""
    beta2: float = key(0.999, at_least=0, below=1)
    """Decay per step of the average of squared gradients."""
    eps: float = key(1e-8, above=0)
    """Added to the root of that average in the denominator."""

    def make(self, groups: list[dict[str, Any]], model: nn.Module) -> Optimizer:
        from torch import optim

        kind = getattr(optim, type(self).__name__)
        made: Optimizer = kind(groups, lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps, fused=fused(model))
        return made


@option("optimizer", "adamw")
@dataclass
class AdamW(Adam):
    """Adam with decoupled weight decay."""

    lr: float = key(2e-3, above=0, tune=(1e-4, 3e-2))
    weight_decay: float = key(0.1, at_least=0, tune=(1e-3, 1.0))
