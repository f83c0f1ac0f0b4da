"""Optimizers: torch's own, fused into one kernel where the device has it, and the natural gradient.

Weight decay applies to matrices, not to biases and norms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from grow_cli.keys import key
from grow_cli.registry import Option

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from grow_cli.moment import Moment


@dataclass
class OptimizerOption(Option):
    """Base of every optimizer: says in `make` which it is."""

    group_name: ClassVar[str] = "optimizer"
    replayable: ClassVar[bool] = False
    """Whether its step can be replayed as a CUDA graph: it does the same operations on the same tensors each time."""

    lr: float = key(1e-3, above=0, tune=(1e-4, 3e-2))
    """The base rate, which the schedule multiplies."""
    weight_decay: float = key(0.0, at_least=0, tune=(1e-6, 1e-2))
    """Strength with which weights shrink towards zero."""

    def build(self, model: nn.Module) -> Optimizer:
        """The optimizer of a model's parameters."""
        from grow_cli.surgery.optimizer import parameter_groups

        # without decay the two groups are alike, and one is a kernel call a step instead of two
        whole = [{"params": list(model.parameters()), "weight_decay": 0.0}]
        return self.make(parameter_groups(model, self.weight_decay) if self.weight_decay else whole, model)

    def check_start(self, now: Moment) -> None:
        """UserError where this run's data or net are nothing for it; asked once they are there, before the first step."""

    def make(self, groups: list[dict[str, Any]], model: nn.Module) -> Optimizer:
        """The optimizer of these groups of parameters."""
        raise NotImplementedError


def fused(model: nn.Module) -> bool:
    """Whether torch has a kernel for the whole step where the model is."""
    return next(model.parameters()).device.type in ("cpu", "cuda")
