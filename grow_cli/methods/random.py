"""Fresh initialization: the new block starts as the model's initialization makes it (Alether's comparator)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.methods.base import Method, Plan
from grow_cli.methods.depth import DepthMethod, DepthOption
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.training.state import Run


class Random(DepthMethod):
    """W_new as at the start of training."""

    def propose(self, run: Run) -> Plan:
        from grow_cli.surgery.proposal import DepthProposal

        site = self._site(run.model)
        return Plan([DepthProposal(site, site.make_block().state_dict())])


@option("method", "random")
@dataclass
class RandomOption(DepthOption):
    """The protocol's keys only."""

    def build(self, model: GrowableModel) -> Method:
        return Random(self._frontier(model), self.warmup_steps, self.warmup_rate)
