"""`model=gpt`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from grow_cli.data.base import DataSpec
from grow_cli.errors import check
from grow_cli.keys import key
from grow_cli.models.attention import check_head_counts, check_heads, head_counts_key, head_size_key, heads_key
from grow_cli.models.base import ModelOption, activation_key, dropout_key, size_key
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.models.modules.network import GrowableModel

_BLOCKS = 2


@option("model", "gpt")
@dataclass
class GPTOption(ModelOption):
    """A decoder that predicts the next byte: pre-norm blocks of causal attention and MLP."""

    net = "gpt.GPT"
    on_several_ranks = True
    replayable = True

    language: ClassVar[bool] = True

    blocks: int | None = key(None, at_least=0, at_most=1000, role="size", null="for as many as model.mlp lists")
    """Initial number of blocks, 0 allowed; null: as many as model.mlp lists, 2 without it."""
    dim: int = size_key(64)
    """Width of the residual stream."""
    heads: int = heads_key()
    """Attention heads per block; must divide dim where model.head_size is null."""
    head_size: int | None = head_size_key()
    """Numbers per head; null: dim / heads."""
    head_counts: list[int] | None = head_counts_key()
    """Heads of each block, where they differ; null: model.heads in each."""
    mlp: list[int] | None = key(None, at_least=1, role="size", null="for four times model.dim in each block")
    """Hidden units of each block's MLP; null: 4 · dim in each."""
    activation: str = activation_key("gelu")
    """As in model=mlp."""
    dropout: float = dropout_key()
    """Dropout on what attention and MLP add to the stream."""
    positions: str = key("learned", one_of=("learned", "rotary"))
    """`learned`: an embedding per position in the window; `rotary`: queries and keys are rotated by their positions."""
    tie: bool = False
    """Whether the output layer is the embedding's transpose."""

    def __post_init__(self) -> None:
        super().__post_init__()
        size = check_heads(self.dim, self.heads, self.head_size)
        by = "model.head_size" if self.head_size is not None else f"model.dim={self.dim} divided by the heads"
        check(
            self.positions == "learned" or size % 2 == 0,
            f"model.heads={self.heads}: model.positions=rotary rotates pairs, and a head has {size} numbers: {by} must be "
            "even",
        )
        check(
            self.blocks is None or self.mlp is None or self.blocks == len(self.mlp),
            f"model.blocks={self.blocks}: model.mlp={self.mlp} has another length: leave one of them out",
        )

        check_head_counts(self.head_counts, len(self.hidden))

    @property
    def hidden(self) -> list[int]:
        """The hidden units of each block, as both keys together say."""
        return self.mlp if self.mlp is not None else [4 * self.dim] * (_BLOCKS if self.blocks is None else self.blocks)

    def build(self, ends: DataSpec) -> GrowableModel:
        net = super().build(ends)
        net.settings |= {"blocks": None, "mlp": self.hidden}  # a grown net is told by its widths alone
        return net

    @property
    def keywords(self) -> dict[str, Any]:
        keywords = super().keywords | {"mlp": self.hidden}
        del keywords["blocks"]
        return keywords
