"""The page of several runs: which way won, and what it cost."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from grow_cli.analysis.comparison import compare
from grow_cli.analysis.figures import short
from grow_cli.analysis.report.charts import COLOURS, DASHES, Chart, layout, number, scale, words, wrapped
from grow_cli.analysis.report.page import Page, table
from grow_cli.analysis.report.reading import COLUMNS
from grow_cli.analysis.runs import Record, read_records
from grow_cli.records.flat import plain
from grow_cli.records.words import counted
from grow_cli.tasks import Task

# Places at which the curves of a way are averaged, at most.
_PLACES = 200
# Characters of a way's name in a line.
_NAME = 26


def sweep_page(paths: Sequence[Path], output: Path) -> Page:
    """All finished runs at and below these paths, by dataset.

    :param output: where the page will stand: links are relative to it
    """
    records = read_records(paths)
    groups: dict[tuple[str, Task], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.dataset, record.task].append(record)
    datasets = list(dict.fromkeys(dataset for dataset, _ in groups))
    page = Page(f"{counted(len(records), 'run')} on {', '.join(datasets)}", " · ".join(str(path) for path in paths))
    for index, of in enumerate(groups.values()):
        for found in compare(of):
            page.heading(found.title)
            page.compare(found)
        ways = _ways(of)
        if index == 0:
            page.axis_buttons()
        page.draw([_curves(ways, index), _final(ways, index), *_costs(ways, index)])
    page.heading("Runs")
    page.add(_runs(records, output))
    return page


def _ways(records: list[Record]) -> dict[str, list[Record]]:
    """Name → its runs."""
    grouped: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda r: r.seed):
        grouped[record.label].append(record)
    return grouped


def _name(record: Record) -> str:
    return record.task.words


def _style(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i % len(COLOURS)], "dash": DASHES[i // len(COLOURS) % len(DASHES)]}


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


def _curves(ways: dict[str, list[Record]], index: int) -> Chart:
    """The mean of each way's validation score, and a band of a standard deviation."""
    task = next(iter(ways.values()))[0].task
    score, direction = task.column("val"), task.direction
    metrics = {way: [record.metrics for record in runs] for way, runs in ways.items()}
    axes: dict[str, dict[str, Any]] = {}
    for axis, title in COLUMNS.items():
        xs: list[list[float]] = []
        ys: list[list[float]] = []
        for frames in metrics.values():
            places, mean, deviation = average([(f[axis].tolist(), f[score].tolist()) for f in frames])
            above = [m + d for m, d in zip(mean, deviation, strict=True)]
            below = [m - d for m, d in zip(mean, deviation, strict=True)]
            xs += [places, places + places[::-1]]
            ys += [mean, above + below[::-1]]
        axes[axis] = {"title": title, "x": xs, "y": ys}
    data: list[dict[str, Any]] = []
    for i, (way, runs) in enumerate(ways.items()):
        colour = _style(i)["color"]
        name, seeds = wrapped(way, _NAME), counted(len(runs), "seed")
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "legendgroup": str(i),
                "line": {**_style(i), "width": 2},
                "marker": {"size": 3},
                "hovertemplate": f"{name} ({seeds})<br>%{{x:,.4~g}}: %{{y:.4f}}<extra></extra>",
            }
        )
        band = "rgba({},{},{},0.13)".format(*(int(colour[k : k + 2], 16) for k in (1, 3, 5)))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "fill": "toself",
                "fillcolor": band,
                "line": {"width": 0, "color": colour},
                "hoverinfo": "skip",
                "legendgroup": str(i),
                "showlegend": False,
                "name": f"{name} ± standard deviation",
            }
        )
    for trace, x, y in zip(data, axes["step"]["x"], axes["step"]["y"], strict=True):
        trace |= {"x": x, "y": y}
    title = f"Validation {_name(next(iter(ways.values()))[0])}, mean over seeds"
    shape = layout(
        400 + 16 * len(ways),
        xaxis={"title": COLUMNS["step"]},
        yaxis={
            "title": title.split(",")[0].lower().replace("r²", "R²"),
            "range": _end_of(axes["step"]["y"][::2], direction),
        },
    )
    note = "The band is a standard deviation over seeds. A curve goes as far as all runs of its way do."
    return Chart(f"curves-{index}", title, data, shape, note, axes)


