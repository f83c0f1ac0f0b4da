"""`grow tune`: the same search for every method, by validation, and the winner as an experiment that runs."""

from __future__ import annotations

import argparse
import json
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from grow_cli import console
from grow_cli.analysis.numbers import short_number
from grow_cli.commands import children
from grow_cli.errors import TrainingFailed, UserError
from grow_cli.files import write_text
from grow_cli.records.flat import plain
from grow_cli.records.words import are, counted
from grow_cli.tuning.study import PRUNERS

if TYPE_CHECKING:
    from grow_cli.tuning.study import Study
    from grow_cli.tuning.trials import Tuned

DEFAULT = "default"
_OWN = {"seed": "--seeds", "run_dir": "--folder"}


def parser() -> console.Parser:
    """The command's arguments."""
    parser = console.Parser(
        prog="grow tune",
        description="Search for the values of some keys that train best, by the mean best validation score over some seeds; with "
        "method=A,B once for each method, with as many trials. Typed again, it goes on, and several processes may work in "
        "one folder.",
        epilog="A space is a YAML file with a line for each key: `optimizer.lr: {low: 1e-4, high: 3e-2, log: true}`, or "
        "`batch_size: [32, 128]`. By default the optimizer's rate and weight decay are searched.",
    )
    parser.add_overrides("as for grow train: dataset=... model=... method=A,B")
    parser.add_argument("--space", default=DEFAULT, metavar="FILE", help="what is searched (default: %(default)s)")
    for name, count, says in (("trials", 16, "for each method"), ("seeds", 2, "runs of a trial")):
        option = f"--{name}"
        parser.add_argument(
            option, default=count, type=console.positive(option), metavar="N", help=f"{says} (default: {count})"
        )
    parser.add_argument(
        "--pruner",
        default="none",
        choices=tuple(PRUNERS),
        help="stop a trial whose validation scores fall too far behind the others', by Optuna's pruner of this name "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--folder", type=Path, metavar="FOLDER", help="the folder of the search (default: below outputs/tune)"
    )
    parser.add_jobs("trials at a time (default: 1)", type=console.positive("--jobs"), default=1)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # a child of -j: one trial, and no more
    return parser


def main(arguments: list[str]) -> int:
    """Search, and write what won."""
    options = parser().parse(arguments)
    from grow_cli.tuning.study import Study, require

    methods, rest = split(options.overrides)
    require()
    from grow_cli.commands import size, trying
    from grow_cli.commands.jobs import identifying, slug

    methods = methods or [trying.method_of(rest)]
    searches = {method: trying.read(options.space, [f"method={method}", *rest], DEFAULT) for method in methods}
    folder: Path = options.folder or Path("outputs", "tune", slug(rest))
    own_space = None if options.space == DEFAULT else Path(options.space).read_text(encoding="utf-8")
    asked = {"overrides": identifying(rest), "space": own_space, "seeds": options.seeds}
    if options.pruner != "none":  # a folder of an older grow knows none
        asked["pruner"] = options.pruner
    size.begin(folder, asked, "--folder")
    studies = {
        method: Study(folder, method, one.space, one.recipe, pruner=options.pruner) for method, one in searches.items()
    }
    try:
        failed = _side_by_side(studies, rest, folder, options) if options.jobs > 1 else []
        if options.jobs == 1:
            for method, study in studies.items():
                _search(study, [f"method={method}", *rest], options)
        if options.one:
            return 0
        found = [_tuned(study, [f"method={method}", *rest], options) for method, study in studies.items()]
    finally:
        for study in studies.values():
            study.close()
    if failed:
        raise TrainingFailed(
            f"{counted(len(failed), 'trial')} did not end, and the same line typed again goes on: {failed[0]}"
        )
    _conclude(found, folder, rest, options)
    return 0


def split(overrides: list[str]) -> tuple[list[str], list[str]]:
    """The methods, and the other overrides; UserError for what cannot be asked."""
    from grow_cli.commands.mistyped import refuse_mistyped
    from grow_cli.commands.overrides import several

    refuse_mistyped(overrides)
    methods: list[str] = []
    rest = []
    for word in overrides:
        key, _, value = word.partition("=")
        many = several(word, "grow tune", _OWN)
        if key == "method":
            methods += [name.strip() for name in value.split(",")]
        elif many:
            raise UserError(
                f"{word}: only method may have several values: give {key} one, or name it in a --space FILE"
            )
        else:
            rest.append(word)
    if len(set(methods)) < len(methods):
        raise UserError(f"method={','.join(methods)} names a method twice: name each once")
    return methods, rest


