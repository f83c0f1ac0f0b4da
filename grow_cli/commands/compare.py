"""`grow compare`: which way of growing won, by how much, and how sure that is."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from grow_cli.console import Parser
from grow_cli.records.named import named
from grow_cli.records.words import are, counted

if TYPE_CHECKING:
    from grow_cli.analysis.comparison import Comparison

NOT_DECIDED = 3
"""Exit code of --until-decided where more seeds are needed."""


def parser() -> Parser:
    """The command's arguments."""
    parser = Parser(
        prog="grow compare",
        description="Tables to the terminal; compare.md, compare.csv, compare_tests.csv and pictures into a folder.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders of them")
    parser.add_argument("--against", metavar="WAY", help="test all ways against this one (default: all pairs)")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="what is compared (default: test)")
    parser.add_argument(
        "--to", type=float, metavar="SCORE", help="also show what it cost to reach this validation score, such as 0.97"
    )
    parser.add_argument(
        "--equal-within",
        type=float,
        metavar="DELTA",
        help="the largest difference that does not matter, in points of accuracy or in the score's own unit: adds "
        "equivalence tests, and how many seeds they need",
    )
    parser.add_argument(
        "--until-decided",
        action="store_true",
        help="read the seeds one at a time and say whether you may stop adding seeds; exit code 3 if not yet",
    )
    parser.add_argument(
        "--over-datasets",
        action="store_true",
        help="also aggregate over all datasets: interquartile mean, probability of improvement, performance profiles",
    )
    parser.add_output(None, "folder to write to (default: compare in the first RUN)")
    return parser


def main(arguments: list[str]) -> int:
    """Compare, and print what was written."""
    options = parser().parse(arguments)
    options.runs = [named(path, folders=True) for path in options.runs]
    from grow_cli.analysis import over_datasets
    from grow_cli.analysis.comparing import show, write
    from grow_cli.analysis.comparison import compare
    from grow_cli.analysis.runs import read_records

    comparisons = compare(
        read_records(options.runs),
        split=options.split,
        against=options.against,
        to=options.to,
        equal_within=options.equal_within,
        until_decided=options.until_decided,
    )
    command = " ".join(["grow compare", *(shlex.quote(word) for word in arguments)])
    folder = options.output or options.runs[0] / "compare"
    over = over_datasets.over_datasets(comparisons) if options.over_datasets else []
    written = write(comparisons, folder, command)
    show(comparisons)
    if over:
        written += over_datasets.write(over, folder, command)
        over_datasets.show(over)
    for path in written:
        print(path)
    if not options.until_decided:
        return 0
    print(_may_stop(comparisons))
    return 0 if all(comparison.decided for comparison in comparisons) else NOT_DECIDED


def _may_stop(comparisons: list[Comparison]) -> str:
    """The last line: whether another seed is needed, and which."""
    if all(comparison.decided for comparison in comparisons):
        decisions = [d for comparison in comparisons for d in comparison.decisions or []]
        return f"Decided after {counted(max(d.after or 0 for d in decisions), 'seed')}: no more are needed."
    open_ones = [c for c in comparisons if not c.decided]
    count = sum(not d.decided for c in open_ones for d in c.decisions or [])
    seed = 1 + max(record.seed for c in open_ones for way in c.ways for record in way.records)
    what = f"{counted(count, 'pair')} {are(count)} open" if count else "no two ways share two seeds"
    return f"Not decided: {what} on {', '.join(c.title for c in open_ones)}; train seed={seed} of every way, and compare again."
