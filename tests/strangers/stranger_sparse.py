"""A width method: new units that read a few of their inputs only, at TINY's amplitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grow_cli.keys import key
from grow_cli.methods.width import SearchedMethod, random_directions
from grow_cli.registry import option


@option("method", "sparse")
@dataclass
class Sparse(SearchedMethod):
    """Gaussian weights on `reads` inputs, drawn for each unit."""

    reads: int = key(5, at_least=1)

    def directions(self, now: Any, site: Any, units: int) -> Any:
        import torch

        alpha, omega = random_directions(site, units)
        kept = torch.rand(alpha.shape).argsort(1) < self.reads
        return alpha * kept, omega
