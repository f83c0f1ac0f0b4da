"""`grow eval`: measure a run's net again."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from grow_cli import console
from grow_cli.commands.overrides import config_of, existing, only
from grow_cli.errors import UserError
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import counted, fixed
from grow_cli.schema import keys_with
from grow_cli.tasks import task_in


def parser() -> console.Parser:
    """The command's arguments."""
    parser = console.Parser(
        prog="grow eval",
        description="Rebuild the net of a run from its checkpoint, grown architecture included, and measure it on every split. "
        "Give dataset.path=DIR to measure it on other images, normalised as in training, or dataset.root=DIR for other "
        "texts.",
    )
    parser.add_run()
    parser.add_overrides(None)
    parser.add_best()
    parser.add_argument(
        "--on",
        type=Path,
        metavar="PATH",
        help="measure the net on other labelled samples: a table with the target, arrays x and y, or a folder of <class>/*",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _measurable() -> list[str]:
    """What may differ when a net is measured; another cut of the data would call training samples validation."""
    return [*keys_with("place", "data", "speed", "shown"), "precision", "dataset.measured"]


def main(arguments: list[str]) -> int:
    """Print a table, or JSON."""
    options = parser().parse(arguments)
    folder = existing(options.run)
    if options.on is not None:
        return _measure_on(folder, options)
    only(options.overrides, _measurable(), "a trained net is measured as it was trained")
    other = any(override.split("=")[0] in keys_with("data") for override in options.overrides)
    whole = ["subset=null"] * other  # of other images all are measured
    config = config_of(folder, [*options.overrides, *whole])
    from grow_cli import run

    result = run.evaluate(config, folder, options.which, other=other)
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
        table.add_row(told, *(fixed(result[f"{split}_{kind}"], 4) for split in splits))
    held_out = "" if config.dataset.validation else "; nothing was held out, val is train"
    table.caption = f"{counted(result['parameters'], 'parameter')}, widths {result['widths']}{held_out}"
    if "grid_max_error" in result:
        table.caption += f"; largest error on the dense grid: {result['grid_max_error']:.2e}"
    console.uncut(table)
    return 0


def _measure_on(folder: RunFolder, options: argparse.Namespace) -> int:
    """Measure the net on labelled samples anywhere; the run's own scores stay as they are."""
    if options.overrides:
        raise UserError(f"{options.overrides[0]}: --on prepares the samples as in training and takes no keys")
    from grow_cli.analysis.predicting import Predictor, measure

    predictor = Predictor(folder, options.which)
    found: dict[str, Any] = {"run": str(folder.path), "checkpoint": options.which, "on": str(options.on)}
    found |= measure(predictor, predictor.read(options.on, labelled=True))
    if options.json:
        print(json.dumps(found))
        return 0
    scores = {name: value for name, value in found.items() if isinstance(value, float)}
    told = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in scores.items())
    console.line(f"{options.on}: {counted(int(found['samples']), 'sample')}, {told}")
    if "classes" in found:
        _show_classes(found)
    return 0


_MATRIX = 15  # classes whose confusions fit a terminal


def _show_classes(found: dict[str, Any]) -> None:
    from rich.table import Table

    rows, matrix = found["classes"], found["confusion"]
    table = Table(title="each class", title_justify="left", box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    for name in ("precision", "recall", "F1", "samples"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["class"], *(f"{row[name]:.3f}" for name in ("precision", "recall", "f1")), str(row["samples"])
        )
    console.uncut(table)
    if len(rows) > _MATRIX:
        console.say(f"--json prints the confusion matrix of all {len(rows)} classes")
        return
    console.line(
        "confusion matrix: a row per class, a column per prediction"
    )  # a title would wrap at the table's width
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    for number, row in enumerate(rows):
        table.add_column(row["class"] if len(rows) <= 6 else str(number + 1), justify="right")
    for number, (row, counts) in enumerate(zip(rows, matrix, strict=True)):
        named = row["class"] if len(rows) <= 6 else f"{number + 1} {row['class']}"
        table.add_row(named, *(str(n) if n else "·" for n in counts))
    console.uncut(table)
