"""What a run measured while it trained: score and loss, size and rate, and what its trigger read."""

from __future__ import annotations

from typing import Any

import numpy as np

from grow_cli.analysis.report.charts import COLOURS, DASHES, GREY, Chart, layout, line, scale, vertical
from grow_cli.analysis.report.events import colour, hover, symbol
from grow_cli.analysis.report.reading import COLUMNS, RunData
from grow_cli.config import Stop
from grow_cli.records.metrics import AXES
from grow_cli.records.reading import reading

SPLITS = {"train": "training", "val": "validation", "test": "test"}
_LOOKS = {"train": ("dot", GREY), "val": ("solid", COLOURS[0]), "test": ("dash", COLOURS[1])}
_WORDS = {"adf": "ADF", "flops": "FLOPs", "pvalue": "p-value", "eta": "η", "tau": "τ", "kappa": "κ", "rho": "ρ"}


def growth_end(run: RunData, axis: str) -> float | None:
    """Where on this axis the part of the budget in which the net may grow was over (growth.until); None where it was not."""
    with reading(run.folder.hydra / "config.yaml"):
        until = (run.config.get("growth") or {}).get("until")
        stop = run.config.get("stop") or {}
        if not run.events or not isinstance(until, int | float) or not 0 < until < 1:
            return None
        limits = {AXES[name].column: float(stop[name]) for name in Stop.BUDGETS if stop.get(name)}
    if not limits:
        return None
    used = np.max([run.metrics[column].to_numpy(dtype=float) / limit for column, limit in limits.items()], axis=0)
    grown = [event.step for event in run.events if event.resized]
    end = _at(used, run.metrics["step"].to_numpy(dtype=float), until)
    if end is None or (grown and grown[-1] > end):  # a method that grows when it is told to
        return None
    return _at(used, run.metrics[axis].to_numpy(dtype=float), until)


def _at(used: np.ndarray, places: np.ndarray, until: float) -> float | None:
    """Where `used` (rows,), which rises, is `until`; None before the first row and beyond the last."""
    return float(np.interp(until, used, places)) if used[0] <= until <= used[-1] else None


def _axes(run: RunData, rows: int, *, marks: bool) -> dict[str, dict[str, Any]]:
    """Axis → title, x of `rows` curves and of the events' marks, and the places of vertical lines, the end of growing last."""
    axes: dict[str, dict[str, Any]] = {}
    for axis, title in COLUMNS.items():
        column, places, end = run.column(axis), run.places(axis), growth_end(run, axis)
        grown = [x for x, event in zip(places, run.events, strict=True) if event.units_added]
        x = [column] * rows + ([places] if marks else [])
        axes[axis] = {"title": title, "x": x, "lines": grown + ([] if end is None else [end])}
    return axes


def _lines(run: RunData, places: list[float]) -> list[dict[str, Any]]:
    """Events dotted; where growing ended dashed, and said."""
    colours = [colour(event) for event in run.events if event.units_added]
    drawn = vertical(places[: len(colours)], colours)
    for shape in vertical(places[len(colours) :], [GREY] * (len(places) - len(colours))):
        words = {"text": "growing ends", "textangle": 0, "xanchor": "left", "font": {"size": 10, "color": GREY}}
        drawn.append(shape | {"line": {"color": GREY, "width": 1.5, "dash": "dash"}, "label": words})
    return drawn


