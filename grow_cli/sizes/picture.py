"""The picture of `grow size`: score against parameters, with the paths of the grown runs and the points of the ladder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from grow_cli.analysis.figures import empty, save
from grow_cli.records.metrics import read_metrics
from grow_cli.sizes.answer import Answer


def draw(found: Answer, output: Path) -> Path:
    """Validation scores only; a rung that halving dropped is hollow, for it was trained for a part of the budget."""
    figure = empty(7, 4.5)
    axes = figure.subplots()
    column, scale = found.task.column("val"), 100 if found.task.percent else 1
    for number, folder in enumerate(found.runs):
        metrics = read_metrics(folder)
        label = "grown, a line for each seed" if number == 0 else None
        axes.plot(metrics["parameters"], scale * metrics[column], color="C0", lw=1, alpha=0.6, label=label)
        last = folder.read_summary()
        axes.plot([last["parameters"]], [scale * last[column]], "o", color="C0", label=None if number else "its end")
    if found.searched:
        for i, rung in enumerate(found.searched.rungs):
            own = found.searched.found.last(i, range(len(found.runs)))
            values = scale * found.task.direction * np.array([v for v in own if np.isfinite(v)])
            whole = found.searched.found.reached[i] == 1
            chosen = i == found.searched.found.best
            axes.plot(
                [rung.parameters] * len(values),
                values,
                "D" if chosen else "s",
                color="C1",
                mfc="C1" if whole else "none",
                label="the ladder's best" if chosen else None,
            )
    axes.set_xscale("log")
    axes.set_xlabel("parameters")
    axes.set_ylabel(f"validation {found.task.words}" + (", %" if found.task.percent else ""))
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return save(figure, output)
