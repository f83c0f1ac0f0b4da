"""Depth growth as practised: many blocks per event, and no steps that train only the new part.

The papers claim that a deep transformer costs less to train if a shallow one is trained first and then stacked
(G_stack, Du et al. 2024), its middle repeated (MIDAS, Saunshi et al. 2024), or fresh blocks are added to a net with
none or one (arXiv:2511.04981, which finds random blocks as good as copies). None of them trains the new part
separately. `method=stack`, `midas` and `zero_blocks` are presets of this method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.errors import check
from grow_cli.keys import key
from grow_cli.methods.copy import Copy
from grow_cli.methods.depth import NewBlock, Start, fresh
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Notes


@option("method", "deepen")
@dataclass
class Deepen(Copy):
    """Copies or fresh blocks, as many and where its keys say, trained with the rest from the first step on."""

    warmup_steps: int = key(0, at_least=0, at_most=1_000_000)
    """Steps that train only the new blocks."""
    start: str = key("copy", one_of=("copy", "random"))
    """Initial weights of a new block: those of the block given by `pattern`, or fresh ones (which also work for an
    empty stack)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.start == "copy" or self.moments == "zero",
            "method.moments=copy and method.start=random: fresh blocks have no optimizer state to copy: set "
            "method.moments=zero",
        )

    @property
    def needs_source(self) -> bool:
        return self.start == "copy"

    def starts(self, now: Moment, notes: Notes, new: list[NewBlock]) -> list[Start]:
        return fresh(new) if self.start == "random" else super().starts(now, notes, new)
