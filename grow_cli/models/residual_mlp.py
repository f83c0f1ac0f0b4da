"""`model=residual_mlp`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from grow_cli.models.base import ACTIVATIONS, Ends, ModelOption, check_choice, check_sizes
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.models.modules.network import GrowableModel


@option("model", "residual_mlp")
@dataclass
class ResidualMLPOption(ModelOption):
    """Blocks x + W2 act(W1 norm(x)) on a residual stream; images are flattened."""

    residual: ClassVar[bool] = True

    name: str = "residual_mlp"
    width: int = 64
    """Of the residual stream."""
    hidden: list[int] = field(default_factory=lambda: [64, 64])
    """Hidden units of each block."""
    activation: str = "relu"
    """As in model=mlp."""
    norm: str = "layer"
    """Of the stream, at each block's entrance and before the output: `layer`, `batch` or `none`."""

    def __post_init__(self) -> None:
        check_sizes(width=self.width, hidden=self.hidden)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("norm", self.norm, ("layer", "batch", "none"))

    def initial_blocks(self) -> int:
        return len(self.hidden)

    def build(self, spec: Ends) -> GrowableModel:
        from grow_cli.models.modules.residual import ResidualMLP

        return ResidualMLP(self, spec)
