"""What a Python program uses: `import grow_cli as grow` has the same names (docs/python.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grow_cli.api.running import compare, load, resume, train

if TYPE_CHECKING:
    from grow_cli.api.results import Run
    from grow_cli.surgery.optimizer import carry

__all__ = ["Run", "carry", "compare", "load", "resume", "train"]


def __getattr__(name: str) -> object:
    """What needs torch is imported when it is asked for."""
    if name == "Run":
        from grow_cli.api.results import Run

        return Run
    if name == "carry":
        from grow_cli.surgery.optimizer import carry

        return carry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
