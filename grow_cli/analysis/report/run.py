"""The page of one run."""

from __future__ import annotations

from html import escape
from typing import Any

from grow_cli.analysis.comparison import compare
from grow_cli.analysis.report.charts import (
    COLOURS,
    DASHES,
    GREY,
    PAPER,
    Chart,
    bar_gap,
    categories,
    layout,
    line,
    number,
    scale,
    vertical,
)
from grow_cli.analysis.report.events import colour, event_table, hover, stages, symbol
from grow_cli.analysis.report.look import on
from grow_cli.analysis.report.own import own_charts, own_html
from grow_cli.analysis.report.page import Page, folded, pairs, table
from grow_cli.analysis.report.reading import COLUMNS, RunData, read_run
from grow_cli.analysis.report.texts import texts
from grow_cli.analysis.runs import nothing_held_out, read_records
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import widths_text

_SPLITS = {"train": "training", "val": "validation", "test": "test"}
_LOOKS = {"train": ("dot", COLOURS[5]), "val": ("solid", COLOURS[0]), "test": ("dash", COLOURS[1])}
# The longest table that is open when the page is.
_ROWS = 15


def run_page(folder: RunFolder) -> Page:
    """All that the run folder holds; UserError where it holds no evaluation yet."""
    run = read_run(folder)
    names = [run.name(part) for part in ("dataset", "model", "method", "trigger")]
    seed = run.summary.get("seed", run.config.get("seed"))
    label = run.summary.get("label")
    title = " · ".join([*([str(label)] if label else []), *names, f"seed {seed}"])
    page = Page(title, f"{run.status} · {folder.path}")
    _reached(page, run)
    page.heading("Training")
    page.axis_buttons()
    page.draw([curves(run)])
    if run.events:
        page.add(folded(f"Growth log ({len(run.events)})", event_table(run), opened=len(run.events) <= _ROWS))
    else:
        page.note("Nothing grew.")
    page.heading("Architecture at every stage")
    page.draw([architecture(run)])
    page.add(_stage_table(run))
    readings = reading_charts(run)
    if readings:
        page.heading("What the trigger read")
        page.draw(readings)
    _against_controls(page, folder)
    charts, html = own_charts(run), own_html(run)
    if charts or html:
        page.heading("What the method saw")
        page.draw(charts)
        page.add(html)
    written = texts(run)
    if written:
        page.heading("What the net writes")
        page.add(written)
        page.note("Drawn at temperature 0.8; of the nets before growth events if checkpoint.events=true kept them.")
    _settings(page, run)
    return page


def _against_controls(page: Page, folder: RunFolder) -> None:
    """What `grow controls` trained, beside the run."""
    if not (folder.path / "controls").is_dir() or folder.read_summary().get("status") != "finished":
        return
    [comparison] = compare(read_records([folder.path]))
    page.heading("Against its controls")
    page.compare(comparison)


def _reached(page: Page, run: RunData) -> None:
    summary, task = run.summary, run.task
    splits = [split for split in _SPLITS if run.latest(f"{split}_loss") is not None]
    name = task.label
    also = [(other.replace("_", " "), other) for other in task.beside]
    page.add(
        table(
            ["", *(_SPLITS[split] for split in splits)],
            [
                [word, *(number(run.latest(f"{split}_{key}"), ".4f") for split in splits)]
                for word, key in ((task.words, task.score), ("loss", "loss"), *also)
            ],
        )
    )
    if nothing_held_out(run.config):
        page.note("Nothing was held out (dataset.validation=0): validation is the training split here.")
    if "val_loss" not in summary:
        page.note("The run is not finished: these are of its last evaluation.")
    if summary.get("error"):
        page.note(f"It ended with: {summary['error']}")
    facts: list[tuple[str, Any]] = [
        ("hidden widths", run.latest("widths") or "none"),
        ("parameters", run.latest("parameters")),
        (f"best validation {name}", summary.get(f"best_{task.column('val')}")),
        ("at step", summary.get("best_step")),
        ("steps", summary.get("steps") or int(run.metrics["step"].iloc[-1])),
        ("epochs", run.latest("epochs")),
        ("growth events", summary.get("events", sum(event.units_added > 0 for event in run.events))),
        ("taken back", summary.get("undone") or None),
        ("seconds", run.latest("seconds")),
        ("seconds of growing", run.latest("growth_seconds")),
        ("training FLOPs", summary.get("training_flops") or run.latest("flops")),
        ("FLOPs of growing", summary.get("growth_flops")),
        ("FLOPs per sample", summary.get("flops_per_sample")),
        ("ended after", summary.get("ended_by")),
        ("device", summary.get("device")),
        ("commit", _commit(summary.get("commit"))),
    ]
    page.add(pairs([(fact, _fact(value)) for fact, value in facts if value is not None]))


def _commit(name: str | None) -> str | None:
    """Its first twelve digits, and whether files were changed since."""
    digits, dash, dirty = (name or "").partition("-")
    return f"{digits[:12]}{dash}{dirty}" or None


