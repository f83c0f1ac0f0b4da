"""Figures as files, with warnings of the drawing library translated."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING

from grow_cli.console import warn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(figure: Figure, place: Path | IO[bytes], kind: str, dpi: int) -> None:
    """Write the figure as `png`, `pdf` or `svg`; one warning for characters that its font lacks."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure.savefig(place, format=kind, dpi=dpi)
    others = [one for one in said if "missing from" not in str(one.message)]
    for one in others:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if len(others) < len(said):
        warn("the picture's font lacks some characters of the labels; they are drawn as boxes")