def _search(study: Study, words: list[str], options: argparse.Namespace) -> None:
    from grow_cli.commands import trying
    from grow_cli.tuning.space import overrides_of
    from grow_cli.tuning.study import Result, Trial, search
    from grow_cli.tuning.trials import seeds

    def ended(trial: Trial, note: str) -> None:
        told = _tuned(study, words, options)
        came = f"{told.score_name} {told.shown(trial.score)}" if trial.score is not None else trial.state
        after = f" ({note})" if note else ""
        console.line(f"{study.name}, trial {trial.number}: {' '.join(overrides_of(trial.values))}: {came}{after}")

    own = seeds(options.seeds)

    def train(trial: Trial) -> Result:
        return trying.train(trial, words, own, partial(study.hopeless, trial) if options.pruner != "none" else None)

    search(study, train, options.trials, ended, 1 if options.one else None)


def _tuned(study: Study, words: list[str], options: argparse.Namespace) -> Tuned:
    from grow_cli.tuning.trials import Tuned, seeds

    return Tuned(study.name, study.space, words, seeds(options.seeds), study.trials(), options.pruner)


def _side_by_side(studies: dict[str, Study], rest: list[str], folder: Path, options: argparse.Namespace) -> list[str]:
    """Train the remaining trials in processes of their own, -j at a time; return a sentence for each that did not finish."""
    shared = [f"--{name}={getattr(options, name)}" for name in ("space", "trials", "seeds", "pruner")]
    left = {m: options.trials - sum(t.state != "open" for t in study.trials()) for m, study in studies.items()}
    commands = [
        ["tune", f"method={method}", *rest, *shared, f"--folder={folder}", "--one"]
        for method, count in left.items()
        for _ in range(count)
    ]
    failed: list[str] = []

    def done(ended: children.Ended) -> None:
        if ended.out.strip():
            console.line(ended.out.strip())
        if ended.code:
            failed.append(ended.err.strip()[-300:].removeprefix("error: ") or f"its process ended with {ended.code}")

    children.run(commands, options.jobs, done)
    return failed


def _conclude(found: list[Tuned], folder: Path, rest: list[str], options: argparse.Namespace) -> None:
    """Tables, winners, tune.json."""
    from grow_cli.commands.trying import write_experiment

    told, lines = {}, []
    for one in found:
        console.out.print()
        given_up = sum(trial.state == "pruned" for trial in one.trials)
        of_them = f", {given_up} of them pruned" if given_up else ""
        console.line(f"{one.name}: {counted(len(one.trials), 'trial')} of {counted(len(one.seeds), 'run')}{of_them}")
        console.table(one.headers(), one.rows(), right=one.headers()[:-1])
        open_ones = sum(trial.state == "open" for trial in one.trials)
        if open_ones:
            console.line(
                f"{counted(open_ones, 'trial')} {are(open_ones)} at another process: type the same again for the winner"
            )
        name = None
        if one.best is not None and not open_ones:
            comment = f"{one.name}: the best of {counted(len(one.trials), 'trial')} by validation {one.task.words} (grow tune)"
            name = write_experiment(one, folder, comment)
            lines.append(f"grow train {shlex.join(one.words)}")
            if name is not None:
                lines.append(f"grow train --config-dir {shlex.quote(str(folder))} experiment={name}")
            else:
                console.warn(f"{one.name}: no experiment file comes to the same run: use the line with the values")
        elif not open_ones:
            console.warn(
                f"{one.name}: no trial came to its end, and there is no winner: search other values with --space FILE"
            )
        told[one.name] = one.to_json(name)
    total = sum(one.flops() for one in found)
    content = {"overrides": rest, "trials": options.trials, "seeds": found[0].seeds, "pruner": options.pruner}
    content |= {"flops": total, "methods": told}
    write_text(folder / "tune.json", json.dumps(plain(content), indent=1) + "\n")
    console.out.print()
    for line in lines:
        console.line(line)
    console.line(f"{folder / 'tune.json'}: {short_number(total)} FLOPs in all")
