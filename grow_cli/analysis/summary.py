"""What is printed when a run has ended: what grew, what it reached, where it is."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from grow_cli import console, registry
from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import counted
from grow_cli.tasks import task_in


def show(folder: RunFolder, summary: dict[str, Any]) -> None:
    """Two tables and the folder."""
    events = growth_events(folder)
    if events:
        console.out.print(_grown(events))
        console.out.print(
            "[dim]* on a fixed batch: before, just after, and settled; Δf: relative change of the outputs[/dim]\n"
        )
    elif summary["trigger"] != "never" and getattr(registry.groups()["method"].get(summary["method"]), "grows", True):
        console.out.print(_nothing_grew(summary))
    console.out.print(_reached(summary))
    console.out.print(
        f"{counted(summary['parameters'], 'parameter')}; {counted(summary['steps'], 'step')} in {summary['seconds']:.1f} s, "
        f"{summary['growth_seconds']:.1f} s of them growing; {summary['training_flops']:.2e} FLOPs; {summary['device']}"
    )
    if summary["growth_steps"]:
        console.out.print(
            f"(and {counted(summary['growth_steps'], 'step')} of the new blocks alone, counted in seconds and FLOPs)"
        )
    if summary.get("mistakes_targeted"):
        targeted, corrected = summary["mistakes_targeted"], summary["mistakes_corrected"]
        console.out.print(
            f"corrected: {round(corrected * targeted)} of {counted(targeted, 'mistake')} that a neuron was grown for; see"
        )
        console.out.print(f"`grow explain {escape(str(folder.path))}`", soft_wrap=True)
    console.out.print(f"ended after {summary['ended_by']}; the run folder is")
    console.out.print(f"[bold]{escape(str(folder.path))}[/bold]", soft_wrap=True)


def _nothing_grew(summary: dict[str, Any]) -> str:
    if summary["ended"]["rule"].endswith("_score"):
        return "Nothing grew: the run ended at its score before the trigger fired."
    every = "set trigger.every less" if summary["trigger"] == "every" else "use trigger=every"
    return (
        "Nothing grew: the trigger never fired while growth was allowed (growth.until). Its readings are in metrics.csv; "
        f"let it ask more often (evaluate.every), raise growth.until, train longer, or {every}."
    )


# Characters of a reason in the table.
_REASON = 60


def _grown(events: list[GrowthEvent]) -> Table:
    table = Table(title="What grew", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", justify="right")
    table.add_column("where")
    for name in ("parameters", "widths", "loss*", "Δf", "s"):
        table.add_column(name, justify="right")
    for e in events:
        if not e.taken_back and not e.changed:
            reason = e.reason
            shown = reason if len(reason) <= _REASON else reason[:_REASON].rstrip() + "…"  # the log has it all
            table.add_row(f"{e.step:,}", f"[dim]nothing: {escape(shown)}[/dim]")
            continue
        table.add_row(
            f"{e.step:,}",
            escape(e.site) or ("taken back" if e.taken_back else "[dim]best updates only[/dim]"),
            f"{e.parameters_after:,}",
            escape(e.widths_after),
            "→".join(_number(getattr(e, f"loss_{moment}")) for moment in ("before", "after", "settled")),
            _number(e.function_change_relative, ".0%"),
            f"{e.growth_seconds:.1f}",
        )
    return table


def _reached(summary: dict[str, Any]) -> Table:
    table = Table(title="What it reached", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    task = task_in(summary, "test")
    for name in ("", "train", "val", "test"):
        table.add_column(name, justify="right")
    for kind in (task.score, "loss", *task.beside):
        told = task.words.replace(task.label, kind) if kind == task.score else kind
        table.add_row(told, *(_number(summary[f"{split}_{kind}"], ".4f") for split in ("train", "val", "test")))
    return table


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else f"{value:{form}}"
