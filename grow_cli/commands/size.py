"""`grow size`: how large a net should be, by growing it, compared with a ladder of static sizes."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from grow_cli import console
from grow_cli.commands import ladders
from grow_cli.errors import UserError
from grow_cli.files import is_there, make_folder, write_text
from grow_cli.records.folder import RunFolder
from grow_cli.records.grammar import key_of
from grow_cli.records.words import counted

if TYPE_CHECKING:
    from grow_cli.sizes.answer import Answer

AGAINST = {
    "none": "the grown runs alone",
    "halving": "static sizes by successive halving",
    "sweep": "the whole ladder of static sizes, and what halving would have cost",
}


LIMITS = {"max_parameters": "growth.max_parameters", "max_flops_per_sample": "growth.max_flops_per_sample"}
"""Option → the key that stops growth there."""


def _typed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def parser() -> console.Parser:
    """The command's arguments."""
    parser = console.Parser(
        prog="grow size",
        description="Find out how large a net should be: grow it with several seeds, and compare the resulting size "
        "with a ladder of static sizes, each trained for the run's FLOPs. Only validation scores are used. The same "
        "command continues after an interruption.",
        epilog="against " + "; ".join(f"{name}: {what}" for name, what in AGAINST.items()),
    )
    parser.add_overrides("as for grow train: dataset=... model=... method=...")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N-1 (default: %(default)s)")
    parser.add_argument(
        "--against", default="none", type=console.OneOf("--against", AGAINST), help="default: %(default)s"
    )
    parser.add_argument("--ladder", type=int, default=8, metavar="N", help="sizes of the ladder (default: %(default)s)")
    parser.add_argument("--max-parameters", type=int, metavar="N", help="largest size allowed")
    parser.add_argument(
        "--max-flops-per-sample",
        type=int,
        metavar="N",
        help="largest size allowed, in FLOPs of a forward pass of one sample",
    )
    parser.add_argument(
        "--within",
        type=float,
        metavar="DELTA",
        help="largest difference that does not matter (default: 0.2 points of accuracy, 0.01 of R², 0.02 of other scores)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder for all results (default: below outputs/size)"
    )
    parser.add_jobs("how many to train at the same time (default: 1)", type=int, default=1)
    return parser


def main(arguments: list[str]) -> int:
    """Train what is not trained yet, and say the size."""
    options = parser().parse(arguments)
    from grow_cli.commands.jobs import slug
    from grow_cli.commands.mistyped import refuse_mistyped
    from grow_cli.commands.train import main as train

    refuse_mistyped(options.overrides)
    check(options)
    overrides = sorted(options.overrides)
    overrides += [
        f"{key}={getattr(options, name)}" for name, key in LIMITS.items() if getattr(options, name) is not None
    ]
    out = options.out or Path("outputs", "size", slug(overrides))
    begin(out, {"overrides": overrides, "ladder": options.ladder})
    seeds = list(range(options.seeds))
    side_by_side = ["sweep=local", f"sweep.jobs={options.jobs}"] if options.jobs > 1 else []
    words = [*overrides, *side_by_side, f"seed={','.join(map(str, seeds))}", f"run_dir='{out / 'grown'}'"]
    train(["-m", *words])
    found = _answered(grown(out / "grown", seeds), options)
    write_text(out / "size.json", json.dumps(found.to_json(), indent=1) + "\n")
    from grow_cli.sizes.picture import draw

    say(found, options)
    console.line(f"{out / 'size.json'}, {draw(found, out / 'size.png')}")
    return 0


def check(options: argparse.Namespace) -> None:
    """UserError for what cannot be asked, before anything is trained."""
    from grow_cli.commands.overrides import several

    options.until = 1.0
    ladders.check(options)
    for name in ("seeds", "jobs", *LIMITS):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"{_typed(name)} {value}: must be 1 or more")
    if options.within is not None and not (options.within > 0 and math.isfinite(options.within)):
        raise UserError(f"--within {options.within:g}: must be a number above 0")
    own = {"seed": "--seeds", "run_dir": "--out"} | {key: _typed(name) for name, key in LIMITS.items()}
    for word in options.overrides:
        if several(word, "grow size", own):
            raise UserError(f"{word}: grow size answers for one way at a time: give {key_of(word)} one value")


