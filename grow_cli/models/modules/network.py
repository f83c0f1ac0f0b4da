"""The base of every net: a plain `nn.Module` that declares where it can grow and describes itself as plain data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any

from torch import nn

from grow_cli.models.base import Ends, ModelOption
from grow_cli.models.modules.sites import DepthSite, WidthSite


class GrowableModel(nn.Module, ABC):
    """(n, *input_shape) → (n, outputs)."""

    no_width: str = ""
    """Why there is no width site, and what to use instead; empty where there are some."""

    def __init__(self, option: ModelOption, spec: Ends) -> None:
        super().__init__()
        self.option = option
        self.task = spec.task
        self.input_shape = tuple(spec.input_shape)
        self.outputs = spec.outputs

    @abstractmethod
    def width_sites(self) -> list[WidthSite]:
        """The hidden dimensions that can be widened, in order."""

    @abstractmethod
    def depth_sites(self) -> list[DepthSite]:
        """The places where a layer can be inserted, in order."""

    @abstractmethod
    def sizes(self) -> dict[str, Any]:
        """Those of the option's keys that growth changes, with their present values."""

    @abstractmethod
    def widths(self) -> list[int]:
        """The hidden widths in order; of a residual net, that of each block."""

    def block_stack(self) -> nn.ModuleList | None:
        """The blocks of the residual stream; None where there is no stream."""
        return None

    def architecture(self) -> dict[str, Any]:
        """Plain data from which `models.base.rebuild` makes this net, grown as it is.

        The entry `model` is the configuration of the same net: it can be trained from scratch.
        """
        return {
            "model": asdict(self.option) | self.sizes(),
            "input_shape": list(self.input_shape),
            "outputs": self.outputs,
            "task": self.task,
        }
