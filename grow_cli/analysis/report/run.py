"""The page of one run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from itertools import zip_longest
from typing import Any

from grow_cli.analysis.comparison import compare
from grow_cli.analysis.numbers import score_text, seconds_text, short_number
from grow_cli.analysis.report.charts import COLOURS, GREY, Chart, categories, number, stack
from grow_cli.analysis.report.confusion import confusion, confusion_table, worst
from grow_cli.analysis.report.curves import SPLITS, curves, reading_charts, size_and_rate
from grow_cli.analysis.report.events import event_table, stages
from grow_cli.analysis.report.look import on
from grow_cli.analysis.report.own import own_charts, own_html
from grow_cli.analysis.report.page import Page, folded, pairs, table
from grow_cli.analysis.report.reading import RunData, read_run
from grow_cli.analysis.report.texts import texts
from grow_cli.analysis.runs import nothing_held_out, read_records
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import counted, were, widths_text

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
    page.draw([curves(run), size_and_rate(run)])
    if run.events:
        page.add(folded(_log_title(run), event_table(run), opened=len(run.events) <= _ROWS))
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
    _confused(page, run)
    charts, html = own_charts(run), own_html(run)
    if charts or html:
        page.heading("What the method saw")
        page.draw(charts)
        page.add(html)
    written = texts(run)
    if written:
        page.heading("What the net writes")
        page.add(written)
        page.note(
            "Drawn at temperature 0.8, also from the nets before growth events if checkpoint.events=true kept them."
        )
    _settings(page, run)
    return page


def _against_controls(page: Page, folder: RunFolder) -> None:
    """What `grow controls` trained, beside the run."""
    if not (folder.path / "controls").is_dir() or folder.read_summary().get("status") != "finished":
        return
    [comparison] = compare(read_records([folder.path]))
    page.heading("Against its controls")
    page.compare(comparison)


def _log_title(run: RunData) -> str:
    """`Growth log: 2 of 11 firings grew the net`: the log holds also those that added nothing."""
    back = sum(event.taken_back for event in run.events)
    grown, fired = sum(event.resized for event in run.events), len(run.events) - back
    undone = f", {counted(back, 'growth')} {were(back)} taken back" if back else ""
    return f"Growth log: {grown:,} of {counted(fired, 'firing')} grew the net{undone}"


def _confused(page: Page, run: RunData) -> None:
    found = confusion(run)
    if found is not None:
        page.heading("Which classes are confused")
        page.note(worst(*found))
        page.add(confusion_table(*found))


def _reached(page: Page, run: RunData) -> None:
    summary, task = run.summary, run.task
    splits = [split for split in SPLITS if run.latest(f"{split}_loss") is not None]
    also = [(other.replace("_", " "), other) for other in task.beside]
    page.add(
        table(
            ["", *(SPLITS[split] for split in splits)],
            [
                [task.words, *(score_text(task, run.latest(f"{split}_{task.score}")) for split in splits)],
                *(
                    [word, *(number(run.latest(f"{split}_{key}"), ".4f") for split in splits)]
                    for word, key in (("loss", "loss"), *also)
                ),
            ],
        )
    )
    if nothing_held_out(run.config):
        page.note("Nothing was held out (dataset.validation=0): here validation means the training split.")
    if "val_loss" not in summary:
        page.note("The run is not finished: these numbers are from its last evaluation.")
    if summary.get("error"):
        page.note(f"It ended with: {summary['error']}")
    best = summary.get(f"best_{task.column('val')}")
    grown = [event.step for event in run.events if event.resized]
    facts: list[tuple[str, Any, Callable[[Any], str]]] = [
        ("hidden widths", run.latest("widths") or "none", str),
        ("parameters", run.latest("parameters"), number),
        (f"best validation {task.label}", best, partial(score_text, task)),
        ("at step", summary.get("best_step"), number),
        ("steps", summary.get("steps") or int(run.metrics["step"].iloc[-1]), number),
        ("epochs", run.latest("epochs"), number),
        ("growth events", summary.get("events", len(grown)), number),
        ("last growth at step", grown[-1] if grown else None, number),
        ("taken back", summary.get("undone") or None, number),
        ("time", run.latest("seconds"), seconds_text),
        ("of it growing", run.latest("growth_seconds"), seconds_text),
        ("training FLOPs", summary.get("training_flops") or run.latest("flops"), short_number),
        ("of them growing", summary.get("growth_flops"), short_number),
        ("FLOPs per sample", summary.get("flops_per_sample"), short_number),
        ("ended after", summary.get("ended_by"), str),
        ("device", summary.get("device"), str),
        ("commit", _commit(summary.get("commit")), str),
    ]
    page.add(pairs([(fact, form(value)) for fact, value, form in facts if value is not None]))


def _commit(name: str | None) -> str | None:
    """Its first twelve digits, and whether files were changed since."""
    digits, dash, dirty = (name or "").partition("-")
    return f"{digits[:12]}{dash}{dirty}" or None


def architecture(run: RunData) -> Chart:
    """A bar for each stage, a piece for each hidden layer, the first at the bottom."""
    found = stages(run)
    names = [event if len(found) > 6 or not step else f"{event}<br>step {step:,}" for event, step, _, _ in found]
    layers: list[dict[str, Any]] = [
        {
            "name": f"layer {i + 1}",
            "y": list(widths),
            "text": ["" if width is None else str(width) for width in widths],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "constraintext": "inside",
            "insidetextfont": {"color": on(COLOURS[i % len(COLOURS)])},
            "hovertemplate": "%{x}<br>layer " + str(i + 1) + ": %{y:,} units<extra></extra>",
        }
        for i, widths in enumerate(zip_longest(*(widths for *_, widths in found)))
    ]
    # without layers a chart of nothing but its stages
    nothing = {"name": "no hidden layer", "y": [0] * len(names), "marker": {"color": GREY}}
    data, shape = stack(
        names,
        layers or [nothing],
        xaxis=categories("growth event", names),
        yaxis={"title": "hidden units" if layers else "no hidden layer", "rangemode": "tozero"},
        showlegend=1 < len(layers) <= 12,
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


def _settings(page: Page, run: RunData) -> None:
    page.heading("Settings")
    overrides = run.folder.overrides()
    page.note("Given on the command line: " + (" ".join(overrides) if overrides else "nothing"))
    versions = run.summary.get("versions") or {}
    if versions:
        page.note("Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    page.add(folded("Config", f"<pre>{escape(run.folder.config_text())}</pre>"))
