"""The page of several runs: which way won, and what it cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from grow_cli.analysis.comparison import Comparison, compare
from grow_cli.analysis.figures import short
from grow_cli.analysis.numbers import score_text, seconds_text, short_number
from grow_cli.analysis.report.charts import Chart, Key, layout, number, scale, words, wrapped
from grow_cli.analysis.report.keys import keys_of
from grow_cli.analysis.report.page import Page, table
from grow_cli.analysis.report.reading import COLUMNS
from grow_cli.analysis.runs import Record, read_records
from grow_cli.analysis.ways import Way
from grow_cli.records.flat import plain
from grow_cli.records.words import counted

# Places at which the curves of a way are averaged, at most.
_PLACES = 200
# Characters of a way's name in a line.
_NAME = 26


def sweep_page(paths: Sequence[Path], output: Path) -> Page:
    """All finished runs at and below these paths, by dataset.

    :param output: the page's path, to which links are relative
    """
    records = read_records(paths)
    comparisons = compare(records)
    datasets = list(dict.fromkeys(found.title for found in comparisons))
    page = Page(f"{counted(len(records), 'run')} on {', '.join(datasets)}", " · ".join(str(path) for path in paths))
    for index, found in enumerate(comparisons):
        page.heading(found.title)
        page.compare(found)
        if index == 0:
            page.axis_buttons()
        page.draw([_curves(found, index), _final(found, index), *_costs(found, index)])
    page.heading("Runs")
    page.add(_runs(records, output))
    return page


def average(runs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[list[float], list[float], list[float]]:
    """Places, mean and standard deviation of the runs' (x, y), where all of them are defined.

    Between its evaluations a run is taken to change evenly. No place: the runs have none in common.
    """
    lines = []
    for x, y in runs:
        xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        known = np.isfinite(ys)
        xs, ys = xs[known], ys[known]
        order = np.argsort(xs, kind="stable")
        xs, ys = xs[order], ys[order]
        last = np.append(xs[1:] != xs[:-1], True)[: len(xs)]  # of several at one place: what it came to
        lines.append((xs[last], ys[last]))
    if not lines or any(not len(x) for x, _ in lines):
        return [], [], []
    low, high = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    places = np.unique(np.concatenate([x for x, _ in lines]))
    places = places[(places >= low) & (places <= high)]
    if len(places) > _PLACES:
        places = np.linspace(low, high, _PLACES)
    if not len(places):
        return [], [], []
    values = np.stack([np.interp(places, x, y) for x, y in lines])
    deviation = values.std(axis=0, ddof=1) if len(lines) > 1 else np.zeros(len(places))
    return places.tolist(), values.mean(axis=0).tolist(), deviation.tolist()


def _curves(comparison: Comparison, index: int) -> Chart:
    """The mean of each way's validation score, and a band of a standard deviation."""
    ways, task = comparison.ways, comparison.task
    score, direction = task.column("val"), task.direction
    axes: dict[str, dict[str, Any]] = {}
    for axis, title in COLUMNS.items():
        xs: list[list[float]] = []
        ys: list[list[float]] = []
        for way in ways:
            frames = [record.metrics for record in way.records]
            places, mean, deviation = average([(f[axis].tolist(), f[score].tolist()) for f in frames])
            above = [m + d for m, d in zip(mean, deviation, strict=True)]
            below = [m - d for m, d in zip(mean, deviation, strict=True)]
            xs += [places, places + places[::-1]]
            ys += [mean, above + below[::-1]]
        axes[axis] = {"title": title, "x": xs, "y": ys}
    keys = [replace(key, curve=2 * key.curve) for key in keys_of(ways)]
    data = [
        trace
        for key, way in zip(keys, ways, strict=True)
        for trace in (_curve(key, len(way.records), task.percent), _band(key))
    ]
    title = f"Validation {task.words}, mean over seeds"
    low = {"title": title.split(",")[0].lower().replace("r²", "R²"), "tickformat": ".1~%" if task.percent else None}
    shape = layout(
        440,
        xaxis={"title": COLUMNS["step"]},
        yaxis=low | {"range": _end_of(axes["step"]["y"][::2], direction)},
        showlegend=False,
    )
    note = (
        "Point at a curve or its name for a band of one standard deviation over seeds; click to keep it. A curve ends where "
        "the shortest run of its way ends. Colours and markers stand for methods; controls are dashed, with open markers."
    )
    return Chart(f"curves-{index}", title, data, shape, note, axes, keys)


def _curve(key: Key, seeds: int, percent: bool) -> dict[str, Any]:
    shown = "%{y:.2%}" if percent else "%{y:.4f}"
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": words(key.name),
        "line": {"color": key.colour, "dash": key.dash, "width": 2},
        "marker": {"size": 7, "symbol": key.symbol, "color": key.colour, "maxdisplayed": 12},
        "hovertemplate": f"{wrapped(key.name, _NAME)} ({counted(seeds, 'seed')})<br>%{{x:,.4~g}}: {shown}<extra></extra>",
    }


