"""Nets whose layers follow one another without a residual stream: each layer reads only the one before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any, cast

from torch import Tensor, nn

from grow_cli.data.base import DataSpec
from grow_cli.models.modules.activations import can_be_identity
from grow_cli.models.modules.layers import Layer, LinearMap, conv_layer, linear_layer
from grow_cli.models.modules.network import GrowableModel
from grow_cli.models.modules.sites import DepthSite, WidthSite


@dataclass(frozen=True)
class _Stage:
    """A run of layers of one kind."""

    label: str
    layers: nn.ModuleList
    after: tuple[nn.Module, ...]
    """What the last layer's output passes before the next stage."""
    make: Callable[[int, int], Layer]
    """(inputs, units) → a layer of the kind."""
    convolutional: bool


class PlainNet(GrowableModel):
    """The sites of a chain of layers, ended by a linear head."""

    head: nn.Linear
    activation: str
    norm: str

    def _stages(self) -> list[_Stage]:
        raise NotImplementedError

    def _layers(self) -> list[Layer]:
        return [cast(Layer, layer) for stage in self._stages() for layer in stage.layers]

    def _consumers(self) -> Iterator[LinearMap]:
        """The linear map of each layer, then the head."""
        yield from (layer.linear for layer in self._layers())
        yield self.head

    def widths(self) -> list[int]:
        return [layer.units for layer in self._layers()]

    def width_sites(self) -> list[WidthSite]:
        if self.no_width:
            return []
        sites = []
        consumers = self._consumers()
        next(consumers)  # which reads the input
        stages = self._stages()
        for number, stage in enumerate(stages):
            for i, layer in enumerate(cast(Iterable[Layer], stage.layers), 1):
                name, consumer = f"{stage.label} {i}", next(consumers)
                between = layer.between + self._to_the_next_layer(stages[number:], i)
                per_unit = consumer.weight.shape[1] // layer.units
                sites.append(WidthSite(name, layer.linear, between, layer.activation, consumer, per_unit))
        return sites

    def depth_sites(self) -> list[DepthSite]:
        sites = []
        consumers = self._consumers()
        consumer = next(consumers)
        channels = self.input_shape[0]  # of the image that enters the next convolution
        passed = 0
        stages = self._stages()
        for number, stage in enumerate(stages):
            for i in range(len(stage.layers) + 1):
                if i:
                    channels = cast(Layer, stage.layers[i - 1]).units
                    passed += 1
                    consumer = next(consumers)
                # a linear layer may read a flattened image, whose width only the next layer's weight tells
                flat = consumer.weight.shape[1]
                units = channels if stage.convolutional or i else flat
                identity = self.norm == "none" and can_be_identity(self.activation, inputs_nonnegative=passed > 0)
                make = partial(stage.make, units, units)
                name = f"{stage.label} {i + 1}"
                between = self._to_the_next_layer(stages[number:], i)
                sites.append(DepthSite(name, stage.layers, i, make, False, units, identity, consumer, between))
        return sites

    @staticmethod
    def _to_the_next_layer(stages: list[_Stage], passed: int) -> tuple[nn.Module, ...]:
        """What the output of the first stage's first `passed` layers passes."""
        if passed < len(stages[0].layers):
            return ()
        between = stages[0].after
        for stage in stages[1:]:
            if len(stage.layers):
                break
            between += stage.after  # an empty stage has its pooling only
        return between


class MLP(PlainNet):
    """`model=mlp`."""

    def __init__(
        self, ends: DataSpec, *, hidden: list[int], activation: str, norm: str, bias: bool, dropout: float
    ) -> None:
        super().__init__(ends)
        self.activation, self.norm = activation, norm
        self._layer = partial(linear_layer, activation=activation, norm=norm, bias=bias, dropout=dropout)
        if norm == "layer":
            self.no_width = (
                "model.norm=layer normalises over a layer's units, so a new one would change the others: use "
                "model.norm=batch or model.norm=none"
            )
        sizes = [prod(self.input_shape), *hidden]
        self.hidden = nn.ModuleList(self._layer(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], self.outputs)

    def _stages(self) -> list[_Stage]:
        return [_Stage("hidden", self.hidden, (), self._layer, convolutional=False)]

    def sizes(self) -> dict[str, Any]:
        return {"hidden": self.widths()}

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.hidden:
            x = layer(x)
        return cast(Tensor, self.head(x))


class CNN(PlainNet):
    """`model=cnn`."""

    def __init__(
        self,
        ends: DataSpec,
        *,
        channels: list[list[int]],
        hidden: list[int],
        kernel: int,
        activation: str,
        norm: str,
        pool: str,
        head: str,
    ) -> None:
        super().__init__(ends)
        self.activation, self.norm = activation, norm
        self._conv = partial(conv_layer, kernel=kernel, activation=activation, norm=norm)
        self._linear = partial(linear_layer, activation=activation, norm=norm)
        self.pool: nn.Module = nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2)
        self.flatten: nn.Module = nn.Flatten()
        if head == "gap":
            self.flatten = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        read, height, width = self.input_shape
        stages = []
        for stage in channels:
            sizes = [read, *stage]
            stages.append(nn.ModuleList(self._conv(a, b) for a, b in pairwise(sizes)))
            read, height, width = sizes[-1], height // 2, width // 2
        self.stages = nn.ModuleList(stages)
        sizes = [read if head == "gap" else read * height * width, *hidden]
        self.hidden = nn.ModuleList(self._linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], self.outputs)

    def _stages(self) -> list[_Stage]:
        last = len(self.stages) - 1
        stages = [
            _Stage(
                f"stage {i + 1} conv",
                cast(nn.ModuleList, stage),
                (self.pool, self.flatten) if i == last else (self.pool,),
                self._conv,
                convolutional=True,
            )
            for i, stage in enumerate(self.stages)
        ]
        return [*stages, _Stage("hidden", self.hidden, (), self._linear, convolutional=False)]

    def sizes(self) -> dict[str, Any]:
        return {
            "channels": [[layer.units for layer in cast(nn.ModuleList, stage)] for stage in self.stages],
            "hidden": [cast(Layer, layer).units for layer in self.hidden],
        }

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            for layer in cast(nn.ModuleList, stage):
                x = layer(x)
            x = self.pool(x)
        x = self.flatten(x)
        for layer in self.hidden:
            x = layer(x)
        return cast(Tensor, self.head(x))
