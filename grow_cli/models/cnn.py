"""`model=cnn`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from grow_cli.errors import UserError
from grow_cli.models.base import (
    ACTIVATIONS,
    Ends,
    ModelOption,
    check_choice,
    check_kernel,
    check_sizes,
    image_shape,
)
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.models.modules.network import GrowableModel


@option("model", "cnn")
@dataclass
class CNNOption(ModelOption):
    """Stages of convolutions, each stage followed by a pooling that halves the image, then linear layers.

    TINY's net on CIFAR-10 (E.2): two stages of two convolutions with max-pooling, two linear layers, SELU.
    """

    name: str = "cnn"
    channels: list[list[int]] = field(default_factory=lambda: [[16, 16], [32, 32]])
    """Channels of each convolution, a list per stage; a stage may be empty."""
    hidden: list[int] = field(default_factory=list)
    """Units of each linear layer between the convolutions and the output."""
    kernel: int = 3
    """Height and width of the kernels; odd. The images are padded with zeros to keep their size."""
    activation: str = "relu"
    """As in model=mlp."""
    norm: str = "none"
    """`none` or `batch`."""
    pool: str = "max"
    """`max` or `avg`, over 2 × 2 pixels, after each stage."""
    head: str = "flatten"
    """What the linear layers read: `flatten`, every pixel; `gap`, the mean over the pixels."""

    def __post_init__(self) -> None:
        check_sizes(channels=[n for stage in self.channels for n in stage], hidden=self.hidden)
        check_kernel(self.kernel)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("norm", self.norm, ("none", "batch"))
        check_choice("pool", self.pool, ("max", "avg"))
        check_choice("head", self.head, ("flatten", "gap"))

    def build(self, spec: Ends) -> GrowableModel:
        from grow_cli.models.modules.plain import CNN

        _, height, width = image_shape(self.name, spec)
        halvings = min(height, width).bit_length() - 1
        if len(self.channels) > halvings:
            raise UserError(
                f"model.channels={self.channels}: {len(self.channels)} stages each halve the image, and one of "
                f"{height} x {width} pixels can be halved {halvings} times: give at most {halvings} stages"
            )
        return CNN(self, spec)
