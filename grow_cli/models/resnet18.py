"""`model=resnet18`."""

from __future__ import annotations

from dataclasses import dataclass

from grow_cli.data.base import DataSpec
from grow_cli.errors import UserError, check
from grow_cli.keys import key
from grow_cli.models.base import ModelOption, activation_key, image_shape, size_keys
from grow_cli.records.words import counted
from grow_cli.registry import option


@option("model", "resnet18")
@dataclass
class ResNet18Option(ModelOption):
    """Stages of a convolution that sets the stream's channels and of blocks, the last of which halves the image;
    then linear layers.

    TINY's ResNet-18 on CIFAR-100 (E.3, Table 1): two blocks in each of four stages, whose middles grow from a channel.
    """

    net = "resnet.ResNet18"
    on_several_ranks = True
    replayable = True
    channels_last = True

    stream: list[int] = size_keys(8, 16, 32, 64)
    """Channels of the residual stream in each stage."""
    hidden: list[list[int]] = size_keys([1, 1], [1, 1], [1, 1], [1, 1])
    """Channels between the two convolutions of each block, a list per stage."""
    classifier: list[int] = size_keys(100, 100)
    """Units of each linear layer between the stages and the output."""
    activation: str = activation_key("selu")
    """As in model=mlp."""
    norm: str = key("none", one_of=("none", "batch"))
    """`none` or `batch`, of the convolutions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.stream), "model.stream=[]: must have at least one stage")
        check(
            len(self.hidden) == len(self.stream),
            f"model.hidden={self.hidden}: must have a list per stage of model.stream={self.stream}",
        )
        check(all(self.hidden), f"model.hidden={self.hidden}: each stage must have at least one block")

    def check_data(self, spec: DataSpec) -> None:
        _, height, width = image_shape(self.name, spec)
        halvings = min(height, width).bit_length() - 1
        if len(self.stream) > halvings:
            fewer = (
                f"give model.stream and model.hidden at most {counted(halvings, 'stage')}"
                if halvings
                else "use model=mlp"
            )
            raise UserError(
                f"model.stream={self.stream}: each of {counted(len(self.stream), 'stage')} halves the image, and one of "
                f"{height} x {width} pixels can be halved {counted(halvings, 'time')}: {fewer}"
            )
