"""`model=mlp`."""

from __future__ import annotations

from dataclasses import dataclass

from grow_cli.keys import key
from grow_cli.models.base import ModelOption, activation_key, dropout_key, size_keys
from grow_cli.registry import option


@option("model", "mlp")
@dataclass
class MLPOption(ModelOption):
    """Linear layers, each followed by norm, activation and dropout; images are flattened."""

    net = "plain.MLP"
    on_several_ranks = True
    replayable = True

    hidden: list[int] = size_keys(64)
    """Units of each hidden layer; `[]` is a linear model."""
    activation: str = activation_key("relu")
    """relu, leaky_relu, elu, gelu, selu, silu, tanh, sine, identity; relu_right: relu with the derivative 1 at zero, as GradMax
    needs; rational: SENN's, with parameters per unit, normalised; rational_raw: as the paper writes it."""
    norm: str = key("none", one_of=("none", "batch", "layer"))
    """`none`, `batch`, or `layer`, which couples a layer's units, so that width cannot grow."""
    bias: bool = True
    """Biases in hidden layers; the output layer always has one."""
    dropout: float = dropout_key()
    """Probability of setting an output of a hidden layer to zero in training."""

    @property
    def bounds_inputs(self) -> bool:
        return self.activation.startswith("rational")
