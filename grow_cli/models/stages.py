"""`model=stages`."""

from __future__ import annotations

from dataclasses import dataclass

from grow_cli.errors import check
from grow_cli.models.base import ModelOption, activation_key, size_keys
from grow_cli.registry import option


@option("model", "stages")
@dataclass
class StagesOption(ModelOption):
    """A sum of small nets that all read the input, each multiplied by a magnitude; images are flattened."""

    net = "stages.Stages"
    on_several_ranks = True
    replayable = True

    hidden: list[list[int]] = size_keys([20, 20])
    """Units of each hidden layer, a list per stage."""
    activation: str = activation_key("tanh")
    """As in model=mlp."""
    first: str = activation_key("sine")
    """Of each stage's first hidden layer: sines can follow what is left of a function wherever it turns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            bool(self.hidden) and all(self.hidden),
            f"model.hidden={self.hidden}: give one stage at least, and each stage one hidden layer at least, as in [[20,20]]",
        )