def begin(out: Path, asked: dict[str, object], option: str = "--out") -> None:
    """Record the question in the folder, which `option` names; UserError if the folder holds another question."""
    path = out / "asked.json"
    if is_there(path):
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} cannot be read: choose another folder with {option} FOLDER") from error
        if there != asked:
            raise UserError(
                f"{out} holds the results of another question (asked.json): choose another folder with {option} FOLDER"
            )
        return
    for folder in (*reversed(out.parents), out):
        if not is_there(folder):
            make_folder(folder)
    write_text(path, json.dumps(asked, indent=1) + "\n")


def grown(folder: Path, seeds: list[int]) -> list[RunFolder]:
    """The finished runs of these seeds, in their order; UserError where none of them grew."""
    from grow_cli.analysis.runs import find_runs
    from grow_cli.sizes.rungs import has_grown

    there = {
        run.read_summary().get("seed"): run for run in find_runs([folder]) if not run.read_summary().get("control")
    }
    runs = [there[seed] for seed in seeds if seed in there and there[seed].read_summary().get("status") == "finished"]
    if len(runs) < len(seeds):
        raise UserError(
            f"{len(seeds) - len(runs)} of the runs in {folder} are not finished: run the same command again to continue"
        )
    if not any(has_grown(run) for run in runs):
        raise UserError("nothing grew, so no size was found: choose a method and a trigger that grow during training")
    return runs


def _answered(runs: list[RunFolder], options: argparse.Namespace) -> Answer:
    from grow_cli.controls import NotPossible
    from grow_cli.sizes.answer import answer
    from grow_cli.sizes.best import search_ladder

    if options.against == "none":
        return answer(runs, options.within, None, None)
    trainer = ladders.trainer([], options.jobs)
    most = {key.removeprefix("growth.max_"): getattr(options, name) for name, key in LIMITS.items()}
    try:
        # halving first: the whole ladder continues from what it trained
        searched = search_ladder(runs, options.ladder, trainer, halving=True, most=most)
        halving = searched.halving_flops()
        if options.against == "sweep":
            searched = search_ladder(runs, options.ladder, trainer, halving=False, most=most)
    except NotPossible as reason:
        raise UserError(
            f"these runs cannot be compared with a ladder ({reason}): leave out --against, or change the runs"
        ) from reason
    return answer(runs, options.within, searched, halving)


def say(found: Answer, options: argparse.Namespace) -> None:
    """The size in words; then the table, and the verdict."""
    console.line(f"size: {found.size.words}")
    for name, each in (
        ("max_parameters", found.size.each),
        ("max_flops_per_sample", found.to_json()["flops_per_sample"]),
    ):
        most = getattr(options, name)
        over = sum(most is not None and n > most for n in each)
        if over:
            console.line(
                f"{over} of the nets ended above {_typed(name)} {most:,}: the last growth was larger than the room left"
            )
    if found.searched is None or found.held is None:
        return
    task, scale = found.task, 100 if found.task.percent else 1
    table = Table(box=None, header_style="bold")
    for column in ("", "parameters", f"validation {task.words}" + (", %" if task.percent else ""), "FLOPs, all seeds"):
        table.add_column(column, justify="left" if not column else "right")
    told = found.to_json()
    ladder, scores = told["ladder"], told["scores"]
    table.add_row(
        "grown", f"{found.size.middle:,.0f}", f"{scale * sum(scores) / len(scores):.4g}", f"{found.flops:.3g}"
    )
    for rung in ladder["rungs"]:
        own = [scale * s for s in rung["scores"] if s is not None]
        part = "" if rung["fraction"] == 1 else f", after {rung['fraction']:g} of the budget"
        name = "static, best" if rung["name"] == ladder["chosen"] else f"static{part}"
        score = f"{sum(own) / len(own):.4g}" if own else "failed"
        table.add_row(name, f"{rung['parameters']:,}", score, f"{sum(rung['training_flops']):.3g}")
    console.uncut(table)
    held, unit = found.held, " points" if task.percent else ""
    certain = "one seed: no interval"
    if len(scores) > 1:
        certain = f"95 % interval {held.low:+.3g} to {held.high:+.3g}; TOST within {found.within:g}{unit}: p = {held.equal:.3g}"
    console.line(
        f"against the best of {counted(len(ladder['rungs']), 'size')} ({found.searched.chosen.parameters:,} parameters): "
        f"{held.difference:+.3g}{unit} ({certain}): {held.verdict.split(':')[0]}"
    )
    if found.searched.found.best == len(ladder["rungs"]) - 1:
        console.line("the largest size of the ladder won, so the best may be larger still")
    cost = f"{found.flops / told['ladder_flops']:.3g} of what was trained of the ladder"
    console.line(f"cost of growing: {cost}, {told['cost_of_halving']:.3g} of successive halving (FLOPs)")
