"""The natural gradient (SENN, appendix C)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.optimizers.base import OptimizerOption
from grow_cli.registry import option

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from grow_cli.config import Config


@option("optimizer", "natural")
@dataclass
class Natural(OptimizerOption):
    """The natural gradient (SENN): (F + damping)⁻¹g by conjugate gradients; `weight_decay` is decoupled."""

    lr: float = key(0.1, above=0, tune=(1e-2, 1.0))
    damping: float = key(0.1, above=0, why="the Fisher matrix has no inverse otherwise")
    """Tikhonov damping, added to the Fisher matrix's diagonal."""
    iterations: int = key(100, at_least=1, at_most=10**5)
    """The most products with the Fisher matrix per step; each costs about as much as a plain step."""
    tolerance: float = key(1e-2, at_least=0, below=1)
    """The search ends when the residual is this part of the gradient."""
    warm_start: bool = True
    """Begin the search at the last step's direction."""
    metric: str = key("euclidean", one_of=("euclidean", "fisher"))
    """Metric of the outputs: `euclidean` (as in the paper), or `fisher`, that of the class probabilities."""

    def check_run(self, config: Config) -> list[str]:
        if config.dataset.language:
            raise UserError(
                f"optimizer=natural needs outputs (n, outputs), but dataset={config.dataset.name} has one per byte of a "
                "window: use optimizer=adam or optimizer=adamw"
            )
        if config.compile:
            raise UserError(
                "compile=true cannot be combined with optimizer=natural, which differentiates the backward pass: "
                "set compile=false"
            )
        if config.precision == "bf16":
            raise UserError(
                "precision=bf16 is too coarse for optimizer=natural's conjugate gradients: set precision=fp32 or tf32"
            )
        return []

    def make(self, groups: list[dict[str, Any]], model: nn.Module) -> Optimizer:
        from grow_cli.optimizers.modules.natural import NaturalGradient

        classes = getattr(model, "task", "classification") == "classification"
        return NaturalGradient(
            groups,
            lr=self.lr,
            damping=self.damping,
            iterations=self.iterations,
            tolerance=self.tolerance,
            warm_start=self.warm_start,
            fisher=self.metric == "fisher" and classes,
        )
