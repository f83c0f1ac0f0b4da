"""`grow diff`: the keys and results in which runs differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grow_cli import console
from grow_cli.analysis.notable import differing_keys
from grow_cli.commands.overrides import existing
from grow_cli.errors import UserError
from grow_cli.tasks import TASKS


def parser() -> console.Parser:
    """The command's arguments."""
    parser = console.Parser(
        prog="grow diff",
        description="Show the keys, and then the results, that are not the same in all of these runs.",
        epilog="example: grow diff latest tiny/2026-11-26_20-45",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, two or more")
    return parser


_RESULTS = (
    *("status", "ended_by", "widths", "parameters", "events", "undone", "best_step", "steps", "epochs", "samples"),
    *("training_flops", "growth_flops", "seconds", "growth_seconds", "compile_seconds", "device", "commit", "error"),
)


def main(arguments: list[str]) -> int:
    """Print both tables."""
    paths = parser().parse(arguments).runs
    if len(paths) < 2:
        raise UserError(f"grow diff needs two runs: grow diff {paths[0]} RUN")
    folders = [existing(path) for path in paths]
    letters = [_letter(number) for number in range(len(folders))]
    for letter, folder in zip(letters, folders, strict=True):
        console.line(f"{letter}: {folder.path}")
    keys = differing_keys([folder.config() for folder in folders])
    results = _results([folder.read_summary() for folder in folders])
    for title, rows in (("key", keys), ("result", results)):
        console.out.print()
        if not rows:
            console.say(f"no {title} differs")
            continue
        console.columns((title, *letters), [(name, *values) for name, values in rows])
    return 0


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"R{number + 1}"


def _results(summaries: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    scores = [
        f"{split}_{kind}"
        for split in ("train", "val", "test")
        for kind in dict.fromkeys(k for task in TASKS.values() for k in (task.score, "loss"))
    ]
    told = [(name, [_value(summary.get(name)) for summary in summaries]) for name in (*scores, *_RESULTS)]
    return [(name, values) for name, values in told if len(set(values)) > 1]


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
