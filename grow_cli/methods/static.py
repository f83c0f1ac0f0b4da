"""No growth: the baseline that every grown net must be held against."""

from __future__ import annotations

from dataclasses import dataclass

from grow_cli.methods.base import Method
from grow_cli.registry import option


@option("method", "static")
@dataclass
class Static(Method):
    """No keys."""

    on_several_ranks = True

    grows = False
