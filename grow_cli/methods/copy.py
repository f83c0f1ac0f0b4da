"""Layer copying: each new block starts with the weights of an existing one (Alether's comparator)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.methods.depth import DepthMethod, NewBlock, Start, copied, named, stack_of
from grow_cli.registry import option

if TYPE_CHECKING:
    from torch import nn

    from grow_cli.config import Config
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Notes


@option("method", "copy")
@dataclass
class Copy(DepthMethod):
    """W_new = W_front, or the weights of the block that `pattern` says."""

    on_several_ranks = True

    moments: str = key("zero", one_of=("zero", "copy"))
    """Optimizer state of a copied block: `zero`, as for any new layer; `copy`, that of the source block."""

    no_score = "a copied block computes what its neighbour computes, which has the score 0"

    def check_run(self, config: Config) -> list[str]:
        if self.moments == "copy" and config.growth.optimizer_state == "reset":
            raise UserError(
                "method.moments=copy and growth.optimizer_state=reset: the first needs the optimizer state that the second "
                "drops: use growth.optimizer_state=carry, or method.moments=zero"
            )
        return super().check_run(config)

    def starts(self, now: Moment, notes: Notes, new: list[NewBlock]) -> list[Start]:
        return [Start(copied(now, block.source), {"source": named(block.source)}) for block in new]

    def remembered(self, now: Moment, source: int | None) -> dict[str, nn.Parameter]:
        if self.moments == "zero" or source is None:
            return {}
        return dict(stack_of(now.model)[source].named_parameters())
