"""The base of every net: a plain `nn.Module` that declares where it can grow and describes itself as plain data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from grow_cli.data.base import DataSpec
from grow_cli.models.modules.sites import DepthSite, HeadSite, WidthSite

OWN = "module"
"""The name of a net that a Python program brought: no option, for only that program can make it."""


class GrowableModel(nn.Module, ABC):
    """(n, *input_shape) → (n, outputs)."""

    no_width: str = ""
    """Why there is no width site, and what to use instead; empty where there are some."""

    settings: dict[str, Any]
    """The option that it was made of, as plain data; the initial sizes among them."""

    def __init__(self, ends: DataSpec) -> None:
        super().__init__()
        self.task = ends.task
        self.input_shape = tuple(ends.input_shape)
        self.outputs = ends.outputs

    def example(self, n: int) -> Tensor:
        """Inputs of the kind that it takes, always the same ones."""
        generator = torch.Generator().manual_seed(0)
        if self.task == "language":
            return torch.randint(256, (n, *self.input_shape), generator=generator)
        return torch.randn(n, *self.input_shape, generator=generator).to(next(self.parameters()).dtype)

    @property
    def name(self) -> str:
        """What the user typed after `model=`."""
        return str(self.settings["name"])

    @abstractmethod
    def width_sites(self) -> list[WidthSite]:
        """The hidden dimensions that can be widened, in order."""

    @abstractmethod
    def depth_sites(self) -> list[DepthSite]:
        """The places where a layer can be inserted, in order."""

    def head_sites(self) -> list[HeadSite]:
        """The blocks whose attention can get more heads, in order."""
        return []

    @abstractmethod
    def sizes(self) -> dict[str, Any]:
        """Those of the option's keys that growth changes, with their present values."""

    def size(self, key: str) -> Any:
        """The present value of one of them, or of one that a grown net of this kind has among them."""
        return self.sizes()[key]

    @abstractmethod
    def widths(self) -> list[int]:
        """The hidden widths in order; of a residual net, that of each block."""

    def frontier(self) -> nn.Module:
        """The layer whose trajectory is recorded (Alether's ℓ_front): the last hidden one, or all of a linear net."""
        stacks = [site.stack for site in self.depth_sites() if len(site.stack)]
        return stacks[-1][-1] if stacks else self

    def architecture(self) -> dict[str, Any]:
        """Plain data from which `models.base.rebuild` makes this net, grown as it is.

        The entry `model` is the configuration of the same net: it can be trained from scratch.
        """
        return {
            "model": self.settings | self.sizes(),
            "input_shape": list(self.input_shape),
            "outputs": self.outputs,
            "task": self.task,
        }
