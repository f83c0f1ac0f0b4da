"""Growth events in words: in the hover text of their marks, as stages of the architecture, as a table."""

from __future__ import annotations

from typing import Any

from grow_cli.analysis.figures import short
from grow_cli.analysis.report.charts import COLOURS, GREY, RED, number, words
from grow_cli.analysis.report.page import table
from grow_cli.analysis.report.reading import RunData

GREEN = COLOURS[2]


def colour(event: dict[str, Any]) -> str:
    """Grown, taken back, or nothing added."""
    units = event["units_added"]
    return GREEN if units > 0 else RED if taken_back(event) else GREY


def symbol(event: dict[str, Any]) -> str:
    return "triangle-up" if event["units_added"] > 0 else "triangle-down" if taken_back(event) else "circle"


def taken_back(event: dict[str, Any]) -> bool:
    """Whether it is a growth step's undoing."""
    return event["kind"] == "rollback"


def hover(event: dict[str, Any]) -> str:
    """All that fits beside a mark."""
    units = event["units_added"]
    lines = [f"<b>event {event['event']}</b> at step {event['step']:,}: {words(what(event))}"]
    reason = (event.get("details") or {}).get("reason")
    if units <= 0 and reason:
        lines.append(_broken(str(reason)))
    if units:
        before, after = (words(short(event[f"widths_{m}"])) or "none" for m in ("before", "after"))
        lines.append(f"widths {before} → {after}")
        lines.append(f"parameters {event['parameters_before']:,} → {event['parameters_after']:,}")
        lines.append("loss " + losses(event) + " (before → after → settled)")
    lines.append(f"{number(event['growth_seconds'], '.3g')} s of growing")
    readings = event.get("readings") or {}
    if readings:
        lines.append(", ".join(f"{words(name)} {number(value, '.3g')}" for name, value in readings.items()))
    return "<br>".join(lines)


def what(event: dict[str, Any]) -> str:
    """`+3 units (width), hidden 1`, `5 units taken back`, `nothing added`."""
    units = event["units_added"]
    counted = f"{abs(units):,} unit" + ("" if abs(units) == 1 else "s")
    if taken_back(event):
        return f"{counted} taken back"
    if not units:
        updated = event.get("updated") or []
        return "nothing added, updated " + "; ".join(updated) if updated else "nothing added"
    return f"+{counted} ({event['kind']}), {event['site']}"


def losses(event: dict[str, Any]) -> str:
    """Before → after → settled, on the probe batch."""
    return " → ".join(number(event[f"loss_{moment}"], ".4g") for moment in ("before", "after", "settled"))


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
    changed = [event for event in run.events if event["units_added"]]
    first = changed[0]["widths_before"] if changed else str(run.metrics["widths"].iloc[-1])
    found = [("start", 0, "start", _widths(first))]
    for event in changed:
        found.append((str(event["event"]), event["step"], what(event), _widths(event["widths_after"])))
    return found


def _widths(text: str) -> list[int]:
    return [int(width) for width in text.split("-")] if text else []


def _changed(event: dict[str, Any]) -> bool:
    return bool(event["units_added"] or event.get("updated"))


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def event_table(run: RunData) -> str:
    """A row per line of the growth log."""
    rows = [
        [
            number(event["event"]),
            number(event["step"]),
            what(event) if event["units_added"] else str((event.get("details") or {}).get("reason") or what(event)),
            _change(*(short(event[f"widths_{moment}"]) or "none" for moment in ("before", "after"))),
            _change(*(number(event[f"parameters_{moment}"]) for moment in ("before", "after"))),
            losses(event) if _changed(event) else number(event["loss_before"], ".4g"),
            number(event.get("function_change_relative"), ".1%"),
            number(event["growth_seconds"], ".3g"),
        ]
        for event in run.events
    ]
    columns = ["event", "step", "what", "hidden widths", "parameters", "loss: before → after → settled", "Δf", "s"]
    return table(columns, rows, text=(2,))
