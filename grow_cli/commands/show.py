"""`grow show`: one run on a screen."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from itertools import groupby

from grow_cli import console
from grow_cli.analysis.listed import Listed, locked, state_of
from grow_cli.analysis.notable import changed_from_defaults
from grow_cli.analysis.summary import next_commands
from grow_cli.commands.overrides import existing
from grow_cli.config import GROUP_KEYS
from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.records.named import begun_at
from grow_cli.records.words import counted
from grow_cli.tasks import task_in


def parser() -> console.Parser:
    """The command's arguments."""
    parser = console.Parser(
        prog="grow show",
        description="Show a run: the keys that differ from their defaults, its scores, what grew, how it ended, and "
        "which commands to try next.",
        epilog="example: grow show latest",
    )
    parser.add_run()
    return parser


def main(arguments: list[str]) -> int:
    """Print it."""
    folder = existing(parser().parse(arguments).run)
    summary = folder.read_summary()
    run = Listed(folder, str(folder.path), begun_at(folder.path), summary, state_of(folder, summary))
    events = growth_events(folder)
    for line in _lines(run, events):
        console.line(line)
    return 0


def _lines(run: Listed, events: list[GrowthEvent]) -> Iterator[str]:
    folder, config = run.folder, run.folder.config()
    yield str(folder.path)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.when))
    yield f"  {run.state}; begun {when}; {_ended(run)}"
    yield "  " + " ".join(f"{g}={config[g]['name']}" for g in GROUP_KEYS if g in config) + f" seed={run.value('seed')}"
    yield ""
    yield "Typed: " + (shlex.join(folder.overrides()) or "nothing, all is as it comes")
    changed = changed_from_defaults(config)
    yield "Not the defaults:" if changed else "All keys have their default values."
    yield from (f"  {key}={value}  (default: {default})" for key, value, default in changed)
    yield ""
    yield from _reached(run)
    grown = merged(events)
    yield f"What {'changed' if any(event.removed for event in events) else 'grew'}: " + (
        ", ".join(grown) if grown else "nothing"
    )
    yield ""
    yield "Next:"
    yield from (f"  {command}" for command in next_of(folder, run.state, events))


def _ended(run: Listed) -> str:
    summary = run.summary
    if summary.get("error"):
        return str(summary["error"])
    if summary.get("ended_by"):
        return f"ended after {summary['ended_by']} ({counted(summary['steps'], 'step')}, {summary['seconds']:.1f} s)"
    step = run.last.get("step")
    return f"at step {int(step):,}" if step and step.isdigit() else "before its first evaluation"


def _reached(run: Listed) -> Iterator[str]:
    summary = run.summary
    task = task_in(summary or run.last)
    for kind in (task.score, "loss"):
        found = {split: summary.get(f"{split}_{kind}") for split in ("train", "val", "test")}
        told = [f"{split} {value:.4f}" for split, value in found.items() if value is not None]
        if told:
            yield f"{task.label if kind == task.score else kind}: " + ", ".join(told)
    if not summary and run.val is not None:
        yield f"{task.label} so far: val {run.val:.4f}"
    if run.parameters is not None:
        widths = summary.get("widths") or run.last.get("widths", "")
        yield f"{counted(run.parameters, 'parameter')}" + (f", widths {widths}" if widths else "")


def merged(events: list[GrowthEvent]) -> list[str]:
    """`hidden 1 (+4 units) ×3`: equal events in a row, and firings that added nothing."""

    def words(event: GrowthEvent) -> str:
        if event.taken_back:
            return "taken back"
        if not event.changed:
            return f"nothing ({event.reason})"
        units = f" ({'+' if event.units_added > 0 else '-'}{event.units_text})" if event.units_added else ""
        return (event.site or "best updates") + units

    found = [(name, sum(1 for _ in alike)) for name, alike in groupby(events, key=words)]
    return [name if times == 1 else f"{name} ×{times}" for name, times in found]


def next_of(folder: RunFolder, state: str, events: list[GrowthEvent]) -> list[str]:
    """What one types of a run in this state."""
    path = shlex.quote(str(folder.path))
    if state == "running" or (state != "finished" and locked(folder)):
        return [f"grow watch {path}"]
    if state == "finished":
        return next_commands(folder, events)
    return [f"grow resume {path}"] if folder.begun else ["grow train " + shlex.join(folder.overrides())]
