"""No growth: the baseline that every grown net must be held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.methods.base import Method, MethodOption
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.models.modules.network import GrowableModel


@option("method", "static")
@dataclass
class StaticOption(MethodOption):
    """No keys."""

    grows = False

    def build(self, model: GrowableModel) -> Method:
        return Method()
