"""`model=residual_mlp`."""

from __future__ import annotations

from dataclasses import dataclass

from grow_cli.keys import key
from grow_cli.models.base import ModelOption, activation_key, size_key, size_keys
from grow_cli.registry import option


@option("model", "residual_mlp")
@dataclass
class ResidualMLPOption(ModelOption):
    """Blocks x + W2 act(W1 norm(x)) on a residual stream; images are flattened."""

    net = "residual.ResidualMLP"
    on_several_ranks = True
    replayable = True

    width: int = size_key(64)
    """Width of the residual stream."""
    hidden: list[int] = size_keys(64, 64)
    """Hidden units of each block."""
    activation: str = activation_key("relu")
    """As in model=mlp."""
    norm: str = key("layer", one_of=("layer", "batch", "none"))
    """Normalisation of the stream at each block's input and before the output: `layer`, `batch` or `none`."""
