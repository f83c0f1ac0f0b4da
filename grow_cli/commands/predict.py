"""`grow predict`: predictions of a run's net for files."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grow_cli import console
from grow_cli.commands.overrides import existing
from grow_cli.errors import UserError
from grow_cli.files import write_text

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 50  # rows in a terminal


def parser() -> console.Parser:
    """The command's arguments."""
    parser = console.Parser(
        prog="grow predict",
        description="Predict the class (with its probability) or the value of each sample. Images, rows of a table and "
        "arrays are prepared as in training.",
        epilog="examples: grow predict RUN photo.jpg; grow predict RUN new.csv -o answers.csv; "
        "cat new.csv | grow predict RUN - --csv",
    )
    parser.add_run()
    parser.add_argument(
        "source",
        metavar="FILE|DIR|-",
        help="an image or a folder of them, a table, arrays; - is a CSV on standard input",
    )
    parser.add_argument("--top", type=int, default=1, metavar="K", help="show the K most likely classes (default: 1)")
    parser.add_argument("--csv", action="store_true", help="print CSV")
    parser.add_argument("--json", action="store_true", help="print JSON: a list with one object per sample")
    parser.add_output("FILE", "write to FILE.csv or FILE.json instead")
    parser.add_best()
    return parser


def main(arguments: list[str]) -> int:
    """Print a table, CSV or JSON."""
    options = parser().parse(arguments)
    if options.csv and options.json:
        raise UserError("--csv and --json: give one of them")
    if options.output is not None and options.output.suffix not in (".csv", ".json"):
        raise UserError(f"-o {options.output}: its name must end in .csv or .json")
    if options.output is not None and options.output.exists():
        raise UserError(f"-o {options.output} exists already and is not overwritten: choose another name")
    folder = existing(options.run)
    from grow_cli.analysis.predicting import Predictor, predicted

    predictor = Predictor(folder, options.which)
    samples = predictor.read(sys.stdin if options.source == "-" else Path(options.source))
    columns = predicted(predictor, samples, options.top)
    if options.output is None and not options.csv and not options.json:
        _show(columns)
        return 0
    import pandas as pd  # takes half a second, for which a terminal need not wait

    found = pd.DataFrame(columns)
    if options.output is not None:
        text = _json(found) if options.output.suffix == ".json" else found.to_csv(index=False)
        try:
            write_text(options.output, text)
        except OSError as error:
            raise UserError(f"{options.output} cannot be written ({error.strerror}): choose another place") from error
        console.line(f"{options.output}: {len(found)} predictions")
    else:
        print(_json(found) if options.json else found.to_csv(index=False), end="")
    return 0


def _json(found: pd.DataFrame) -> str:
    return str(found.to_json(orient="records", indent=1, double_precision=10)) + "\n"


def _show(columns: dict[str, list[Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, show_edge=False, pad_edge=False)
    for name in columns:
        numeric = name.startswith(("probability", "value"))
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in islice(zip(*columns.values(), strict=True), _SHOWN):
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    console.uncut(table)
    samples = len(columns["sample"])
    if samples > _SHOWN:
        console.say(f"... and {samples - _SHOWN:,} more: --csv prints, -o FILE writes all")
