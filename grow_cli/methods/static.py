"""No growth: the baseline for every grown net."""

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
