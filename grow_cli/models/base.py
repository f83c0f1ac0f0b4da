"""Options of the group `model`, and the way back from a net to its configuration. No torch at the top."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from grow_cli import registry
from grow_cli.data.base import DataSpec
from grow_cli.errors import UserError, check
from grow_cli.keys import key
from grow_cli.records.words import counted
from grow_cli.registry import Option
from grow_cli.tasks import TASKS

if TYPE_CHECKING:
    from grow_cli.config import Config
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
ACTIVATIONS = (*TORCH_ACTIVATIONS, "sine", "relu_right", "rational", "rational_raw")


@dataclass
class ModelOption(Option):
    """Base of every model: its lists of sizes can express any net that it may grow into."""

    group_name: ClassVar[str] = "model"
    net: ClassVar[str] = ""
    """The module in `grow_cli.models.modules` and the class in it that `make` gives the option's keys."""
    replayable: ClassVar[bool] = False
    """Whether a step can be replayed as a CUDA graph: the same operations on the same tensors each time, none by a choice in
    Python."""
    channels_last: ClassVar[bool] = False
    """Whether it computes the same of images whose memory holds the channels last, which tensor cores convolve faster."""
    language: ClassVar[bool] = False
    """Whether it reads bytes of text, and nothing else."""

    @property
    def bounds_inputs(self) -> bool:
        """Whether many inputs of unit variance are too large for it (`dataset.scale=null`)."""
        return False

    def check_run(self, config: Config) -> list[str]:
        check_reads(self, config.dataset.language, f"dataset={config.dataset.name}")
        return super().check_run(config)

    def check_data(self, spec: DataSpec) -> None:
        """UserError where no net of these keys reads samples of this shape."""

    def make(self, ends: DataSpec) -> GrowableModel:
        """A freshly initialized net; draws from torch's global random stream."""
        if not self.net:
            raise NotImplementedError(f"{type(self).__name__} has neither `net` nor `make`")
        module, _, name = self.net.partition(".")
        made: GrowableModel = getattr(import_module(f"grow_cli.models.modules.{module}"), name)(ends, **self.keywords)
        return made

    def build(self, ends: DataSpec) -> GrowableModel:
        """`make`'s net, which knows the keys that it was made of."""
        check_reads(self, ends.task == "language", "what it is to be trained on")
        self.check_data(ends)
        net = self.make(ends)
        net.settings = asdict(self)
        return net

    @property
    def keywords(self) -> dict[str, Any]:
        """Its keys, as a net takes them."""
        return {name: value for name, value in asdict(self).items() if name != "name"}


def check_reads(option: ModelOption, text: bool, what: str) -> None:
    """UserError where one of both is text and the other is not."""
    if option.language and not text:
        raise UserError(
            f"model={option.name} predicts the next byte of a text, and {what} is not text: use dataset=python or "
            "dataset=text, or another model"
        )
    if text and not option.language:
        raise UserError(f"model={option.name} cannot predict text, and {what} is text: use model=gpt")


def rebuild(architecture: dict[str, Any]) -> GrowableModel:
    """The net whose `architecture()` this is, freshly initialized: `load_state_dict` then makes it the same net."""
    from omegaconf import OmegaConf  # here: `grow list` loads this module too
    from omegaconf.errors import OmegaConfBaseException

    from grow_cli.models.modules.network import OWN
    from grow_cli.records.configs import as_data

    try:
        settings = dict(architecture["model"])
        shape = tuple(int(n) for n in architecture["input_shape"])
        ends = DataSpec("", str(architecture["task"]), shape, int(architecture["outputs"]))
        name = settings["name"]
    except KeyError as error:
        raise UserError(
            f"the architecture has no entry {error}: it needs model (with a name), input_shape, outputs and task"
        ) from error
    except (TypeError, ValueError) as error:
        raise UserError(f"the architecture is not one that `model.architecture()` returns: {error}") from error
    if ends.task not in TASKS:
        raise UserError(f"the architecture's task is {ends.task[:40]!r}: it must be one of {', '.join(TASKS)}")
    if name == OWN:
        from grow_cli.models.modules.traced import remade

        return remade(settings)
    known = registry.groups().get("model", {})
    if not isinstance(name, str) or name not in known:
        raise UserError(f"the architecture's model is {name!r}: it must be one of {', '.join(sorted(known))}")
    try:
        option = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(known[name]), as_data(settings)))
    except (OmegaConfBaseException, ValueError) as error:
        # OmegaConf's first line says key and value, the rest is its own bookkeeping
        raise UserError(f"the architecture's model={name} cannot be built: {str(error).splitlines()[0]}") from error
    assert isinstance(option, ModelOption)
    return option.build(ends)


def restored(architecture: dict[str, Any], weights: dict[str, Any]) -> GrowableModel:
    """The net of a checkpoint, in the precision in which it was trained."""
    net = rebuild(architecture)
    dtype = next((t.dtype for t in weights.values() if t.is_floating_point()), None)
    net.to(dtype=dtype).load_state_dict(weights)
    return net


def image_shape(name: str, spec: DataSpec) -> tuple[int, int, int]:
    """(channels, height, width); UserError where the samples are vectors."""
    if len(spec.input_shape) != 3:
        raise UserError(
            f"model={name} reads images and these samples are vectors of {counted(prod(spec.input_shape), 'number')}: "
            "use model=mlp or model=residual_mlp, or a dataset of images"
        )
    channels, height, width = spec.input_shape
    return channels, height, width


def activation_key(default: str) -> Any:
    """The key of an activation."""
    return key(default, one_of=ACTIVATIONS)


def size_key(default: int) -> Any:
    """A key that is a size of the net."""
    return key(default, at_least=1, role="size")


_LAYERS = 1000  # a longer list takes minutes to build and is a slip of the hand


def size_keys(*default: Any) -> Any:
    """A key that lists sizes of the net, or lists of them."""
    return key(make=lambda: deepcopy(list(default)), at_least=1, longest=_LAYERS, role="size")


def dropout_key() -> Any:
    """The key of a probability below 1."""
    return key(0.0, at_least=0, below=1)


def check_kernel(value: int) -> None:
    """Odd, so that padding keeps the image's size."""
    check(value >= 1 and value % 2 == 1, f"model.kernel={value}: must be odd (1, 3, 5, ...), to keep the image's size")


# Pixels along a side that every usual patch, pool and number of halvings divides.
_SIDE = 840


def on_paper(option: ModelOption) -> GrowableModel | None:
    """A net of this kind without memory, for images or for vectors, whichever it reads; None where neither can be built.

    So that a net can be asked what it is before data are loaded. Nothing is drawn.
    """
    import torch

    for task, shape, outputs in (
        ("classification", (3, _SIDE, _SIDE), 10),
        ("classification", (64,), 10),
        ("language", (64,), 256),
    ):
        try:
            with torch.device("meta"):
                return option.build(DataSpec("", task, shape, outputs))
        except UserError:
            continue
    return None
