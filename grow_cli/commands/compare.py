"""`grow compare`: which way of growing won, by how much, and how sure that is."""

from __future__ import annotations

import shlex
from pathlib import Path

from grow_cli.console import Parser


def parser() -> Parser:
    """Of its arguments."""
    parser = Parser(
        prog="grow compare",
        description="Tables to the terminal; compare.md, compare.csv, compare_tests.csv and pictures into a folder.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders of them")
    parser.add_argument("--against", metavar="WAY", help="test all ways against this one (default: all pairs)")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="what is compared (default: test)")
    parser.add_argument(
        "--to", type=float, metavar="SCORE", help="also what it cost to reach this validation score, such as 0.97"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="the folder that is written (default: compare in the first RUN)"
    )
    return parser


def main(arguments: list[str]) -> int:
    """Compare, and print what was written."""
    options = parser().parse(arguments)
    from grow_cli.analysis.comparing import show, write
    from grow_cli.analysis.comparison import compare
    from grow_cli.analysis.runs import read_records

    comparisons = compare(read_records(options.runs), split=options.split, against=options.against, to=options.to)
    command = " ".join(["grow compare", *(shlex.quote(word) for word in arguments)])
    written = write(comparisons, options.output or options.runs[0] / "compare", command)
    show(comparisons)
    for path in written:
        print(path)
    return 0
