"""The keys of attention heads, which `model=gpt` and `model=vit` share."""

from __future__ import annotations

from typing import Any

from grow_cli.errors import check
from grow_cli.keys import key


def heads_key() -> Any:
    """The key of the heads of every block."""
    return key(4, at_least=1, at_most=4096)


def head_size_key() -> Any:
    """The key of the numbers per head."""
    return key(None, at_least=1, at_most=4096, null="for model.dim divided by model.heads")


def head_counts_key() -> Any:
    """The key of the heads of each block."""
    return key(None, at_least=1, role="size", null="for model.heads in each block")


def check_heads(dim: int, heads: int, size: int | None) -> int:
    """The numbers per head; ValueError where the heads do not share the stream evenly and nothing else is said."""
    check(
        size is not None or dim % heads == 0,
        f"model.heads={heads}: must divide model.dim={dim}, or give model.head_size",
    )
    return dim // heads if size is None else size


def check_head_counts(counts: list[int] | None, blocks: int) -> None:
    """ValueError where there is not a number for each block."""
    check(
        counts is None or len(counts) == blocks,
        f"model.head_counts={counts}: must have a number for each of the net's blocks, of which there are {blocks}",
    )
