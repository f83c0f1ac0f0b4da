"""`model=residual_cnn`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

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


@option("model", "residual_cnn")
@dataclass
class ResidualCNNOption(ModelOption):
    """A convolution, average pooling, then blocks of two convolutions (norm-act-conv twice) on a residual stream."""

    residual: ClassVar[bool] = True

    name: str = "residual_cnn"
    width: int = 32
    """Channels of the residual stream."""
    hidden: list[int] = field(default_factory=lambda: [32, 32])
    """Channels between the two convolutions of each block."""
    kernel: int = 3
    """Height and width of the kernels; odd. The images are padded with zeros to keep their size."""
    activation: str = "relu"
    """As in model=mlp."""
    norm: str = "batch"
    """`batch`, `none`, or `group` (8 groups or fewer), which couples a block's channels, so that width cannot grow."""
    pool: int = 2
    """The blocks work on an image smaller by this factor in height and width; 1: on the whole image."""

    def __post_init__(self) -> None:
        check_sizes(width=self.width, hidden=self.hidden, pool=self.pool)
        check_kernel(self.kernel)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("norm", self.norm, ("batch", "group", "none"))

    def initial_blocks(self) -> int:
        return len(self.hidden)

    def build(self, spec: Ends) -> GrowableModel:
        from grow_cli.models.modules.residual import ResidualCNN

        _, height, width = image_shape(self.name, spec)
        if self.pool > min(height, width):
            raise UserError(
                f"model.pool={self.pool}: the images have {height} x {width} pixels; give {min(height, width)} or less"
            )
        return ResidualCNN(self, spec)
