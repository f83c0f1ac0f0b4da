"""`grow list`: all options, from the first comment of each YAML file; keys are in `explaining.py`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from grow_cli import console
from grow_cli.commands.choices import GROUPS, describe


def parser() -> console.Parser:
    """The command's arguments."""
    parser = console.Parser(
        prog="grow list",
        description="List all options; or those of a group; or the keys of an option, of a section or of every run, "
        "with values, meanings and ranges; or explain one key.",
        epilog="examples: grow list trigger; grow list method=tiny; grow list stop; grow list optimizer.lr; grow list keys",
    )
    parser.add_argument("asked", nargs="*", metavar="GROUP|GROUP=OPTION|KEY|keys", help="none for every group")
    return parser


def main(arguments: list[str]) -> int:
    """Print every group, or what was asked for."""
    asked = parser().parse(arguments).asked
    named = [name for name in asked if name not in GROUPS or name in SECTIONS]
    if any(name not in named or name in GROUPS for name in asked) or not asked:
        _groups([name for name in asked if name in GROUPS] or GROUPS)
    for number, name in enumerate(named):
        from grow_cli.commands.explaining import explain  # here: Hydra takes a second to load

        if number or name in GROUPS:
            console.out.print()
        explain(name)
    if not asked:
        console.out.print(_MORE, markup=False)
    return 0


SECTIONS = ("sweep",)
"""Groups that are named like a section of the configuration, whose keys are shown, too."""

_MORE = "`grow list method=tiny`, `grow list stop`, `grow list optimizer.lr`, `grow list keys` explain keys."


def _groups(names: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for group in names:
        options = describe(group)
        if not options:
            continue
        table.add_row(f"[cyan]{group}=[/cyan]")
        for name, line in options.items():
            table.add_row(f"  {name}", line)
        table.add_row()
    console.uncut(table)
