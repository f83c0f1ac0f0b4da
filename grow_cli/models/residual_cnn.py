"""`model=residual_cnn`."""

from __future__ import annotations

from dataclasses import dataclass

from grow_cli.data.base import DataSpec
from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.models.base import ModelOption, activation_key, check_kernel, image_shape, size_key, size_keys
from grow_cli.registry import option


@option("model", "residual_cnn")
@dataclass
class ResidualCNNOption(ModelOption):
    """A convolution, average pooling, then blocks of two convolutions (norm-act-conv twice) on a residual stream."""

    net = "residual.ResidualCNN"
    on_several_ranks = True
    replayable = True
    channels_last = True

    width: int = size_key(32)
    """Channels of the residual stream."""
    hidden: list[int] = size_keys(32, 32)
    """Channels between the two convolutions of each block."""
    kernel: int = key(3, at_least=1)
    """Height and width of the kernels; odd. The images are padded with zeros to keep their size."""
    activation: str = activation_key("relu")
    """As in model=mlp."""
    norm: str = key("batch", one_of=("batch", "group", "none"))
    """`batch`, `none`, or `group` (8 groups or fewer), which couples a block's channels, so that width cannot grow."""
    pool: int = key(2, at_least=1)
    """Factor by which the image is pooled in height and width before the blocks; 1: no pooling."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kernel(self.kernel)

    def check_data(self, spec: DataSpec) -> None:
        _, height, width = image_shape(self.name, spec)
        if self.pool > min(height, width):
            raise UserError(
                f"model.pool={self.pool}: the images have {height} x {width} pixels; give {min(height, width)} or less"
            )
