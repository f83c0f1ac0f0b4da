"""`grow plot`: pictures of runs."""

from __future__ import annotations

from pathlib import Path

from grow_cli import console
from grow_cli.analysis.figures import SUFFIXES
from grow_cli.analysis.pictures import AGAINST, PICTURES, RUNS, draw
from grow_cli.commands.overrides import config_of, existing
from grow_cli.errors import UserError
from grow_cli.files import is_there


def parser() -> console.Parser:
    """The command's arguments."""
    parser = console.Parser(
        prog="grow plot",
        description="Draw runs against steps, epochs, seconds or FLOPs with growth events marked, or another picture of one run.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_output(
        "FILE", "file to write the picture to (default: growth.png, or the picture's name, in the first run)"
    )
    parser.add_argument(
        "--picture",
        default=RUNS,
        type=console.OneOf("--picture", PICTURES),
        metavar="NAME",
        help="what is drawn; " + "; ".join(f"{name}: {shows}" for name, shows in PICTURES.items()),
    )
    parser.add_argument(
        "--against",
        default=AGAINST[0],
        type=console.OneOf("--against", AGAINST),
        metavar="COST",
        help=f"the horizontal axis: {', '.join(AGAINST)} (default: %(default)s); seconds and flops include growing",
    )
    return parser


def main(arguments: list[str]) -> int:
    """Draw, and print where."""
    options = parser().parse(arguments)
    name, folders = options.picture, [existing(path) for path in options.runs]
    output = options.output or folders[0].path / ("growth.png" if name == RUNS else f"{name}.png")
    if output.suffix not in SUFFIXES:
        raise UserError(f"{output}: a picture's name must end in .png, .pdf or .svg")
    if name != RUNS:
        if len(folders) > 1:
            raise UserError(f"--picture {name} shows one run, and {len(folders)} are given: name one folder")
        if options.against != AGAINST[0]:
            raise UserError(f"--against works only with --picture {RUNS}: {name} has no cost axis")
        print(draw(name, folders[0], config_of(folders[0]), output))
        return 0
    from grow_cli.analysis.plot import plot_runs

    for folder in folders:
        if not is_there(folder.metrics):
            raise UserError(f"{folder.path} has no metrics.csv yet, so there is nothing to draw")
    print(plot_runs(folders, output, options.against))
    return 0
