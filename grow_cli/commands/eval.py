"""`grow eval`: measure a run's net again."""

from __future__ import annotations

import json

from grow_cli import console
from grow_cli.commands.overrides import config_of, existing, only
from grow_cli.records.words import counted
from grow_cli.schema import keys_with
from grow_cli.tasks import task_in


def parser() -> console.Parser:
    """Of its arguments."""
    parser = console.Parser(
        prog="grow eval",
        description="Rebuild the net of a run from its checkpoint, grown architecture included, and measure it on every split. "
        "On other images (dataset.path=DIR), normalised as those that the net was trained with, or texts (dataset.root=DIR).",
    )
    parser.add_run()
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_best()
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _measurable() -> list[str]:
    """What may differ when a net is measured; another cut of the data would call training samples validation."""
    return [*keys_with("place", "data", "speed", "shown"), "precision", "dataset.measured"]


def main(arguments: list[str]) -> int:
    """Print a table, or JSON."""
    options = parser().parse(arguments)
    folder = existing(options.run)
    only(options.overrides, _measurable(), "a trained net is measured as it was trained")
    other = any(override.split("=")[0] in keys_with("data") for override in options.overrides)
    whole = ["subset=null"] * other  # of other images all are measured
    config = config_of(folder, [*options.overrides, *whole])
    from grow_cli import run

    result = run.evaluate(config, folder, "best" if options.best else "last", other=other)
    if options.json:
        print(json.dumps(result))
        return 0
    from rich.table import Table

    table = Table(title=f"{folder.path} · {result['checkpoint']}.pt · step {result['step']:,}", title_justify="left")
    task = task_in(result, "test")
    kinds = (task.score, "loss", *task.beside)
    splits = [
        split for split in ("train", "val", "test") if f"{split}_loss" in result
    ]  # other images: maybe a test part alone
    for name in ("", *splits):
        table.add_column(name, justify="right")
    for kind in kinds:
        told = task.words.replace(task.label, kind) if kind == task.score else kind
        table.add_row(told, *(f"{result[f'{split}_{kind}']:.4f}" for split in splits))
    held_out = "" if config.dataset.validation else "; nothing was held out, val is train"
    table.caption = f"{counted(result['parameters'], 'parameter')}, widths {result['widths']}{held_out}"
    console.out.print(table)
    return 0
