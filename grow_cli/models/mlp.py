"""`model=mlp`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from grow_cli.models.base import ACTIVATIONS, Ends, ModelOption, check_choice, check_dropout, check_sizes
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.models.modules.network import GrowableModel


@option("model", "mlp")
@dataclass
class MLPOption(ModelOption):
    """Linear layers, each followed by norm, activation and dropout; images are flattened."""

    name: str = "mlp"
    hidden: list[int] = field(default_factory=lambda: [64])
    """Units of each hidden layer; `[]` is a linear model."""
    activation: str = "relu"
    """relu, leaky_relu, elu, gelu, selu, silu, tanh, identity; relu_right: relu with the derivative 1 at zero, as GradMax
    needs; rational: SENN's, with parameters per unit, normalised; rational_raw: as the paper writes it."""
    norm: str = "none"
    """`none`, `batch`, or `layer`, which couples a layer's units, so that width cannot grow."""
    bias: bool = True
    """Of the hidden layers; the output layer always has one."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(hidden=self.hidden)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("norm", self.norm, ("none", "batch", "layer"))
        check_dropout(self.dropout)

    def build(self, spec: Ends) -> GrowableModel:
        from grow_cli.models.modules.plain import MLP

        return MLP(self, spec)
