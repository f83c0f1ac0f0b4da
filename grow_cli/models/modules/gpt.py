"""The net of `model=gpt`."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grow_cli.data.base import DataSpec
from grow_cli.models.modules.layers import TransformerBlock
from grow_cli.models.modules.residual import TransformerNet


class GPT(TransformerNet):
    """(n, tokens) bytes, of any type, → (n, tokens, 256) logits of the byte after each; tokens ≤ context.

    All weights begin with the standard deviation of torch's linear layers, 1/√(3 fan-in): at the width of GPT-2 (768) it is
    GPT-2's 0.02, at other widths it keeps what a layer hands on. What blocks add to the stream begins smaller by
    √(2 · blocks), as in GPT-2 (Radford et al., 2019, section 2.3); a block that comes later counts itself.
    """

    def __init__(
        self,
        ends: DataSpec,
        *,
        dim: int,
        mlp: list[int],
        positions: str,
        tie: bool,
        **block: Any,
    ) -> None:
        rotary = ends.input_shape[0] if positions == "rotary" else 0
        # the first block of an empty stack has 4 · dim hidden units
        super().__init__(ends, dim=dim, width=4 * dim, causal=True, rotary=rotary, **block)
        self.context = self.input_shape[0]
        self.embedding = nn.Parameter((3 * dim) ** -0.5 * torch.randn(self.outputs, dim))
        places = (3 * dim) ** -0.5 * torch.randn(self.context, dim) if positions == "learned" else None
        self.positions = None if places is None else nn.Parameter(places)
        self._planned = len(mlp)
        self.blocks = self._stack(mlp)
        self.norm = nn.LayerNorm(dim)
        self.head = None if tie else nn.Linear(dim, self.outputs, bias=False)

    def _made(self, hidden: int, heads: int | None = None, *, new: bool = True) -> TransformerBlock:
        block = super()._made(hidden, heads)
        blocks = len(self.blocks) + new if "blocks" in self._modules else self._planned
        with torch.no_grad():
            for linear in block.outputs():
                linear.weight.mul_((2 * blocks) ** -0.5)
                if linear.bias is not None:
                    linear.bias.mul_((2 * blocks) ** -0.5)
        return block

    def forward(self, x: Tensor) -> Tensor:
        x = F.embedding(x.long(), self.embedding)
        if self.positions is not None:
            x = x + self.positions[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return cast(Tensor, F.linear(x, self.embedding) if self.head is None else self.head(x))