def _marks(run: RunData) -> dict[str, Any]:
    """One for each growth event, above the curves."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "growth event",
        "showlegend": False,
        "yaxis": "y3",
        "y": [0] * len(run.events),
        "text": [hover(event) for event in run.events],
        "hoverinfo": "text",
        "marker": {
            "color": [colour(event) for event in run.events],
            "symbol": [symbol(event) for event in run.events],
            "size": [11 if event.units_added else 6 for event in run.events],
        },
    }


def curves(run: RunData) -> Chart:
    """Score and loss on every split, and above them a mark for each growth event."""
    score = run.task.score
    data = []
    for split, word in SPLITS.items():
        dash, hue = _LOOKS[split]
        for key, axis in ((score, "y"), ("loss", "y2")):
            if f"{split}_{key}" not in run.metrics:
                continue
            style = {"color": hue, "dash": dash, "width": 1.8 if split == "val" else 1.4}
            grouped = {"legendgroup": split, "showlegend": axis == "y", "yaxis": axis, "connectgaps": split == "test"}
            data.append(line(word, run.column(f"{split}_{key}"), line=style, **grouped))
    losses = [value for trace in data if trace["yaxis"] == "y2" for value in trace["y"]]
    axes = _axes(run, len(data), marks=bool(run.events))
    if run.events:
        data.append(_marks(run))
    shape = layout(
        560,
        xaxis={"title": COLUMNS["step"], "anchor": "y2"},
        yaxis={
            "title": run.task.words,
            "domain": [0.5, 0.93],
            "tickformat": ".1~%" if run.task.percent else None,
            "hoverformat": ".2%" if run.task.percent else None,
        },
        yaxis2={"title": "loss", "domain": [0, 0.44], **scale(losses)},
        yaxis3={"domain": [0.945, 1], "visible": False, "range": [-1, 1], "fixedrange": True},
        shapes=_lines(run, axes["step"]["lines"]),
        hovermode="x unified",
    )
    note = (
        "Marks above: ▲ grown, ▼ taken back, ● nothing added; each at the evaluation after which it happened."
        if run.events
        else ""
    )
    return Chart("curves", f"{run.task.label} and loss".capitalize(), data, shape, note, axes)


def size_and_rate(run: RunData) -> Chart:
    """Parameters, which change at the evaluation that a growth followed, and the learning rate."""
    parts = [("parameters", "parameters", COLOURS[0]), ("lr", "learning rate", COLOURS[1])]
    drawn = [part for part in parts if part[0] in run.metrics]  # an older run has no rate
    axes = _axes(run, len(drawn), marks=False)
    data = []
    for i, (column, name, hue) in enumerate(drawn):
        # a row holds the size that the net had before it: the step is at the place of the row above
        style = {"color": hue, "width": 1.8, "shape": "vh" if column == "parameters" else "linear"}
        place = {"yaxis": "y" if i == 0 else "y2", "showlegend": False}
        data.append(line(name, run.column(column), line=style, **place))
    both = len(drawn) > 1
    rate = {"yaxis2": {"title": "learning rate", "domain": [0, 0.46], "rangemode": "tozero"}} if both else {}
    shape = layout(
        380 if both else 240,
        xaxis={"title": COLUMNS["step"], "anchor": "y2" if both else "y"},
        yaxis={"title": "parameters", "domain": [0.54 if both else 0, 1], "rangemode": "tozero"},
        shapes=_lines(run, axes["step"]["lines"]),
        hovermode="x unified",
        **rate,
    )
    title = "Parameters and learning rate" if both else "Parameters"
    return Chart("size-and-rate", title, data, shape, axes=axes)


def reading_title(name: str) -> str:
    """A reading's name as a title: `epochs_since` → `Epochs since the trigger last fired`."""
    part, _, own = name.rpartition(".")
    words = " ".join(_WORDS.get(word, word) for word in own.split("_"))
    if own.endswith("_since"):
        words += " the trigger last fired"
    elif own.endswith("_until"):
        words += " the next growth"
    return (f"{part}: " if part else "") + words[:1].upper() + words[1:]


def reading_charts(run: RunData) -> list[Chart]:
    """One for each column `trigger/<name>`."""
    names = [str(name).removeprefix("trigger/") for name in run.metrics if str(name).startswith("trigger/")]
    return [_reading(run, name, i, half=len(names) > 1) for i, name in enumerate(names)]


def _reading(run: RunData, name: str, index: int, *, half: bool) -> Chart:
    values = run.column(f"trigger/{name}")
    threshold = run.thresholds.get(name)
    data = [line(reading_title(name), values, line={"color": COLOURS[0], "width": 1.5}, showlegend=False)]
    if threshold is not None:
        style = {"color": COLOURS[1], "dash": DASHES[1], "width": 1.5}
        text = f"threshold {threshold:g}"
        data.append({"type": "scatter", "mode": "lines", "name": text, "y": [threshold] * 2, "line": style})
    axes = _axes(run, 1, marks=False)
    for at in axes.values():
        x = at["x"][0]
        at["x"] = [x, [x[0], x[-1]]][: len(data)]
    shape = layout(
        240,
        xaxis={"title": COLUMNS["step"]},
        yaxis={"title": "", **scale([*values, threshold], decades=2.5)},
        shapes=_lines(run, axes["step"]["lines"]),
        showlegend=threshold is not None,
    )
    note = "" if any(value is not None for value in values) else "Nothing was read."
    return Chart(f"reading-{index}", reading_title(name), data, shape, note, axes, half=half)