def _band(key: Key) -> dict[str, Any]:
    """Invisible until selected."""
    colour = "rgba({},{},{},0.18)".format(*(int(key.colour[k : k + 2], 16) for k in (1, 3, 5)))
    return {
        "type": "scatter",
        "mode": "lines",
        "fill": "toself",
        "fillcolor": colour,
        "line": {"width": 0, "color": key.colour},
        "hoverinfo": "skip",
        "opacity": 0,
        "meta": "band",
        "name": f"{words(key.name)} ± standard deviation",
    }


def _end_of(curves: Sequence[Sequence[float]], direction: int = 1) -> list[float]:
    """Where ways differ in the end: what is far worse, at the beginning, would make them one line."""
    ends = [curve[-1] for curve in curves if curve]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = max(0.1 * abs(high), 2 * (high - low))
    return [low - margin, high + 0.1 * margin] if direction > 0 else [low - 0.1 * margin, high + margin]


def _told(way: Way, record: Record) -> str:
    summary, task = record.summary, record.task
    return (
        f"<b>{words(way.label)}</b>, seed {record.seed}"
        f"<br>test {task.words} {score_text(task, summary.get(task.column('test')))}"
        f"<br>widths {words(short(str(summary.get('widths', ''))) or 'none')}<br>{number(summary.get('parameters'))} parameters"
        f"<br>{short_number(float(summary['training_flops']))} training FLOPs<br>{words(record.folder.path.name)}"
    )


def _seeds(key: Key, way: Way, x: list[Any], y: list[Any], name: str) -> dict[str, Any]:
    """A marker for each run of a way."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "name": name,
        "text": [_told(way, r) for r in way.records],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": key.colour, "symbol": key.symbol, "size": 9, "line": {"width": 1.5, "color": key.colour}},
    }


def _values(way: Way, key: str) -> list[Any]:
    """A field of each run's summary, None where it has none."""
    return plain([r.summary.get(key) for r in way.records])


def _final(comparison: Comparison, index: int) -> Chart:
    """A point for each seed, and their mean."""
    ways, task = comparison.ways, comparison.task
    data: list[dict[str, Any]] = []
    for key, way in zip(keys_of(ways), ways, strict=True):
        name = wrapped(way.label, _NAME)
        values = _values(way, task.column("test"))
        known = [value for value in values if value is not None]
        data.append(_seeds(key, way, values, [name] * len(values), name))
        if known:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [sum(known) / len(known)],
                    "y": [name],
                    "name": f"mean of {name}",
                    "hovertemplate": f"mean {score_text(task, sum(known) / len(known))}<extra></extra>",
                    "marker": {"color": key.colour, "symbol": "line-ns-open", "size": 22, "line": {"width": 2}},
                }
            )
    title = f"Test {task.words}"
    shape = layout(
        110 + 46 * len(ways),
        xaxis={"title": title, "tickformat": ".1~%" if task.percent else None},
        yaxis={"title": "", "type": "category", "autorange": "reversed"},
        showlegend=False,
    )
    return Chart(f"final-{index}", f"{title}, a point for each seed (line: mean)", data, shape)


def _costs(comparison: Comparison, index: int) -> list[Chart]:
    """Scores against cost."""
    ways, task = comparison.ways, comparison.task
    charts = []
    for cost, title in (("parameters", "parameters"), ("training_flops", "training FLOPs")):
        data = [
            _seeds(key, way, _values(way, cost), _values(way, task.column("test")), words(way.label))
            for key, way in zip(keys_of(ways), ways, strict=True)
        ]
        costs = [x for trace in data for x in trace["x"] if x]
        alone = {"range": [0, 2 * costs[0]]} if len(set(costs)) == 1 else {}  # by itself plotly zooms in on one value
        shape = layout(
            340,
            xaxis={"title": title, **scale(costs), **alone, "exponentformat": "SI"},
            yaxis={"title": f"test {task.words}", "tickformat": ".1~%" if task.percent else None},
            showlegend=False,
        )
        charts.append(Chart(f"cost-{cost}-{index}", f"Test {task.words} against {title}", data, shape, half=True))
    return charts


def _runs(records: list[Record], output: Path) -> str:
    """Every run, with a link to its own page where it has one."""
    rows = []
    for r in records:
        summary, page = r.summary, r.folder.path / "report.html"
        place = os.path.relpath(r.folder.path.resolve(), output.resolve().parent)
        name = f'<span class="path">{escape(place)}</span>'
        if page.is_file() and page.resolve() != output.resolve():
            name = f'<a href="{escape(quote(place))}/report.html">{name}</a>'
        rows.append(
            [
                r.label,
                str(summary.get("trigger", "–")),
                number(summary.get("seed")),
                score_text(r.task, summary.get(r.task.column("val"))),
                score_text(r.task, summary.get(r.task.column("test"))),
                number(summary.get("parameters")),
                short(str(summary.get("widths", ""))) or "none",
                number(summary.get("steps")),
                seconds_text(float(summary["seconds"])),
                short_number(float(summary["training_flops"])),
                number(summary.get("events")),
                name,
            ]
        )
    columns = "way trigger seed validation test parameters widths steps time FLOPs events folder".split()
    return table(columns, rows, text=(11,), safe=(11,))
