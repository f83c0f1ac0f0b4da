"""`grow runs`: a table of run folders."""

from __future__ import annotations

import time
from pathlib import Path

from grow_cli import console
from grow_cli.analysis.listed import SORTS, Listed, chosen, listed, ordered
from grow_cli.records.named import OUTPUTS
from grow_cli.records.words import counted


def parser() -> console.Parser:
    """The command's arguments."""
    parser = console.Parser(
        prog="grow runs",
        description="Show a table of the runs below a folder, newest last, without their controls. Scores are on the "
        "validation split.",
        epilog="example: grow runs --sort val --filter method=tiny --last 20",
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=OUTPUTS, metavar="FOLDER", help=f"folder to search (default: {OUTPUTS})"
    )
    parser.add_argument(
        "--sort", type=console.OneOf("--sort", SORTS), default="when", metavar="BY", help=f"one of {', '.join(SORTS)}"
    )
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="show only runs with this value of a key, a summary field or the state; may be repeated",
    )
    parser.add_argument("--last", type=console.positive("--last"), metavar="N", help="show only the N newest runs")
    return parser


def main(arguments: list[str]) -> int:
    """Print it."""
    options = parser().parse(arguments)
    every = listed(options.folder)
    runs = chosen(every, options.filter)
    if options.last:
        runs = runs[-options.last :]
    if runs:
        console.table(_HEADERS, [_cells(run) for run in ordered(runs, options.sort)], right=_NUMBERS)
    shown = "" if len(runs) == len(every) else f" of {len(every):,}"
    if console.out.is_terminal or len(runs) != len(every):
        console.err.print(f"{counted(len(runs), 'run')}{shown} below {options.folder}", markup=False)
    return 0


_HEADERS = ("when", "state", "method", "dataset", "seed", "val", "parameters", "growths", "name")
_NUMBERS = ("seed", "val", "parameters", "growths")


def _cells(run: Listed) -> tuple[str, ...]:
    val, parameters, growths = run.val, run.parameters, run.growths
    return (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(run.when)),
        run.state,
        str(run.value("method") or "-"),
        str(run.value("dataset") or "-"),
        str("-" if run.value("seed") is None else run.value("seed")),
        "-" if val is None else f"{val:.4f}",
        "-" if parameters is None else f"{parameters:,}",
        "-" if growths is None else str(growths),
        run.name,
    )
