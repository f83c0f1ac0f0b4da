"""A model whose keys have names of their own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

from grow_cli.models.base import ModelOption, activation_key, size_keys
from grow_cli.registry import option


@option("model", "ladder")
@dataclass
class LadderOption(ModelOption):
    """Linear layers that can be widened."""

    rungs: list[int] = size_keys(4, 4)
    squash: str = activation_key("tanh")

    def make(self, ends: Any) -> Any:
        from torch import nn

        from grow_cli.models.modules.layers import linear_layer
        from grow_cli.models.modules.network import GrowableModel
        from grow_cli.models.modules.sites import WidthSite

        class Ladder(GrowableModel):
            def __init__(self, ends: Any, *, rungs: list[int], squash: str) -> None:
                super().__init__(ends)
                sizes = [prod(self.input_shape), *rungs]
                self.rungs = nn.ModuleList(linear_layer(a, b, activation=squash) for a, b in pairwise(sizes))
                self.head = nn.Linear(sizes[-1], self.outputs)

            def width_sites(self) -> list[WidthSite]:
                readers = [*(rung.linear for rung in self.rungs[1:]), self.head]
                return [
                    WidthSite(f"rung {i + 1}", rung.linear, rung.between, rung.activation, reader)
                    for i, (rung, reader) in enumerate(zip(self.rungs, readers, strict=True))
                ]

            def depth_sites(self) -> list[Any]:
                return []

            def widths(self) -> list[int]:
                return [rung.units for rung in self.rungs]

            def sizes(self) -> dict[str, Any]:
                return {"rungs": self.widths()}

            def forward(self, x: Any) -> Any:
                x = x.flatten(1)
                for rung in self.rungs:
                    x = rung(x)
                return self.head(x)

        return Ladder(ends, **self.keywords)
