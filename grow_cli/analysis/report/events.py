"""Growth events in words: in the hover text of their marks, as stages of the architecture, as a table."""

from __future__ import annotations

from grow_cli.analysis.figures import short
from grow_cli.analysis.report.charts import GREEN, GREY, RED, number, words
from grow_cli.analysis.report.page import table
from grow_cli.analysis.report.reading import RunData, having
from grow_cli.records.events import GrowthEvent
from grow_cli.records.words import counted, widths_of


def colour(event: GrowthEvent) -> str:
    """Grown, taken back, or nothing added."""
    return RED if event.taken_back else GREEN if event.resized else GREY


def symbol(event: GrowthEvent) -> str:
    return "triangle-down" if event.taken_back or event.removed else "triangle-up" if event.resized else "circle"


def hover(event: GrowthEvent) -> str:
    """All that fits beside a mark."""
    units = event.units_added
    lines = [f"<b>event {event.event}</b> at step {event.step:,}: {words(what(event))}"]
    if units <= 0 and event.reason:
        lines.append(_broken(event.reason))
    if units:
        before, after = (words(short(getattr(event, f"widths_{m}"))) or "none" for m in ("before", "after"))
        lines.append(f"widths {before} → {after}")
        lines.append(f"parameters {event.parameters_before:,} → {event.parameters_after:,}")
        lines.append("loss " + losses(event) + " (before → after → settled)")
    lines.append(f"{number(event.growth_seconds, '.3g')} s of growing")
    readings = event.readings
    if readings:
        lines.append(
            ", ".join(f"{words(name.replace('_', ' '))} {number(value, '.3g')}" for name, value in readings.items())
        )
    return "<br>".join(lines)


def what(event: GrowthEvent) -> str:
    """`+3 units (width), hidden 1`, `5 units taken back`, `nothing added`; and whether it is a fallback."""
    if event.taken_back:
        return f"{event.units_text} taken back"
    if not event.units_added:
        updated = event.updated
        return "nothing added, updated " + "; ".join(updated) if updated else "nothing added"
    return f"{'−' if event.removed else '+'}{event.units_text} ({event.kind}), {event.site}{_fallback(event)}"


def _fallback(event: GrowthEvent) -> str:
    """What a method took that did not believe its own numbers (Alether, Remark 17), and for how many tensors."""
    made = list(having(event.details, "fallback"))
    if not made:
        return ""
    noisy = sum(len(of["noisy"]) for of in made if isinstance(of.get("noisy"), list))
    part = f" for {counted(noisy, 'tensor')}" if noisy else ""
    return f" (fallback{part}: {made[0]['fallback']})"


def losses(event: GrowthEvent) -> str:
    """Before → after → settled, on the probe batch."""
    return " → ".join(number(getattr(event, f"loss_{moment}"), ".4g") for moment in ("before", "after", "settled"))


def _broken(text: str, length: int = 70) -> str:
    """The text's beginning, over at most three lines."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < 3:
        cut = len(rest) if len(rest) <= length else max(rest.rfind(" ", 0, length), 1)
        lines.append(rest[:cut].strip())
        rest = rest[cut:].strip()
    return "<br>".join(words(part) for part in lines) + ("…" if rest else "")


def stages(run: RunData) -> list[tuple[str, int, str, list[int]]]:
    """(event, step, what happened, hidden widths) at the start and after each event that changed them."""
    changed = [event for event in run.events if event.units_added]
    first = changed[0].widths_before if changed else str(run.metrics["widths"].iloc[-1])
    found = [("start", 0, "start", widths_of(first))]
    for event in changed:
        found.append((str(event.event), event.step, what(event), widths_of(event.widths_after)))
    return found


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def event_table(run: RunData) -> str:
    """A row per line of the growth log."""
    rows = [
        [
            number(event.event),
            number(event.step),
            what(event) if event.units_added else event.reason or what(event),
            _change(*(short(getattr(event, f"widths_{moment}")) or "none" for moment in ("before", "after"))),
            _change(*(number(getattr(event, f"parameters_{moment}")) for moment in ("before", "after"))),
            losses(event) if event.changed else number(event.loss_before, ".4g"),
            number(event.function_change_relative, ".1%"),
            number(event.growth_seconds, ".3g"),
        ]
        for event in run.events
    ]
    columns = ["event", "step", "what", "hidden widths", "parameters", "loss: before → after → settled", "Δf", "s"]
    return table(columns, rows, text=(2,))
