"""Where a user's module can be widened, found with torch.fx.

A site is a linear map, everything that its outputs pass one after the other, and the linear map that reads them. What passes
them must keep units apart, and nothing else may read them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from grow_cli.errors import UserError, first_line
from grow_cli.models.modules.activations import Rational, ReLURight
from grow_cli.models.modules.layers import LinearMap, replace_tensor
from grow_cli.models.modules.sites import WidthSite

_OWN = (Rational, ReLURight)
_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid),
    *(nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid, nn.Tanhshrink, *_OWN),
)
_TRANSPARENT = (nn.Identity, nn.Dropout, nn.BatchNorm1d, nn.BatchNorm2d)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)

# functions, by name where they are methods of a tensor, → the module that does the same with these arguments
_FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys((F.relu, torch.relu, "relu"), lambda inplace=False: nn.ReLU()),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh"), lambda: nn.Tanh()),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid"), lambda: nn.Sigmoid()),
    F.leaky_relu: lambda negative_slope=0.01, inplace=False: nn.LeakyReLU(negative_slope),
    F.elu: lambda alpha=1.0, inplace=False: nn.ELU(alpha),
    F.gelu: lambda approximate="none": nn.GELU(approximate),
    F.selu: lambda inplace=False: nn.SELU(),
    F.silu: lambda inplace=False: nn.SiLU(),
    F.softplus: lambda beta=1.0, threshold=20.0: nn.Softplus(beta, threshold),
    F.dropout: lambda p=0.5, training=True, inplace=False: nn.Identity(),  # growth looks in evaluation mode
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}
_MAX_POOLS = {F.max_pool2d, torch.max_pool2d}
_FLATTENS = {torch.flatten, torch.reshape, "flatten", "view", "reshape"}
_MEANS = {torch.mean, "mean"}


@dataclass(frozen=True)
class Place:
    """A width site, by the names of its modules."""

    producer: str
    between: tuple[str | nn.Module, ...]
    """Names of the net's own modules; modules that stand for its functions."""
    activation: int
    """Which of `between`."""
    consumer: str

    def of(self, module: nn.Module) -> WidthSite:
        """The site in this module."""
        between = tuple(module.get_submodule(b) if isinstance(b, str) else b for b in self.between)
        producer, consumer = module.get_submodule(self.producer), module.get_submodule(self.consumer)
        assert isinstance(producer, LinearMap) and isinstance(consumer, LinearMap)  # noqa: PT018
        per_unit = consumer.weight.shape[1] // producer.weight.shape[0]
        return WidthSite(self.producer, producer, between, between[self.activation], consumer, per_unit)


@dataclass(frozen=True)
class Found:
    """What tracing a module found."""

    places: tuple[Place, ...]
    refused: tuple[str, ...]
    """Linear maps whose units cannot be followed, and why."""
    outputs: int
    text: str
    """The graph, as text: equal for modules that compute alike."""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _OWN) or super().is_leaf_module(m, module_qualified_name)


def trace(module: nn.Module, input_shape: tuple[int, ...]) -> Found:
    """The width sites of a module on the CPU that takes (n, *input_shape); UserError where it cannot be traced."""
    copy = deepcopy(module).eval()
    try:
        graph = _Tracer().trace(copy)
    except Exception as error:  # whatever a stranger's forward runs into
        raise UserError(
            f"{type(module).__name__} cannot be traced by torch.fx ({first_line(error)[:200]}): its forward must not branch on "
            "values: build it from modules and tensor functions"
        ) from error
    try:
        with torch.no_grad():
            ShapeProp(fx.GraphModule(copy, graph)).propagate(torch.randn(2, *input_shape))
    except Exception as error:
        why = first_line(error.__cause__ or error)[:200]
        raise UserError(
            f"{type(module).__name__} cannot take samples of shape {input_shape} ({why}): change the module's first layer "
            "or the shape of the samples"
        ) from error
    shape = _shape(next(n for n in graph.nodes if n.op == "output").args[0])
    if shape is None or len(shape) != 2:
        raise UserError(
            f"{type(module).__name__} returns {'no single tensor' if shape is None else tuple(shape)} for 2 samples instead "
            "of (2, outputs): return one tensor with a row per sample"
        )
    places, refused = _Reader(copy, graph).read()
    return Found(tuple(places), tuple(refused), shape[1], str(graph))


def _shape(node: Any) -> tuple[int, ...] | None:
    """The shape of the tensor that a node returns; None if it returns none."""
    meta = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    return tuple(meta.shape) if meta is not None and hasattr(meta, "shape") else None


