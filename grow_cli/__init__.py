"""grow: train neural networks that grow while they train, and compare ways of growing.

    import grow_cli as grow
    run = grow.train(["method=tiny", "dataset=digits"])

docs/python.md describes the rest. Heavy packages are imported only when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grow_cli.api import Run, carry, compare, fit, load, resume, train
    from grow_cli.errors import Interrupted, TrainingFailed, UserError
    from grow_cli.estimators import GrowClassifier, GrowRegressor

__version__ = "0.1.0"
__all__ = [
    "GrowClassifier",
    "GrowRegressor",
    "Interrupted",
    "Run",
    "TrainingFailed",
    "UserError",
    "carry",
    "compare",
    "fit",
    "load",
    "resume",
    "train",
]

# name → the module that has it
_PLACES = dict.fromkeys(__all__, "grow_cli.api")
_PLACES |= dict.fromkeys(("Interrupted", "TrainingFailed", "UserError"), "grow_cli.errors")
_PLACES |= dict.fromkeys(("GrowClassifier", "GrowRegressor"), "grow_cli.estimators")


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
