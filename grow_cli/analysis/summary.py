"""Printed at the end of a run: what grew, its scores, the next commands to try, its folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from grow_cli import console, registry
from grow_cli.analysis.missed import nothing_grew
from grow_cli.analysis.numbers import short_number
from grow_cli.files import shortest
from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import counted, fixed
from grow_cli.tasks import task_in


def show(folder: RunFolder, summary: dict[str, Any]) -> None:
    """Two tables, what can be typed next, and the folder, which is the last line."""
    events = growth_events(folder)
    if events:
        console.out.print("What changed" if any(e.removed for e in events) else "What grew", style="italic")
        console.table(("step", "parameters", "loss*", "Δf", "s", "widths", "where"), rows(events), right=_NUMBERS)
        console.say(
            "* on a fixed batch: before growth, right after it, and once settled; Δf: relative change of the outputs",
            "dim",
        )
        console.out.print()
    elif summary["trigger"] != "never" and getattr(registry.groups()["method"].get(summary["method"]), "grows", True):
        console.say(nothing_grew(folder, summary))
    console.uncut(_reached(summary))
    console.say(
        f"{counted(summary['parameters'], 'parameter')}; {counted(summary['steps'], 'step')} in {summary['seconds']:.1f} s, "
        f"{summary['growth_seconds']:.1f} s of which growing; {short_number(summary['training_flops'])} FLOPs; "
        f"{summary['device']}"
    )
    if summary["growth_steps"]:
        console.say(
            f"(plus {counted(summary['growth_steps'], 'step')} that train new blocks alone, included in seconds and FLOPs)"
        )
    if summary.get("compile_seconds"):
        console.say(f"(plus {summary['compile_seconds']:.1f} s of compiling the step, in none of these seconds)")
    if summary.get("mistakes_targeted"):
        targeted, corrected = summary["mistakes_targeted"], summary["mistakes_corrected"]
        console.say(
            f"corrected: {round(corrected * targeted)} of {counted(targeted, 'mistake')} that a neuron was grown for; see"
        )
        console.out.print(f"`grow explain {escape(str(folder.path))}`", soft_wrap=True)
    console.say(f"ended after {summary['ended_by']}; next:")
    for command in next_commands(folder, events):
        console.out.print(f"  {command}", markup=False, soft_wrap=True)
    console.say("the run folder is")
    console.out.print(f"[bold]{escape(str(folder.path))}[/bold]", soft_wrap=True)


def in_a_line(folder: RunFolder, summary: Mapping[str, Any]) -> str:
    """A sweep's job in a line: `val_accuracy 0.9123, grew 2 times to 12,345 parameters (64-80), 3 s; outputs/...`."""
    name = task_in(dict(summary)).column("val")
    score = "" if summary.get(name) is None else f"{name} {summary[name]:.4g}"
    events, undone = summary.get("events", 0), summary.get("undone", 0)
    grew = f"grew {counted(events, 'time')}" + (f", {undone} taken back," if undone else "")
    size = f"{counted(summary.get('parameters', 0), 'parameter')} ({summary.get('widths', '')})"
    told = (score, f"{grew} to {size}" if events else size, f"{summary.get('seconds', 0):.0f} s")
    return f"{', '.join(filter(None, told))}; {shortest(folder.path)}"


def next_commands(folder: RunFolder, events: Sequence[GrowthEvent]) -> list[str]:
    """The two that one most likely types of a finished run."""
    path = shlex.quote(str(shortest(folder.path)))
    grown = sum(event.resized for event in events) > sum(event.taken_back for event in events)
    return [f"grow report {path}", f"grow controls {path}" if grown else f"grow eval {path}"]


_NUMBERS = ("step", "parameters", "loss*", "Δf", "s")
# Growths that have a row each, however alike; of more, those in a row at one site share one.
_MANY = 12


def rows(events: Sequence[GrowthEvent]) -> list[tuple[str, ...] | str]:
    """The rows of the table of what grew; an event that added nothing is a line with its reason, given once if it repeats."""
    many = sum(event.changed or event.taken_back for event in events) > _MANY

    def alike(numbered: tuple[int, GrowthEvent]) -> object:
        number, event = numbered
        if event.taken_back:
            return number
        return (event.changed, event.places if event.changed else event.reason) if many or not event.changed else number

    groups = ([event for _, event in group] for _, group in groupby(enumerate(events), key=alike))
    return [_row(group) if group[0].changed or group[0].taken_back else _empty(group) for group in groups]


def _empty(group: Sequence[GrowthEvent]) -> str:
    return f"{_steps(group)}: nothing{_times(group)}: {group[0].reason}"


def _row(group: Sequence[GrowthEvent]) -> tuple[str, ...]:
    first, last = group[0], group[-1]
    losses = [first.loss_before, last.loss_after, last.loss_settled]
    where = "taken back" if last.taken_back else last.places or "best updates only"
    if len(group) > 1:
        where = f"({where})" if ";" in where else where
        where += f"{_times(group)} since step {first.step:,}"
    return (
        f"{last.step:,}",
        f"{last.parameters_after:,}",
        "→".join(map(_number, losses)),
        "–" if last.function_change_relative is None else f"{last.function_change_relative:.0%}",
        f"{sum(e.growth_seconds for e in group):.1f}",
        last.widths_after,
        where,
    )


def _steps(group: Sequence[GrowthEvent]) -> str:
    return f"step {group[0].step:,}" + (f" to {group[-1].step:,}" if len(group) > 1 else "")


def _times(group: Sequence[GrowthEvent]) -> str:
    return f" ×{len(group)}" if len(group) > 1 else ""


def _reached(summary: dict[str, Any]) -> Table:
    table = Table(title="What it reached", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    task = task_in(summary, "test")
    for name in ("", "train", "val", "test"):
        table.add_column(name, justify="right")
    for kind in (task.score, "loss", *task.beside):
        told = task.words.replace(task.label, kind) if kind == task.score else kind
        table.add_row(told, *(_number(summary[f"{split}_{kind}"], 4) for split in ("train", "val", "test")))
    if "grid_max_error" in summary:
        table.caption = f"largest error on the dense grid: {summary['grid_max_error']:.2e}"
    return table


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else fixed(value, digits)