class _Reader:
    """Follows the outputs of each linear map to what reads them."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        self.module, self.graph = module, graph
        self.parts = dict(module.named_modules())
        self.calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
        owners = Counter(id(p) for _, p in module.named_parameters(remove_duplicate=False))
        read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
        self.shared = {
            name
            for name, part in self.parts.items()
            if self.calls[name] > 1 or name in read or any(owners[id(p)] > 1 for p in part.parameters(recurse=False))
        }

    def read(self) -> tuple[list[Place], list[str]]:
        places, refused = [], []
        for node in self.graph.nodes:
            if node.op != "call_module" or not isinstance(self.parts[node.target], LinearMap):
                continue
            found = self._follow(node)
            if isinstance(found, Place):
                places.append(found)
            elif found:
                refused.append(f"{node.target}: {found}")
        return places, refused

    def _follow(self, node: fx.Node) -> Place | str:
        """The site of a linear map, or why there is none."""
        producer = str(node.target)
        wrong = self._odd(producer, node, entering=False)
        if wrong:
            return wrong
        between: list[str | nn.Module] = []
        activations: list[int] = []
        while True:
            readers = [user for user in node.users if user.op == "output" or _shape(user) is not None]
            if len(readers) != 1:
                return "several consumers read its units"
            node = readers[0]
            if node.op == "output":
                return "its units are the output"
            part = self.parts[str(node.target)] if node.op == "call_module" else self._stand_in(node)
            if isinstance(part, LinearMap):
                consumer = str(node.target)
                wrong = self._odd(consumer, node, entering=True)
                if not wrong and len(activations) != 1:
                    wrong = f"{len(activations)} activations are between it and {consumer}, where one is needed"
                return wrong or Place(producer, tuple(between), activations[0], consumer)
            passes = isinstance(part, (*_ACTIVATIONS, *_TRANSPARENT, *_POOLS, nn.Flatten, nn.Sequential))
            if part is None or not passes or (isinstance(part, nn.Flatten) and not _flattens(node)):
                what = type(part).__name__ if part is not None else getattr(node.target, "__name__", node.target)
                return f"its units pass through {what}, where they cannot be traced"
            if node.op == "call_module" and str(node.target) in self.shared and any(part.state_dict()):
                return f"{node.target}, which its units pass through, is also used elsewhere"
            if isinstance(part, _ACTIVATIONS):
                activations.append(len(between))
            between.append(str(node.target) if node.op == "call_module" else part)

    def _odd(self, name: str, node: fx.Node, *, entering: bool) -> str:
        """Why a linear map cannot be an end of a site; empty if it can."""
        part = self.parts[name]
        if name in self.shared:
            return f"{name} is used more than once"
        if isinstance(part, nn.Conv2d) and (
            part.groups != 1 or part.dilation != (1, 1) or part.padding_mode != "zeros" or isinstance(part.padding, str)
        ):
            return f"{name} is a convolution with groups, dilation, or padding other than a number of zeros"
        shape = _shape(node.args[0]) if entering else _shape(node)
        if shape is None or len(shape) != (4 if isinstance(part, nn.Conv2d) else 2):
            return f"{name} works on a tensor of shape {shape}"
        return ""

    def _stand_in(self, node: fx.Node) -> nn.Module | None:
        """The module that does what a function's node does; None where it is unknown or has other tensors as arguments."""
        arguments: list[Any] = list(node.args[1:])
        named: dict[str, Any] = dict(node.kwargs)
        named.pop("input", None)
        if node.target in _FLATTENS:
            return nn.Flatten()  # its shape is checked
        if any(isinstance(a, fx.Node) for a in (*arguments, *named.values())):
            return None
        if node.target in _MEANS:
            dims = named.get("dim", arguments[0] if arguments else None)
            pooled = _shape(node) is not None and len(_shape(node) or ()) == 2
            over = {d % 4 for d in dims} if isinstance(dims, list | tuple) else set()
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if pooled and over == {2, 3} else None
        try:
            if node.target in _MAX_POOLS:
                named.pop("return_indices", None)
                return nn.MaxPool2d(*arguments[:6], **named)
            make = _FUNCTIONS.get(node.target)
            return None if make is None else make(*arguments, **named)
        except TypeError:  # other arguments than the module has
            return None


def _flattens(node: fx.Node) -> bool:
    """Whether a node makes (n, everything else) of its input, in order."""
    before, after = _shape(node.args[0]), _shape(node)
    return before is not None and after == (before[0], prod(before[1:]))


def resize(site: WidthSite, units: int) -> None:
    """Make a site so wide (or narrow), new entries without effect: what a net's weights are then loaded into."""
    with torch.no_grad():
        extra = units - site.units
        per_unit, producer, consumer = site.columns_per_unit, site.producer, site.consumer
        for module in (producer, *site.followers):
            for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                if tensor.ndim:
                    fresh = 1.0 if name in ("running_var",) or (module is not producer and name == "weight") else 0.0
                    replace_tensor(module, name, F.pad(tensor, (0, 0) * (tensor.ndim - 1) + (0, extra), value=fresh))
        weight = consumer.weight
        replace_tensor(consumer, "weight", F.pad(weight, (0, 0) * (weight.ndim - 2) + (0, extra * per_unit)))
