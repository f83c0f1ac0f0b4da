"""`grow report`: a run, or a folder of runs, as one HTML page."""

from __future__ import annotations

from pathlib import Path

from grow_cli.console import Parser, page_name
from grow_cli.records.named import named

_DESCRIPTION = "Show everything about a run, or about the runs of a sweep, as one HTML page that works offline."


def parser() -> Parser:
    """The command's arguments."""
    parser = Parser(prog="grow report", description=_DESCRIPTION)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN|SWEEP", help="run folders, or folders of them")
    parser.add_output(
        "FILE.html",
        "file to write the page to (default: report.html in the folder; in this folder if several are named)",
    )
    return parser


def main(arguments: list[str]) -> int:
    """Write the page and print where it is."""
    options = parser().parse(arguments)
    options.runs = [named(path, folders=True) for path in options.runs]
    folder = options.runs[0] if len(options.runs) == 1 else Path()
    output = page_name(options.output or folder / "report.html")
    from grow_cli.analysis.report import write_report

    print(write_report(options.runs, output))
    return 0
