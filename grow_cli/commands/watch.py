"""`grow watch`: a run that another process trains, line by line."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator

from grow_cli import console
from grow_cli.analysis.listed import locked, state_of
from grow_cli.commands.overrides import existing
from grow_cli.files import is_there
from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.records.reading import lines as whole_lines

_SECONDS = 1.0  # between two looks
_EARLIER = 5  # evaluations that are shown of what came before


def parser() -> console.Parser:
    """The command's arguments."""
    parser = console.Parser(
        prog="grow watch",
        description="Follow a run until it ends, with a line for each evaluation and each growth event. Nothing is "
        "written; Ctrl-C stops only the watching.",
        epilog="example: grow watch latest",
    )
    parser.add_run()
    return parser


def main(arguments: list[str]) -> int:
    """Print what is there, then what comes."""
    folder = existing(parser().parse(arguments).run)
    for line in follow(folder):
        console.line(line)
    return 0


def follow(folder: RunFolder, wait: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """The last evaluations and all events so far, what comes after them, and how the run ended."""
    yield str(folder.path)
    rows, events = 0, 0
    first = True
    while True:
        over = not locked(folder)  # asked first: what was written until then is read below
        found, grown = _rows(folder), growth_events(folder) if is_there(folder.growth) else []
        if len(found) < rows or len(grown) < events:  # resumed from an earlier checkpoint, which cut the files back
            rows, events = min(rows, len(found)), min(events, len(grown))
        new = found[rows:][-_EARLIER:] if first else found[rows:]
        told = [(_step(row.get("step")), 0, _evaluation(row)) for row in new]
        told += [(event.step, 1, _event(event)) for event in grown[events:]]
        yield from (line for _, _, line in sorted(told))
        rows, events, first = len(found), len(grown), False
        if over:
            summary = folder.read_summary()
            why = summary.get("error") or summary.get("ended_by")
            yield f"{state_of(folder, summary)}" + (f": {why}" if why else "")
            return
        wait(_SECONDS)


def _rows(folder: RunFolder) -> list[dict[str, str]]:
    """The complete rows of metrics.csv."""
    if not is_there(folder.metrics):
        return []
    whole, _ = whole_lines(folder.metrics, folder.path)
    return list(csv.DictReader(whole))


def _step(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _evaluation(row: dict[str, str]) -> str:
    shown = [name for name in row if name in ("epoch", "step") or name.startswith(("train_", "val_"))]
    shown += [name for name in ("parameters", "widths") if name in row]
    return "  ".join(f"{name} {_number(row[name])}" for name in shown if row[name])


def _number(text: str) -> str:
    try:
        return f"{float(text):.4g}" if "." in text else text
    except ValueError:
        return text


def _event(event: GrowthEvent) -> str:
    if event.taken_back:
        return f"took back at step {event.step:,}: {event.reason}"
    if not event.changed:
        return f"nothing added at step {event.step:,}: {event.reason}"
    return (
        f"grew at step {event.step:,}: {event.site or 'best updates'}, "
        f"{event.parameters_before:,} -> {event.parameters_after:,} parameters, widths {event.widths_after}"
    )
