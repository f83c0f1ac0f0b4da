"""`model=vit`."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from typing import TYPE_CHECKING, ClassVar

from grow_cli.errors import UserError, check
from grow_cli.models.base import (
    ACTIVATIONS,
    Ends,
    ModelOption,
    check_choice,
    check_dropout,
    check_sizes,
    image_shape,
)
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.models.modules.network import GrowableModel


@option("model", "vit")
@dataclass
class ViTOption(ModelOption):
    """A small patch transformer: pre-norm blocks of attention and MLP, learned positions, mean over the tokens."""

    residual: ClassVar[bool] = True

    name: str = "vit"
    patch: int = 4
    """Pixels along a side of a patch; must divide the image's height and width."""
    dim: int = 64
    """Width of the residual stream."""
    heads: int = 4
    """Attention heads per block; must divide dim."""
    mlp: list[int] = field(default_factory=lambda: [128, 128])
    """Hidden units of each block's MLP."""
    activation: str = "gelu"
    """As in model=mlp."""
    dropout: float = 0.0
    """On what attention and MLP add to the stream."""

    def __post_init__(self) -> None:
        check_sizes(patch=self.patch, dim=self.dim, heads=self.heads, mlp=self.mlp)
        check(self.dim % self.heads == 0, f"model.heads={self.heads}: must divide model.dim={self.dim}")
        check_choice("activation", self.activation, ACTIVATIONS)
        check_dropout(self.dropout)

    def initial_blocks(self) -> int:
        return len(self.mlp)

    def build(self, spec: Ends) -> GrowableModel:
        from grow_cli.models.modules.residual import ViT

        _, height, width = image_shape(self.name, spec)
        if height % self.patch or width % self.patch:
            side = gcd(height, width)
            sizes = ", ".join(str(n) for n in range(1, side + 1) if side % n == 0)
            raise UserError(
                f"model.patch={self.patch} does not divide the images of {height} x {width} pixels: use one of {sizes}"
            )
        return ViT(self, spec)
