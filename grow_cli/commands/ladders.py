"""The ladders of static sizes that `grow controls --only static-best` trains: their options, their processes."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from grow_cli import console
from grow_cli.analysis.numbers import short_number
from grow_cli.commands import children
from grow_cli.commands.overrides import with_overrides
from grow_cli.controls import NotPossible, control_folder
from grow_cli.errors import TrainingFailed, UserError
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import counted

if TYPE_CHECKING:
    from grow_cli.sizes.best import Jobs


def add_options(parser: console.Parser) -> None:
    """Those of a ladder."""
    parser.add_argument(
        "--ladder",
        type=int,
        default=8,
        metavar="N",
        help="static-best: number of sizes to try (default: %(default)s)",
    )
    parser.add_argument(
        "--halving",
        action="store_true",
        help="static-best: successive halving, which keeps only the better half after 1/8, 1/4 and 1/2 of the budget",
    )


def check(options: argparse.Namespace) -> None:
    """UserError for a ladder that cannot be."""
    if not 2 <= options.ladder <= 32:
        raise UserError(f"--ladder {options.ladder}: must be from 2 to 32 sizes")
    if not 0 < options.until <= 1:
        raise UserError(f"--until {options.until}: must be a fraction of the budget, above 0 and at most 1")


def settings_of(overrides: list[str]) -> dict[str, str]:
    """Overrides as keys and what they are set to."""
    return {o.partition("=")[0]: o.partition("=")[2] for o in overrides}


def train_one(runs: list[RunFolder], name: str, until: float, overrides: list[str]) -> int:
    """One rung of each run's ladder, in a process of its own."""
    from grow_cli.sizes.rungs import train_rung, tried_folder

    for folder in runs:
        with_overrides(folder, overrides)  # refuses what cannot be read
        console.line(f"{tried_folder(folder, name).path} {train_rung(folder, name, until, settings_of(overrides))}")
    return 0


def train_best(runs: list[RunFolder], overrides: list[str], options: argparse.Namespace) -> None:
    """The control `static-best` of every run: one ladder for all that differ by their seeds."""
    from grow_cli.sizes.best import adopt, search_ladder
    from grow_cli.sizes.rungs import EXACT, KIND

    for group in groups(runs):
        for folder in group:
            with_overrides(folder, overrides)
        if all(control_folder(folder, KIND).read_summary() for folder in group):
            for folder in group:
                console.line(f"{control_folder(folder, KIND).path} exists already")
            continue
        try:
            searched = search_ladder(group, options.ladder, trainer(overrides, options.jobs), halving=options.halving)
            done = [adopt(searched, folder, settings_of(overrides)) for folder in group]
        except NotPossible as reason:
            console.line(f"{group[0].path}: no {KIND}: {reason}")
            continue
        for folder, words in zip(group, done, strict=True):
            console.line(f"{control_folder(folder, KIND).path} {words}")
        if len(searched.rungs) < options.ladder:
            console.line(
                f"the ladder has {counted(len(searched.rungs), 'size')} of the {options.ladder} asked for: the other sizes "
                f"are duplicates, or one step of them costs more than {EXACT:.0%} of the run's FLOPs"
            )
        console.line(
            f"the ladder cost {short_number(searched.cost()['flops'])} FLOPs; it is in "
            f"{control_folder(group[0], KIND).path}/ladder.json"
        )


def groups(runs: list[RunFolder]) -> list[list[RunFolder]]:
    """The runs that differ by their seeds only, in the order in which they are given."""
    from grow_cli.analysis.runs import read_records
    from grow_cli.analysis.ways import ways_of

    by_dataset = defaultdict(list)
    for record in read_records([folder.path for folder in runs]):
        if record.control is None:
            by_dataset[record.dataset].append(record)
    return [[r.folder for r in way.records] for records in by_dataset.values() for way in ways_of(records)]


def trainer(overrides: list[str], jobs: int) -> Jobs:
    """The function that trains rungs: one after another here, or several at a time in child processes."""

    def train(wanted: list[tuple[RunFolder, str]], fraction: float) -> None:
        from grow_cli.sizes.rungs import KIND, judged, train_rung, tried_folder

        left = [(f, name) for f, name in wanted if judged(f, tried_folder(f, name), fraction) is None]
        with progress(len(left), "sizes") as advance:
            if jobs == 1:
                for folder, name in left:
                    train_rung(folder, name, fraction, settings_of(overrides))
                    advance()
                return
            failed: list[str] = []

            def done(ended: children.Ended) -> None:
                advance()
                if ended.code:
                    failed.append(ended.err.strip())

            words = ["--only", KIND, "--until", str(fraction)]
            children.run(
                [["controls", str(folder.path), *words, "--rung", name, *overrides] for folder, name in left],
                jobs,
                done,
            )
        if failed:
            raise TrainingFailed(f"{len(failed)} of {counted(len(left), 'size')} could not be trained: {failed[0]}")

    return train


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[], None]]:
    """`with progress(8, "sizes") as advance:`: a bar on a terminal, which vanishes."""
    columns = (what, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console.out, transient=True, disable=not console.out.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
