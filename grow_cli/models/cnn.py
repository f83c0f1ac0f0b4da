"""`model=cnn`."""

from __future__ import annotations

from dataclasses import dataclass

from grow_cli.data.base import DataSpec
from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.models.base import ModelOption, activation_key, check_kernel, image_shape, size_keys
from grow_cli.records.words import counted
from grow_cli.registry import option


@option("model", "cnn")
@dataclass
class CNNOption(ModelOption):
    """Stages of convolutions, each stage followed by a pooling that halves the image, then linear layers.

    TINY's net on CIFAR-10 (E.2): two stages of two convolutions with max-pooling, two linear layers, SELU.
    """

    net = "plain.CNN"
    on_several_ranks = True
    replayable = True
    channels_last = True

    channels: list[list[int]] = size_keys([8, 8], [16, 16])
    """Channels of each convolution, a list per stage; a stage may be empty."""
    hidden: list[int] = size_keys(32)
    """Units of each linear layer between the convolutions and the output."""
    kernel: int = key(3, at_least=1)
    """Height and width of the kernels; odd. The images are padded with zeros to keep their size."""
    activation: str = activation_key("selu")
    """As in model=mlp."""
    norm: str = key("none", one_of=("none", "batch"))
    """`none` or `batch`."""
    pool: str = key("max", one_of=("max", "avg"))
    """`max` or `avg`, over 2 × 2 pixels, after each stage."""
    head: str = key("flatten", one_of=("flatten", "gap"))
    """What the linear layers read: `flatten`, every pixel; `gap`, the mean over the pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kernel(self.kernel)

    def check_data(self, spec: DataSpec) -> None:
        _, height, width = image_shape(self.name, spec)
        halvings = min(height, width).bit_length() - 1
        if len(self.channels) > halvings:
            raise UserError(
                f"model.channels={self.channels}: each of {counted(len(self.channels), 'stage')} halves the image, and one of "
                f"{height} x {width} pixels can be halved {counted(halvings, 'time')}: give at most {counted(halvings, 'stage')}"
            )
