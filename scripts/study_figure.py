"""The picture of a page of `scripts/study.py`: every seed of every way, and the means with their intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from scipy import stats
from studies import BEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from study import Found

_GROWN, _STATIC = "#1f5fbf", "#6b6b6b"


def draw(found: Sequence[Found], output: Path) -> None:
    """A panel for each study, two side by side: test scores, a row for each way in the order of the table."""
    rows, columns = (len(found) + 1) // 2, min(2, len(found))
    tallest = max(len(one.best) for one in found)
    figure = Figure(figsize=(5.8 * columns, rows * (1.1 + 0.27 * tallest)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    for axes, one in zip(panels, found, strict=False):
        _panel(axes, one)
    figure.savefig(output, dpi=110)


def _panel(axes: Axes, found: Found) -> None:
    study, ways = found.study, list(found.best)
    chosen = found.chosen() if study.ladder else ""
    for place, way in enumerate(ways):
        scores = found.test(way)
        color = _STATIC if way in study.ladder else _GROWN
        reach = stats.t.ppf(0.975, len(scores) - 1) * scores.std(ddof=1) / np.sqrt(len(scores))
        axes.plot(scores, [place] * len(scores), ".", color=color, alpha=0.35, ms=5)
        axes.errorbar(scores.mean(), place, xerr=reach, fmt="|", color=color, ms=11, mew=2, lw=2)
    if chosen:
        axes.axvline(found.test(chosen).mean(), color=_STATIC, lw=1, ls="--", zorder=0)
    axes.set_yticks(range(len(ways)), [f"{way} ({BEST})" if way == chosen else way for way in ways], fontsize=8)
    axes.invert_yaxis()
    axes.set_title(study.title, fontsize=10)
    axes.set_xlabel(f"test {study.score_name}{'' if study.sign > 0 else ' (lower is better)'}", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", lw=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
