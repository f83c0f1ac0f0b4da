"""A net around a user's module, whose sites were traced: it grows like the nets of grow, and the module keeps its class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from grow_cli.data.base import DataSpec
from grow_cli.errors import UserError
from grow_cli.models.modules.network import OWN, GrowableModel
from grow_cli.models.modules.sites import DepthSite, WidthSite
from grow_cli.models.modules.tracing import Found, resize, trace


@dataclass(frozen=True)
class Template:
    """A module before it grows: what nets are made of again, in this process, whenever one is rebuilt."""

    module: nn.Module
    ends: DataSpec
    found: Found
    key: str
    """Tells modules that compute differently apart: a hash of their layers, shapes and graphs."""

    def net(self, widths: list[int]) -> TracedNet:
        """The net with these widths; with those that the module has, the module's own weights."""
        net = TracedNet(self)
        sites = net.width_sites()
        if len(sites) != len(widths):
            raise UserError(
                f"the module has the widths {net.widths()}, which cannot become {widths}: give a module like the one that "
                "was trained"
            )
        for number, wanted in enumerate(widths):
            site = net.width_sites()[number]  # as wide as the one before has made it
            if wanted != site.units:
                resize(site, wanted)
        net.settings = {"name": OWN, "module": self.key, "widths": list(widths)}
        return net


class TracedNet(GrowableModel):
    """(n, *input_shape) → (n, outputs), by a copy of a template's module."""

    def __init__(self, template: Template) -> None:
        super().__init__(template.ends)
        self.module = deepcopy(template.module)
        self._found = template.found
        if not template.found.places:
            refused = "; ".join(template.found.refused) or "it has no linear map or convolution"
            self.no_width = f"it has no hidden layer whose units can be traced ({refused})"

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.module(x))

    def width_sites(self) -> list[WidthSite]:
        return [place.of(self.module) for place in self._found.places]

    def depth_sites(self) -> list[DepthSite]:
        return []

    def frontier(self) -> nn.Module:
        sites = self.width_sites()
        return sites[-1].producer if sites else self

    def sizes(self) -> dict[str, Any]:
        return {"widths": self.widths()}

    def widths(self) -> list[int]:
        return [site.units for site in self.width_sites()]


def template_of(module: nn.Module, ends: DataSpec) -> Template:
    """A module's copy on the CPU, with the sites that can be widened; UserError where it cannot be traced or used."""
    if not isinstance(module, nn.Module):
        raise UserError(
            f"{type(module).__name__} is not a torch.nn.Module: give the net itself, not its class or its outputs"
        )
    original = deepcopy(module).cpu().train()
    if not any(True for _ in original.parameters()):
        raise UserError(f"{type(module).__name__} has no parameters, so there is nothing to train")
    found = trace(original, tuple(ends.input_shape))
    if ends.task == "classification" and found.outputs > ends.outputs:  # it may know of classes that these samples lack
        ends = replace(ends, outputs=found.outputs)
    if found.outputs != ends.outputs:
        what = "classes" if ends.task == "classification" else "targets"
        raise UserError(
            f"{type(module).__name__} has {found.outputs} outputs but the data have {ends.outputs} {what}: make them equal"
        )
    found = _proven(original, found, tuple(ends.input_shape))
    shapes = [(name, tuple(tensor.shape)) for name, tensor in original.state_dict().items()]
    key = sha256(f"{original}\n{found.text}\n{shapes}".encode()).hexdigest()[:16]
    return Template(original, ends, found, key)


def _proven(module: nn.Module, found: Found, input_shape: tuple[int, ...]) -> Found:
    """Those of the sites at which a unit without effect can be added: a forward may have a width written into it."""
    x = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    kept, refused = [], list(found.refused)
    for place in found.places:
        copy = deepcopy(module).eval()
        with torch.no_grad():
            before = copy(x)
            site = place.of(copy)
            resize(site, site.units + 1)
            try:
                same = torch.allclose(copy(x), before, rtol=1e-4, atol=1e-5 * float(before.abs().max()) + 1e-7)
            except (RuntimeError, ValueError):
                same = False
        if same:
            kept.append(place)
        else:
            refused.append(f"{place.producer}: the module's forward contains its width as a constant")
    return Found(tuple(kept), tuple(refused), found.outputs, found.text)


_lent: dict[str, Template] = {}


@contextmanager
def lent(template: Template | None) -> Iterator[None]:
    """Inside the block nets can be rebuilt from this template."""
    if template is None:
        yield
        return
    before = _lent.get(template.key)
    _lent[template.key] = template
    try:
        yield
    finally:
        if before is None:
            del _lent[template.key]
        else:
            _lent[template.key] = before


def remade(settings: dict[str, Any]) -> TracedNet:
    """The net of these settings; UserError where its module is not in this process."""
    template = _lent.get(str(settings.get("module")))
    if template is None:
        raise UserError(
            "this net is a module that grow.fit trained: load it from Python with grow.load(RUN, module=...), giving a "
            "module like the one that was trained"
        )
    return template.net([int(width) for width in settings["widths"]])
