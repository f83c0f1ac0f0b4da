"""`model=vit`."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from grow_cli.data.base import DataSpec
from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.models.attention import check_head_counts, check_heads, head_counts_key, head_size_key, heads_key
from grow_cli.models.base import ModelOption, activation_key, dropout_key, image_shape, size_key, size_keys
from grow_cli.registry import option


@option("model", "vit")
@dataclass
class ViTOption(ModelOption):
    """A small patch transformer: pre-norm blocks of attention and MLP, learned positions, mean over the tokens."""

    net = "residual.ViT"
    on_several_ranks = True
    replayable = True

    patch: int = key(4, at_least=1)
    """Pixels along a side of a patch; must divide the image's height and width."""
    dim: int = size_key(64)
    """Width of the residual stream."""
    heads: int = heads_key()
    """Attention heads per block; must divide dim where model.head_size is null."""
    head_size: int | None = head_size_key()
    """Numbers per head; null: dim / heads."""
    head_counts: list[int] | None = head_counts_key()
    """Heads of each block, where they differ; null: model.heads in each."""
    mlp: list[int] = size_keys(128, 128)
    """Hidden units of each block's MLP."""
    activation: str = activation_key("gelu")
    """As in model=mlp."""
    dropout: float = dropout_key()
    """Dropout on what attention and MLP add to the stream."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self.dim, self.heads, self.head_size)
        check_head_counts(self.head_counts, len(self.mlp))

    def check_data(self, spec: DataSpec) -> None:
        _, height, width = image_shape(self.name, spec)
        if height % self.patch or width % self.patch:
            side = gcd(height, width)
            sizes = ", ".join(str(n) for n in range(1, side + 1) if side % n == 0)
            raise UserError(
                f"model.patch={self.patch} does not divide the images of {height} x {width} pixels: use one of {sizes}"
            )
