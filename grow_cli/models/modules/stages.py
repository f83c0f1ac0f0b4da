"""A sum of nets that are trained one after the other: f(x) = Σ m_k · f_k(x)."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn

from grow_cli.data.base import DataSpec
from grow_cli.models.modules.activations import make_activation
from grow_cli.models.modules.layers import Growable
from grow_cli.models.modules.network import GrowableModel
from grow_cli.models.modules.sites import DepthSite, WidthSite


class Factor(nn.Module):
    """(n, outputs) times a factor for each output; no parameter: it is given with a stage, and stays."""

    factor: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Stage(Growable):
    """(n, inputs) → (n, outputs): an MLP whose outputs are multiplied by a magnitude."""

    def __init__(self, inputs: int, hidden: list[int], outputs: int, *, activation: str, first: str) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([inputs, *hidden]))
        self.turns = nn.ModuleList(make_activation(activation if i else first, n) for i, n in enumerate(hidden))
        self.head = nn.Linear(hidden[-1], outputs)
        self.magnitude = Factor(outputs)

    @property
    def widths(self) -> list[int]:
        """The widths of its hidden layers."""
        return [cast(nn.Linear, linear).weight.shape[0] for linear in self.maps]

    @property
    def units(self) -> int:
        """All its hidden units."""
        return sum(self.widths)

    def activations(self, x: Tensor) -> list[Tensor]:
        for linear, turn in zip(self.maps, self.turns, strict=True):
            x = turn(linear(x))
        return [x]

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.magnitude(self.head(self.activations(x)[0])))

    def identity_(self) -> None:
        """It adds nothing."""
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)


class Stages(GrowableModel):
    """`model=stages`."""

    def __init__(self, ends: DataSpec, *, hidden: list[list[int]], activation: str, first: str) -> None:
        super().__init__(ends)
        self._stage = partial(Stage, prod(self.input_shape), outputs=self.outputs, activation=activation, first=first)
        self.stages = nn.ModuleList(self._stage(sizes) for sizes in hidden)

    @property
    def last(self) -> Stage:
        """The newest stage."""
        return cast(Stage, self.stages[-1])

    def width_sites(self) -> list[WidthSite]:
        sites = []
        for i, stage in enumerate(self.stages):
            stage = cast(Stage, stage)
            maps = [cast(nn.Linear, linear) for linear in (*stage.maps, stage.head)]
            for j, (turn, (producer, consumer)) in enumerate(zip(stage.turns, pairwise(maps), strict=True)):
                sites.append(WidthSite(f"stage {i + 1} hidden {j + 1}", producer, (turn,), turn, consumer))
        return sites

    def depth_sites(self) -> list[DepthSite]:
        """Before each stage, for another as wide as that, and behind the last one."""
        sites = []
        for i in range(len(self.stages) + 1):
            alike = cast(Stage, self.stages[min(i, len(self.stages) - 1)])
            make = partial(self._stage, alike.widths)
            sites.append(DepthSite(f"stage {i + 1}", self.stages, i, make, True, alike.units, identity=True))
        return sites

    def widths(self) -> list[int]:
        return [width for stage in self.stages for width in cast(Stage, stage).widths]

    def sizes(self) -> dict[str, Any]:
        return {"hidden": [cast(Stage, stage).widths for stage in self.stages]}

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        first, *others = self.stages
        total = first(x)
        for stage in others:
            total = total + stage(x)
        return cast(Tensor, total)
