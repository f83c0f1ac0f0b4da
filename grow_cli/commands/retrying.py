"""`grow retry`: the jobs of a sweep that did not finish, once more."""

from __future__ import annotations

import shlex
from pathlib import Path

from grow_cli import console
from grow_cli.commands import local
from grow_cli.commands.overrides import config_of
from grow_cli.commands.sweep import Job, Outcome, describe, refuse_unfinished
from grow_cli.config import Sweep
from grow_cli.errors import Interrupted, UserError
from grow_cli.records.folder import RunFolder
from grow_cli.records.named import named


def parser() -> console.Parser:
    """Of its arguments."""
    parser = console.Parser(
        prog="grow retry",
        description="Go on with all jobs of a sweep that are not finished: interrupted, crashed and failed ones, each from its "
        "last checkpoint, and those that were never begun.",
        epilog="example: grow retry outputs/sweeps/mine -j 4",
    )
    parser.add_argument("sweep", type=Path, metavar="SWEEP", help="the folder of a sweep")
    parser.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="train so many at a time (default: 1)")
    return parser


def main(arguments: list[str]) -> int:
    """Train them."""
    options = parser().parse(arguments)
    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: must be 1 or more")
    jobs = unfinished(named(options.sweep, folders=True))
    if not jobs:
        console.out.print("all jobs are finished", markup=False)
        return 0
    outcomes: list[Outcome] = []
    try:
        local.train(
            jobs,
            lambda job, became, why: outcomes.append(Outcome(job.folder.path.name, became, why)),
            Sweep(jobs=options.jobs),
        )
    except (Interrupted, KeyboardInterrupt):
        again = f"grow retry {' '.join(map(shlex.quote, arguments))}"
        console.err.print(f"interrupted: go on with `{again}`", markup=False, highlight=False, soft_wrap=True)
        raise
    console.out.print(describe(outcomes), markup=False, highlight=False)
    refuse_unfinished(outcomes)
    return 0


def unfinished(sweep: Path) -> list[Job]:
    """The jobs of a sweep, in their order, that have not come to their end; UserError where it is no sweep."""
    folders = [RunFolder(path) for path in sweep.iterdir() if path.is_dir()] if sweep.is_dir() else []
    claimed = sorted((f for f in folders if f.claimed), key=lambda f: (_number(f.path), f.path.name))
    if not claimed:
        raise UserError(f"{sweep} holds no jobs of a sweep: name the folder that `grow train -m` printed")
    left = [folder for folder in claimed if folder.read_summary().get("status") != "finished"]
    return [Job(_number(f.path), f, config_of(f), f.begun) for f in left]


def _number(path: Path) -> int:
    first = path.name.partition("-")[0]
    return int(first) if first.isdigit() else -1
