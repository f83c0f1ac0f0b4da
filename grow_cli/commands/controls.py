"""`grow controls`: the controls of a grown run, trained with the same recipe at equal cost."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path

from grow_cli import console
from grow_cli.commands import children, ladders
from grow_cli.commands.overrides import only, with_overrides
from grow_cli.errors import Interrupted, TrainingFailed, UserError
from grow_cli.records.folder import RunFolder
from grow_cli.records.named import named
from grow_cli.records.words import counted
from grow_cli.schema import keys_with


def parser() -> console.Parser:
    """The command's arguments."""
    from grow_cli.controls import KINDS, SEARCHED

    parser = console.Parser(
        prog="grow controls",
        description="Train the controls of grown runs, each into RUN/controls/<kind>; controls that exist already are kept.",
        epilog="kinds: " + "; ".join(f"{kind}: {what}" for kind, what in (KINDS | SEARCHED).items()),
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or folders of them")
    parser.add_argument(
        "--only",
        metavar="KIND,...",
        default=",".join(KINDS),
        type=console.OneOf("--only", KINDS | SEARCHED, several=True),
        help=f"which controls (default: all but {', '.join(SEARCHED)})",
    )
    ladders.add_options(parser)
    # what the processes of `-j` are told: one rung, to a part of its budget
    parser.add_argument("--rung", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_jobs("how many to train at the same time (default: 1)", type=int, default=1)
    return parser


def main(arguments: list[str]) -> int:
    """Train them."""
    from grow_cli.controls import KINDS, SEARCHED

    options = parser().parse(arguments)
    # a sweep's job folders have = in their names
    paths = [Path(word) for word in options.runs if "=" not in word or Path(word).is_dir()]
    overrides = [word for word in options.runs if Path(word) not in paths]
    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: must be 1 or more")
    allowed = keys_with("place", "data", "speed", "shown")
    only(overrides, allowed, "a control has its run's recipe")
    if not paths:
        raise UserError("grow controls needs runs: grow controls RUN..., or the folder of a sweep")
    ladders.check(options)
    runs, kinds = grown_runs([named(path, folders=True) for path in paths]), options.only.split(",")
    if options.rung is not None:
        return ladders.train_one(runs, options.rung, options.until, overrides)
    wanted = [(folder, kind) for folder in runs for kind in kinds if kind in KINDS]
    begun = "grow controls " + " ".join(shlex.quote(word) for word in arguments)
    try:
        if options.jobs > 1 and len(wanted) > 1:
            _in_processes(wanted, overrides, options.jobs)
        elif wanted:
            _one_after_another(wanted, overrides)
        if set(kinds) & set(SEARCHED):
            ladders.train_best(runs, overrides, options)
        return 0
    except (Interrupted, KeyboardInterrupt):
        console.err.print(f"interrupted: continue with `{begun}`", markup=False)
        raise


def grown_runs(paths: list[Path]) -> list[RunFolder]:
    """The finished runs at and below these paths that grew; UserError where there are none."""
    from grow_cli.analysis.runs import find_runs

    runs = [(folder, folder.read_summary()) for folder in find_runs(paths)]
    once = [(f, s) for f, s in runs if s.get("status") == "finished" and s["events"] and not s.get("control")]
    grown = [folder for folder, summary in once if summary["events"] > summary.get("undone", 0)]
    if grown:
        return grown
    if once:
        raise UserError("every growth of these runs was taken back: there is nothing to compare with controls")
    raise UserError("none of these runs is finished and has grown: there is nothing to compare with controls")


def _one_after_another(wanted: list[tuple[RunFolder, str]], overrides: list[str]) -> None:
    from grow_cli.controls import NotPossible, control_folder, train_control

    failed: list[tuple[str, str]] = []
    impossible: list[tuple[str, str]] = []
    for number, (folder, kind) in enumerate(wanted):
        settings = ladders.settings_of(overrides)
        try:
            with_overrides(folder, overrides)  # refuses what cannot be read
            done = train_control(folder, kind, settings)
            console.say(f"{control_folder(folder, kind).path} {done}")
        except NotPossible as reason:
            impossible.append((kind, str(reason)))
        except (UserError, TrainingFailed) as error:
            if len(wanted) == 1:
                raise
            failed.append((str(control_folder(folder, kind).path), str(error)))
        if number + 1 == len(wanted) or wanted[number + 1][0] is not folder:
            _say_impossible(folder, impossible)
            impossible = []
    for names, error_told in once(failed):
        console.error(f"{', '.join(names)}: {error_told}")
    if failed:
        raise TrainingFailed(f"{len(failed)} of {counted(len(wanted), 'control')} failed")


def _say_impossible(folder: RunFolder, impossible: list[tuple[str, str]]) -> None:
    for kinds, reason in once(impossible):
        console.say(f"{folder.path}: no {', '.join(kinds)}: {reason}")


def once(told: Iterable[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """(name, sentence) of each → (names, sentence), so that a sentence about several is printed once."""
    names: dict[str, list[str]] = {}
    for name, sentence in told:
        names.setdefault(sentence, []).append(name)
    return [(those, sentence) for sentence, those in names.items()]


def _in_processes(wanted: list[tuple[RunFolder, str]], overrides: list[str], jobs: int) -> None:
    """Train each in a process of its own, `jobs` at a time; those that are matched by seconds come last, one at a time."""
    from grow_cli.controls import TIMED, control_folder

    wanted = [w for w in wanted if control_folder(*w).read_summary().get("status") != "finished"]
    failed = _side_by_side([w for w in wanted if w[1] not in TIMED], overrides, jobs)
    failed += _side_by_side([w for w in wanted if w[1] in TIMED], overrides, 1)
    if not wanted:
        console.out.print("all controls exist already")
    if failed:
        raise TrainingFailed(f"{failed} of {counted(len(wanted), 'control')} failed")


def _side_by_side(wanted: list[tuple[RunFolder, str]], overrides: list[str], jobs: int) -> int:
    """Returns how many failed."""
    failed: list[tuple[str, str]] = []
    impossible: dict[str, list[tuple[str, str]]] = {str(folder.path): [] for folder, _ in wanted}

    def done(ended: children.Ended) -> None:
        advance()
        path, kind = ended.arguments[1], ended.arguments[3]
        no = f"{path}: no {kind}: "
        lines = [line for line in ended.out.splitlines() if "controls" in line or line.startswith(no)]
        if ended.code:
            failed.append((f"{path}/controls/{kind}", ended.err.strip().removeprefix("error: ")))
        elif lines and lines[-1].startswith(no):
            impossible[path].append((kind, lines[-1].removeprefix(no)))
        else:
            console.say("\n".join(lines[-1:]))

    with ladders.progress(len(wanted), "controls") as advance:
        children.run(
            [["controls", str(folder.path), "--only", kind, *overrides] for folder, kind in wanted], jobs, done
        )
    for folder in dict.fromkeys(folder for folder, _ in wanted):
        _say_impossible(folder, impossible[str(folder.path)])
    for names, error_told in once(failed):
        console.error(f"{', '.join(names)}: {error_told}")
    return len(failed)
