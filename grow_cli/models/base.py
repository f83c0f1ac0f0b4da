"""Options of the group `model`, and the way back from a net to its configuration. No torch at the top."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grow_cli import registry
from grow_cli.errors import UserError, check
from grow_cli.registry import Option

if TYPE_CHECKING:
    from grow_cli.models.modules.network import GrowableModel

# what `activation=` accepts: torch's elementwise modules, GradMax's ReLU, and SENN's with three parameters per unit
TORCH_ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "selu": "SELU",
    "silu": "SiLU",
    "tanh": "Tanh",
    "identity": "Identity",
}
ACTIVATIONS = (*TORCH_ACTIVATIONS, "relu_right", "rational", "rational_raw")


class Ends(Protocol):
    """What a net must fit at both ends; `DataSpec` does."""

    @property
    def task(self) -> str:
        """`classification` or `regression`."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) or (numbers,)."""

    @property
    def outputs(self) -> int:
        """Logits, or regressed numbers."""


@dataclass
class ModelOption(Option):
    """Base of every model's schema: its lists of sizes can express any net that it may grow into."""

    residual: ClassVar[bool] = False
    """Whether the hidden layers are blocks of a residual stream: alike where their widths are."""

    def initial_blocks(self) -> int:
        """Blocks of the residual stream before any growth."""
        return 0

    def build(self, spec: Ends) -> GrowableModel:
        """A freshly initialized net; draws from torch's global random stream."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Ends:
    task: str
    input_shape: tuple[int, ...]
    outputs: int


def rebuild(architecture: dict[str, Any]) -> GrowableModel:
    """The net whose `architecture()` this is, freshly initialized: `load_state_dict` then makes it the same net."""
    try:
        settings = dict(architecture["model"])
        ends = _Ends(
            str(architecture["task"]),
            tuple(int(n) for n in architecture["input_shape"]),
            int(architecture["outputs"]),
        )
        name = settings["name"]
    except KeyError as error:
        raise UserError(
            f"the architecture has no entry {error}: it needs model (with its name), input_shape, outputs and task"
        ) from error
    except (TypeError, ValueError) as error:
        raise UserError(f"the architecture is not what `model.architecture()` gives: {error}") from error
    known = registry.groups().get("model", {})
    if name not in known:
        raise UserError(f"the architecture's model is {name!r}: it must be one of {', '.join(sorted(known))}")
    try:
        option = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(known[name]), settings))
    except (OmegaConfBaseException, ValueError) as error:
        # OmegaConf's first line says key and value, the rest is its own bookkeeping
        raise UserError(f"the architecture's model={name} cannot be built: {str(error).splitlines()[0]}") from error
    assert isinstance(option, ModelOption)
    return option.build(ends)


def image_shape(name: str, spec: Ends) -> tuple[int, int, int]:
    """(channels, height, width); UserError where the samples are vectors."""
    if len(spec.input_shape) != 3:
        raise UserError(
            f"model={name} reads images and these samples are vectors of {prod(spec.input_shape)} numbers: "
            "use model=mlp or model=residual_mlp, or a dataset of images"
        )
    channels, height, width = spec.input_shape
    return channels, height, width


def check_sizes(**sizes: int | list[int]) -> None:
    """Each key's value, or every number of its list, is 1 or more."""
    for key, value in sizes.items():
        numbers = value if isinstance(value, list) else [value]
        check(all(n >= 1 for n in numbers), f"model.{key}={value}: must be 1 or more")


def check_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """The value is one of those allowed."""
    check(value in allowed, f"model.{key}={value}: must be one of {', '.join(allowed)}")


def check_dropout(value: float) -> None:
    """A probability below 1."""
    check(0 <= value < 1, f"model.dropout={value}: must be from 0 to below 1")


def check_kernel(value: int) -> None:
    """Odd, so that padding keeps the image's size."""
    check(value >= 1 and value % 2 == 1, f"model.kernel={value}: must be odd (1, 3, 5, ...), to keep the image's size")
