"""Nets with a residual stream: a stem writes to it, blocks add to it, a head reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn

from grow_cli.data.base import DataSpec
from grow_cli.models.modules.activations import make_activation
from grow_cli.models.modules.layers import (
    Block,
    ConvBlock,
    MLPBlock,
    TransformerBlock,
    make_norm,
    same_conv,
)
from grow_cli.models.modules.network import GrowableModel
from grow_cli.models.modules.sites import DepthSite, HeadSite, WidthSite


class ResidualNet(GrowableModel):
    """The sites of a stack of blocks that may have different hidden widths."""

    blocks: nn.ModuleList

    def __init__(self, ends: DataSpec, *, width: int, key: str, make: Callable[[int], Block]) -> None:
        super().__init__(ends)
        self.width, self._key, self._make = width, key, make

    def _stack(self, widths: list[int]) -> nn.ModuleList:
        return nn.ModuleList(self._make(hidden) for hidden in widths)

    def widths(self) -> list[int]:
        return [cast(Block, block).units for block in self.blocks]

    def sizes(self) -> dict[str, Any]:
        return {self._key: self.widths()}

    def width_sites(self) -> list[WidthSite]:
        if self.no_width:
            return []
        sites = []
        for i, block in enumerate(self.blocks):
            block = cast(Block, block)
            name = f"block {i + 1} hidden"
            between = block.between()
            sites.append(WidthSite(name, block.producer, between, between[-1], block.consumer))
        return sites

    def depth_sites(self) -> list[DepthSite]:
        # the first block of an empty stack is as wide as the stream
        widths = self.widths() or [self.width]
        sites = []
        for i in range(len(self.blocks) + 1):
            hidden = widths[min(i, len(widths) - 1)]
            sites.append(
                DepthSite(f"block {i + 1}", self.blocks, i, self._maker(i, hidden), True, hidden, identity=True)
            )
        return sites

    def _maker(self, index: int, hidden: int) -> Callable[[], Block]:
        """What makes a block to be inserted there."""
        return partial(self._make, hidden)


class TransformerNet(ResidualNet):
    """A stack of transformer blocks that may have different numbers of attention heads."""

    def __init__(
        self,
        ends: DataSpec,
        *,
        dim: int,
        heads: int,
        head_size: int | None,
        head_counts: list[int] | None,
        width: int,
        **block: Any,
    ) -> None:
        self._heads, self._given = heads, head_counts
        size = dim // heads if head_size is None else head_size
        self._block: Callable[[int, int], TransformerBlock] = partial(TransformerBlock, dim, size=size, **block)
        super().__init__(ends, width=width, key="mlp", make=self._made)

    def _made(self, hidden: int, heads: int | None = None, *, new: bool = True) -> TransformerBlock:
        """A block, with as many heads as the option says where nothing is said.

        :param new: whether the stack gets it; else it shows what one of the present blocks would have begun with
        """
        return self._block(self._heads if heads is None else heads, hidden)

    def _stack(self, widths: list[int]) -> nn.ModuleList:
        counts: Sequence[int | None] = self._given or [None] * len(widths)
        return nn.ModuleList(self._made(hidden, heads) for hidden, heads in zip(widths, counts, strict=True))

    def _maker(self, index: int, hidden: int) -> Callable[[], Block]:
        counts = self.head_counts() or [self._heads]
        return partial(self._made, hidden, counts[min(index, len(counts) - 1)])

    def head_counts(self) -> list[int]:
        """The attention heads of each block."""
        return [cast(TransformerBlock, block).heads for block in self.blocks]

    def head_sites(self) -> list[HeadSite]:
        return [
            HeadSite(f"block {i + 1} heads", block, partial(self._made, block.units, new=False))
            for i, block in enumerate(cast("Sequence[TransformerBlock]", self.blocks))
        ]

    def sizes(self) -> dict[str, Any]:
        counts = self.head_counts()
        # most nets have as many in each block, and their configuration says so in one number
        alike = self._given is None and counts == [self._heads] * len(counts)
        return super().sizes() | ({} if alike else {"head_counts": counts})

    def size(self, key: str) -> Any:
        return self.head_counts() if key == "head_counts" else super().size(key)


class ResidualMLP(ResidualNet):
    """`model=residual_mlp`."""

    def __init__(self, ends: DataSpec, *, width: int, hidden: list[int], activation: str, norm: str) -> None:
        make = partial(MLPBlock, width, activation=activation, norm=norm)
        super().__init__(ends, width=width, key="hidden", make=make)
        self.stem = nn.Linear(prod(self.input_shape), width)
        self.blocks = self._stack(hidden)
        self.norm = make_norm(norm, width)
        self.head = nn.Linear(width, self.outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.head(self.norm(x)))


class ResidualCNN(ResidualNet):
    """`model=residual_cnn`."""

    def __init__(
        self, ends: DataSpec, *, width: int, hidden: list[int], kernel: int, activation: str, norm: str, pool: int
    ) -> None:
        make = partial(ConvBlock, width, kernel=kernel, activation=activation, norm=norm)
        super().__init__(ends, width=width, key="hidden", make=make)
        if norm == "group":
            self.no_width = (
                "model.norm=group normalises over groups of a block's channels, so a new one would change the others: use "
                "model.norm=batch or model.norm=none"
            )
        self.stem = same_conv(self.input_shape[0], width, kernel)
        self.pool = nn.AvgPool2d(pool) if pool > 1 else nn.Identity()
        self.blocks = self._stack(hidden)
        self.norm = make_norm(norm, width, spatial_dims=2)
        self.activation = make_activation(activation, width, spatial_dims=2)
        self.head = nn.Linear(width, self.outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.head(self.activation(self.norm(x)).mean((2, 3))))


class ViT(TransformerNet):
    """`model=vit`."""

    def __init__(self, ends: DataSpec, *, patch: int, dim: int, mlp: list[int], **block: Any) -> None:
        super().__init__(ends, dim=dim, width=dim, **block)
        channels, height, width = self.input_shape
        tokens = (height // patch) * (width // patch)
        self.stem = nn.Conv2d(channels, dim, patch, stride=patch)
        # the usual start of learned positions: small beside the patches, unequal so that tokens can be told apart
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, dim))
        self.blocks = self._stack(mlp)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, self.outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.head(self.norm(x).mean(1)))
