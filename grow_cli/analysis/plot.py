"""Pictures of run folders: accuracy, loss and size against cost, with growth events marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from grow_cli.analysis.figures import empty, save, short
from grow_cli.analysis.numbers import short_number
from grow_cli.analysis.report.reading import RunData, read_run
from grow_cli.analysis.runs import nothing_held_out
from grow_cli.console import warn
from grow_cli.records.events import GrowthEvent
from grow_cli.records.folder import RunFolder
from grow_cli.records.metrics import AXES
from grow_cli.records.reading import Damaged, damaged

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL = 60
"""Characters of a line of the legend."""


def event_costs(metrics: pd.DataFrame, events: list[GrowthEvent], against: str) -> list[float]:
    """What each growth event's step had cost by then, before the event itself, in one of `AXES`."""
    before = metrics.drop_duplicates("step")  # a growth that ends the run is followed by a row of the same step
    at = np.interp([e.step for e in events], before["step"], before[AXES[against].column])
    return [float(x) for x in at]


def plot_runs(folders: list[RunFolder], output: Path, against: str = "steps") -> Path:
    """Draw the runs into one picture, against one of `AXES`, and return its path.

    A damaged run among several is left out with a warning; Damaged is raised if it is the only one.
    """
    runs = []
    for folder in folders:
        try:
            runs.append(read_run(folder))
            if runs[-1].task.column("train") not in runs[-1].metrics:
                raise damaged(folder.metrics, f"it has no column {runs.pop().task.column('train')}", line=1)
        except Damaged as error:
            if folder is folders[-1] and not runs:
                raise
            warn(f"{folder.path} is left out: {error}")
    return _draw(runs, output, against)


def _draw(runs: list[RunData], output: Path, against: str) -> Path:
    figure = empty(8, 7.5)
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    labels = [f"{r.name('method')} seed {r.summary.get('seed')}" if r.summary else r.folder.path.name for r in runs]
    scores = set()
    labels_below: list[tuple[float, float, str, str]] = []
    for number, run in enumerate(runs):
        metrics, task = run.metrics, run.task
        xs = metrics[AXES[against].column]
        colour = f"C{number}"
        # a sweep's folders have names as long as what was typed: wider than the picture
        label = (
            labels[number]
            if labels.count(labels[number]) == 1
            else fill(run.folder.path.name, _LABEL, break_on_hyphens=False)
        )
        scores.add(task.words)
        measured = "the training split at each evaluation" if nothing_held_out(run.config) else "validation"
        above.plot(xs, metrics[task.column("val")], color=colour, label=f"{label}, {measured}")
        above.plot(xs, metrics[task.column("train")], color=colour, ls=":", lw=1, label=f"{label}, training")
        middle.plot(xs, metrics["val_loss"], color=colour)
        middle.plot(xs, metrics["train_loss"], color=colour, ls=":", lw=1)
        events = [e for e in run.events if e.units_added]
        # rows are written before the growth at their step: the size changes where the event says
        sizes = [metrics["parameters"].iloc[0], *(e.parameters_after for e in events)]
        at = event_costs(metrics, events, against)
        below.step([0, *at, xs.iloc[-1]], [*sizes, sizes[-1]], color=colour, where="post")
        for event, x in zip(events, at, strict=True):
            for axes in (above, middle, below):
                axes.axvline(x, color=colour, lw=0.8, alpha=0.5, ls=":" if event.taken_back else "-")
            labels_below.append((x, event.parameters_after, short(event.widths_after), colour))
    above.set_ylabel(" or ".join(sorted(scores)))
    middle.set_ylabel("loss")
    middle.set_yscale("log")
    below.set_ylabel("parameters")
    below.set_ylim(bottom=0)
    below.set_xlim(left=0)
    _label(below, labels_below)
    below.yaxis.set_major_formatter(lambda value, _: short_number(value))
    if against != "seconds":
        below.xaxis.set_major_formatter(lambda value, _: short_number(value))
    what = "training FLOPs" if against == "flops" else against
    below.set_xlabel(f"{what} (vertical lines: growth events, dotted if taken back; numbers: hidden widths)")
    figure.suptitle(
        " / ".join(sorted({f"{r.name('model')} on {r.name('dataset')}" for r in runs if r.summary})), fontsize=10
    )
    above.legend(fontsize=7, loc="lower right" if runs[0].task.direction > 0 else "upper right")
    for axes in (above, middle, below):
        axes.spines[["top", "right"]].set_visible(False)
    return save(figure, output)


def _label(axes: Axes, labels: list[tuple[float, float, str, str]]) -> None:
    """Hidden widths (x, y, text, colour) at their events: to the right of the point, or to its left where the picture ends."""
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    places = [((x - low) / (high - low), (y - bottom) / (top - bottom)) for x, y, _, _ in labels]
    for index in with_room(places):
        x, y, text, colour = labels[index]
        left, low = places[index][0] > 0.85, places[index][1] < 0.1
        # above the line where there is no room between it and the axis
        shift, side = (-4 if left else 4, 3 if low else -12), "right" if left else "left"
        axes.annotate(text, (x, y), fontsize=7, color=colour, xytext=shift, textcoords="offset points", ha=side)


def with_room(places: Sequence[tuple[float, float]], wide: float = 0.15, tall: float = 0.13) -> list[int]:
    """Numbers of the places, in fractions of a picture, whose labels of this size touch no other; the last go first."""
    chosen: list[int] = []
    for index in reversed(range(len(places))):
        x, y = places[index]
        if all(abs(x - places[i][0]) >= wide or abs(y - places[i][1]) >= tall for i in chosen):
            chosen.append(index)
    return chosen[::-1]
