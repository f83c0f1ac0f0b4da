"""A ResNet whose stages differ in the channels of their stream; only the channels inside the blocks grow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

from torch import Tensor, nn

from grow_cli.data.base import DataSpec
from grow_cli.models.modules.activations import make_activation
from grow_cli.models.modules.layers import Layer, conv_layer, linear_layer, make_norm, same_conv
from grow_cli.models.modules.network import GrowableModel
from grow_cli.models.modules.sites import DepthSite, WidthSite


class ResNetBlock(nn.Module):
    """act(skip(x) + norm(conv(act(norm(conv(x)))))), on (n, width, height, width of the image).

    With `halve` the first convolution has stride 2 and the skip is average pooling; an odd size is rounded up by both.
    """

    def __init__(self, width: int, hidden: int, *, halve: bool, activation: str, norm: str) -> None:
        super().__init__()
        producer = nn.Conv2d(width, hidden, 3, stride=2 if halve else 1, padding=1)
        activated = make_activation(activation, hidden, spatial_dims=2)
        self.hidden = Layer(producer, make_norm(norm, hidden, spatial_dims=2), activated, 0.0)
        self.consumer = same_conv(hidden, width, 3)
        self.norm = make_norm(norm, width, spatial_dims=2)
        self.skip = nn.AvgPool2d(2, ceil_mode=True) if halve else nn.Identity()
        self.activation = make_activation(activation, width, spatial_dims=2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.activation(self.skip(x) + self.norm(self.consumer(self.hidden(x)))))


class Stage(nn.Module):
    """The convolution that leads to this stage's stream, then its blocks."""

    def __init__(self, inputs: int, width: int, hidden: list[int], *, activation: str, norm: str) -> None:
        super().__init__()
        self.transition = conv_layer(inputs, width, kernel=3, activation=activation, norm=norm)
        last = len(hidden) - 1
        self.blocks = nn.ModuleList(
            ResNetBlock(width, n, halve=i == last, activation=activation, norm=norm) for i, n in enumerate(hidden)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.transition(x)
        for block in self.blocks:
            x = block(x)
        return x


class ResNet18(GrowableModel):
    """`model=resnet18`."""

    def __init__(
        self,
        ends: DataSpec,
        *,
        stream: list[int],
        hidden: list[list[int]],
        classifier: list[int],
        activation: str,
        norm: str,
    ) -> None:
        super().__init__(ends)
        channels, height, width = self.input_shape
        streams = pairwise([channels, *stream])
        self.stages = nn.ModuleList(
            Stage(a, b, middles, activation=activation, norm=norm)
            for (a, b), middles in zip(streams, hidden, strict=True)
        )
        for _ in stream:
            height, width = (height + 1) // 2, (width + 1) // 2
        sizes = [stream[-1] * height * width, *classifier]
        self.classifier = nn.ModuleList(linear_layer(a, b, activation=activation) for a, b in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], self.outputs)

    def _blocks(self) -> Iterator[tuple[str, ResNetBlock]]:
        """With their names."""
        for i, stage in enumerate(self.stages):
            for j, block in enumerate(cast(Stage, stage).blocks):
                yield f"stage {i + 1} block {j + 1}", cast(ResNetBlock, block)

    def width_sites(self) -> list[WidthSite]:
        return [
            WidthSite(name, block.hidden.linear, block.hidden.between, block.hidden.activation, block.consumer)
            for name, block in self._blocks()
        ]

    def depth_sites(self) -> list[DepthSite]:
        """None: the depth methods insert blocks that equal their neighbours, and a stage's are not alike."""
        return []

    def widths(self) -> list[int]:
        return [block.hidden.units for _, block in self._blocks()]

    def sizes(self) -> dict[str, Any]:
        stages = [cast(Stage, stage).blocks for stage in self.stages]
        return {"hidden": [[cast(ResNetBlock, block).hidden.units for block in blocks] for blocks in stages]}

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        x = x.flatten(1)
        for layer in self.classifier:
            x = layer(x)
        return cast(Tensor, self.head(x))
