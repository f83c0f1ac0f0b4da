"""The Python API: `import grow_cli as grow` has the same names (docs/python.md)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from grow_cli.api.running import compare, load, resume, train

if TYPE_CHECKING:
    from grow_cli.api.carrying import carry
    from grow_cli.api.fitting import fit
    from grow_cli.api.results import Run

__all__ = ["Run", "carry", "compare", "fit", "load", "resume", "train"]


# these need torch, and are imported when they are asked for
_PLACES = {"Run": "grow_cli.api.results", "carry": "grow_cli.api.carrying", "fit": "grow_cli.api.fitting"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