def _end_of(curves: Sequence[Sequence[float]], direction: int = 1) -> list[float]:
    """Where ways differ in the end: what is far worse, at the beginning, would make them one line."""
    ends = [curve[-1] for curve in curves if curve]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = max(0.1 * abs(high), 2 * (high - low))
    return [low - margin, high + 0.1 * margin] if direction > 0 else [low - 0.1 * margin, high + margin]


def _told(way: str, record: Record) -> str:
    summary = record.summary
    return (
        f"<b>{words(way)}</b>, seed {record.seed}"
        f"<br>test {_name(record)} {number(summary.get(record.task.column('test')), '.4f')}"
        f"<br>widths {words(short(str(summary.get('widths', ''))) or 'none')}<br>{number(summary.get('parameters'))} parameters"
        f"<br>{number(summary.get('training_flops'), '.3g')} training FLOPs<br>{words(record.folder.path.name)}"
    )


def _final(ways: dict[str, list[Record]], index: int) -> Chart:
    """A point for each seed, and their mean."""
    data: list[dict[str, Any]] = []
    for i, (way, runs) in enumerate(ways.items()):
        name = wrapped(way, _NAME)
        values = plain([r.summary.get(r.task.column("test")) for r in runs])
        known = [value for value in values if value is not None]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": values,
                "y": [name] * len(values),
                "name": name,
                "text": [_told(way, r) for r in runs],
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {"color": _style(i)["color"], "size": 9, "opacity": 0.75},
                "showlegend": False,
            }
        )
        if known:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [sum(known) / len(known)],
                    "y": [name],
                    "name": f"mean of {name}",
                    "hovertemplate": "mean %{x:.4f}<extra></extra>",
                    "marker": {"color": _style(i)["color"], "symbol": "line-ns-open", "size": 22, "line": {"width": 2}},
                    "showlegend": False,
                }
            )
    title = f"Test {_name(next(iter(ways.values()))[0])}"
    shape = layout(
        110 + 46 * len(ways), xaxis={"title": title}, yaxis={"title": "", "type": "category", "autorange": "reversed"}
    )
    return Chart(f"final-{index}", f"{title}, a point for each seed (line: mean)", data, shape)


def _costs(ways: dict[str, list[Record]], index: int) -> list[Chart]:
    """What was reached against what it cost."""
    name = _name(next(iter(ways.values()))[0])
    charts = []
    for key, title in (("parameters", "parameters"), ("training_flops", "training FLOPs")):
        data = [
            {
                "type": "scatter",
                "mode": "markers",
                "x": plain([r.summary.get(key) for r in runs]),
                "y": plain([r.summary.get(r.task.column("test")) for r in runs]),
                "name": wrapped(way, _NAME),
                "text": [_told(way, r) for r in runs],
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {"color": _style(i)["color"], "size": 9, "opacity": 0.8},
            }
            for i, (way, runs) in enumerate(ways.items())
        ]
        costs = [x for trace in data for x in trace["x"] if x]
        alone = {"range": [0, 2 * costs[0]]} if len(set(costs)) == 1 else {}  # by itself plotly zooms in on one value
        shape = layout(
            330 + 16 * len(ways),
            xaxis={"title": title, **scale(costs), **alone, "exponentformat": "SI"},
            yaxis={"title": f"test {name}"},
        )
        charts.append(Chart(f"cost-{key}-{index}", f"Test {name} against {title}", data, shape, half=True))
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
                number(summary.get(r.task.column("val")), ".4f"),
                number(summary.get(r.task.column("test")), ".4f"),
                number(summary.get("parameters")),
                short(str(summary.get("widths", ""))) or "none",
                number(summary.get("steps")),
                number(summary.get("seconds"), ".1f"),
                number(float(summary.get("training_flops") or 0), ".3g"),
                number(summary.get("events")),
                name,
            ]
        )
    columns = [
        "way",
        "trigger",
        "seed",
        "val",
        "test",
        "parameters",
        "widths",
        "steps",
        "s",
        "FLOPs",
        "events",
        "folder",
    ]
    return table(columns, rows, text=(11,), safe=(11,))
