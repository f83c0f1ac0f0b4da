"""Figures as files, with warnings of the drawing library translated."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING

from grow_cli.console import warn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# words of a warning of matplotlib → ours
_ANSWERS = {
    "missing from": "the picture's font lacks some characters of the labels; they are drawn as boxes",
    "constrained_layout not applied": "the picture's labels leave its axes no room; they may overlap",
}


def render(figure: Figure, place: Path | IO[bytes], kind: str, dpi: int) -> None:
    """Write the figure as `png`, `pdf` or `svg`; what matplotlib warns of is one sentence."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure.savefig(place, format=kind, dpi=dpi)
    answers = dict.fromkeys(_ANSWERS.values(), False)
    for one in said:
        answer = next((answer for words, answer in _ANSWERS.items() if words in str(one.message)), None)
        if answer is None:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        else:
            answers[answer] = True
    for answer, due in answers.items():
        if due:
            warn(answer)
