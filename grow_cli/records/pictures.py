"""Figures as files, with warnings of the drawing library translated, and what pictures of the plane are drawn from."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING

from grow_cli.console import warn

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor


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


def grid(points: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """x (side,), y (side,) and all their pairs (side · side, 2), y outermost, around points (n, 2) and a little beyond."""
    import torch

    low, high = points.min(0).values, points.max(0).values
    margin = 0.08 * (high - low)
    x, y = (torch.linspace(float(a), float(b), side) for a, b in zip(low - margin, high + margin, strict=True))
    return x, y, torch.cartesian_prod(y, x).flip(1)


def lead(scores: Tensor) -> Tensor:
    """(n, classes): each class's probability, or output, less the largest of the others; a decision boundary is where it is 0."""
    import torch

    top = scores.topk(2, dim=1).values
    others = torch.where(scores == top[:, :1], top[:, 1:], top[:, :1])
    return scores - others