def _fact(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int) and value >= 10**9 else number(value, ".4g")


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
    for split, word in _SPLITS.items():
        dash, hue = _LOOKS[split]
        for key, axis in ((score, "y"), ("loss", "y2")):
            if f"{split}_{key}" not in run.metrics:
                continue
            style = {"color": hue, "dash": dash, "width": 1.8 if split == "val" else 1.4}
            grouped = {"legendgroup": split, "showlegend": axis == "y", "yaxis": axis, "connectgaps": split == "test"}
            data.append(line(word, run.column(f"{split}_{key}"), line=style, **grouped))
    rows = len(data)
    losses = [value for trace in data if trace["yaxis"] == "y2" for value in trace["y"]]
    if run.events:
        data.append(_marks(run))
    lines = [event for event in run.events if event.units_added]
    axes: dict[str, dict[str, Any]] = {}
    for axis, title in COLUMNS.items():
        column, places = run.column(axis), run.places(axis)
        marked = [x for x, event in zip(places, run.events, strict=True) if event.units_added]
        axes[axis] = {
            "title": title,
            "x": [column] * rows + ([places] if run.events else []),
            "lines": marked,
        }
    for trace, x in zip(data, axes["step"]["x"], strict=True):
        trace["x"] = x
    name = run.task.label
    shape = layout(
        560,
        xaxis={"title": COLUMNS["step"], "anchor": "y2"},
        yaxis={"title": run.task.words, "domain": [0.5, 0.93]},
        yaxis2={"title": "loss", "domain": [0, 0.44], **scale(losses)},
        yaxis3={
            "domain": [0.945, 1],
            "visible": False,
            "range": [-1, 1],
            "fixedrange": True,
        },
        shapes=vertical(axes["step"]["lines"], [colour(event) for event in lines]),
        hovermode="x unified",
    )
    note = (
        "Marks above: ▲ grown, ▼ taken back, ● nothing was worth adding; each stands at the evaluation after which it happened."
        if run.events
        else ""
    )
    return Chart("curves", f"{name} and loss".capitalize(), data, shape, note, axes)


def architecture(run: RunData) -> Chart:
    """A bar for each stage, a piece for each hidden layer, the first at the bottom."""
    found = stages(run)
    names = [event if len(found) > 6 or not step else f"{event}<br>step {step:,}" for event, step, _, _ in found]
    depth = max(len(widths) for *_, widths in found)
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "name": f"layer {i + 1}",
            "x": names,
            "y": [widths[i] if i < len(widths) else None for *_, widths in found],
            "text": [str(widths[i]) if i < len(widths) else "" for *_, widths in found],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "constraintext": "inside",
            "insidetextfont": {"color": on(COLOURS[i % len(COLOURS)])},
            "marker": {"color": COLOURS[i % len(COLOURS)], "line": {"color": PAPER, "width": 1}},
            "hovertemplate": "%{x}<br>layer " + str(i + 1) + ": %{y:,} units<extra></extra>",
        }
        for i in range(depth)
    ]
    if not depth:  # a chart of nothing but its stages
        data = [
            {"type": "bar", "name": "no hidden layer", "x": names, "y": [0] * len(names), "marker": {"color": GREY}}
        ]
    shape = layout(
        300,
        barmode="stack",
        bargap=bar_gap(len(found)),
        xaxis=categories("growth event", names),
        yaxis={"title": "hidden units" if depth else "no hidden layer", "rangemode": "tozero"},
        showlegend=1 < depth <= 12,
    )
    return Chart("architecture", "Hidden widths", data, shape)


def _stage_table(run: RunData) -> str:
    sizes = [event.parameters_after for event in run.events if event.units_added]
    first = next((event.parameters_before for event in run.events if event.units_added), run.latest("parameters"))
    rows = [
        [event, number(step), what, widths_text(widths) or "none", number(size)]
        for (event, step, what, widths), size in zip(stages(run), [first, *sizes], strict=True)
    ]
    html = table(["event", "step", "what", "hidden widths", "parameters"], rows, text=(2, 3))
    return folded(f"Stages ({len(rows)})", html, opened=len(rows) <= _ROWS)


def reading_charts(run: RunData) -> list[Chart]:
    """One for each column `trigger/<name>`."""
    names = [str(name).removeprefix("trigger/") for name in run.metrics if str(name).startswith("trigger/")]
    return [_reading(run, name, i, half=len(names) > 1) for i, name in enumerate(names)]


def _reading(run: RunData, name: str, index: int, *, half: bool) -> Chart:
    values = run.column(f"trigger/{name}")
    threshold = run.thresholds.get(name)
    data = [line(name, values, line={"color": COLOURS[0], "width": 1.5}, showlegend=False)]
    if threshold is not None:
        style = {"color": COLOURS[1], "dash": DASHES[1], "width": 1.5}
        text = f"threshold {threshold:g}"
        data.append({"type": "scatter", "mode": "lines", "name": text, "y": [threshold] * 2, "line": style})
    grown = [event for event in run.events if event.units_added]
    axes: dict[str, dict[str, Any]] = {}
    for axis, title in COLUMNS.items():
        x = run.column(axis)
        marked = [at for at, event in zip(run.places(axis), run.events, strict=True) if event.units_added]
        axes[axis] = {"title": title, "x": [x, [x[0], x[-1]]][: len(data)], "lines": marked}
    for trace, x in zip(data, axes["step"]["x"], strict=True):
        trace["x"] = x
    shape = layout(
        240,
        xaxis={"title": COLUMNS["step"]},
        yaxis={"title": "", **scale([*values, threshold], decades=2.5)},
        shapes=vertical(axes["step"]["lines"], [colour(event) for event in grown]),
        showlegend=threshold is not None,
    )
    note = "" if any(value is not None for value in values) else "Nothing was read."
    return Chart(f"reading-{index}", name, data, shape, note, axes, half=half)


def _settings(page: Page, run: RunData) -> None:
    page.heading("Settings")
    overrides = run.folder.overrides()
    page.note("Given on the command line: " + (" ".join(overrides) if overrides else "nothing"))
    versions = run.summary.get("versions") or {}
    if versions:
        page.note("Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    page.add(folded("Config", f"<pre>{escape(run.folder.config_text())}</pre>"))
