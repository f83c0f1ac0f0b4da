"""`grow controls`: what a grown run is held against, trained with the same recipe at equal cost."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from grow_cli import console
from grow_cli.commands.runs import with_overrides
from grow_cli.errors import Interrupted, TrainingFailed, UserError
from grow_cli.recording.folder import RunFolder

# What may differ from the run: where things are and what is shown, not what is computed.
_SETTINGS = ("data_dir", "device", "progress", "dataset.path", "threads")


def main(arguments: list[str]) -> int:
    """Train the controls of grown runs into their folders, RUN/controls/<kind>; those that are there already are left alone."""
    from grow_cli.controls import KINDS

    parser = console.Parser(
        prog="grow controls",
        description=main.__doc__,
        epilog="kinds: " + "; ".join(f"{kind}: {what}" for kind, what in KINDS.items()),
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folders, or folders of them")
    parser.add_argument("--only", metavar="KIND,...", default=",".join(KINDS), help="which controls (default: all)")
    parser.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="train so many at a time (default: 1)")
    options = parser.parse_intermixed_args(arguments)
    # a sweep's job folders have = in their names
    paths = [Path(word) for word in options.runs if "=" not in word or Path(word).is_dir()]
    overrides = [word for word in options.runs if Path(word) not in paths]
    kinds = options.only.split(",")
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--only {kind}: must be among {', '.join(KINDS)}")
    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: must be 1 or more")
    for override in overrides:
        if override.split("=")[0] not in _SETTINGS:
            raise UserError(f"{override}: a control has its run's recipe, and only {', '.join(_SETTINGS)} can be given")
    if not paths:
        raise UserError("grow controls needs runs: grow controls RUN..., or the folder of a sweep")
    wanted = [(folder, kind) for folder in grown_runs(paths) for kind in kinds]
    begun = "grow controls " + " ".join(shlex.quote(word) for word in arguments)
    try:
        if options.jobs > 1 and len(wanted) > 1:
            return _in_processes(wanted, overrides, options.jobs)
        return _one_after_another(wanted, overrides)
    except (Interrupted, KeyboardInterrupt):
        console.err.print(f"interrupted: go on with `{begun}`", markup=False, highlight=False, soft_wrap=True)
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
        raise UserError("every growth of the runs was taken back: there is nothing to hold against controls")
    raise UserError("none of the runs is finished and has grown: there is nothing to hold against controls")


def _one_after_another(wanted: list[tuple[RunFolder, str]], overrides: list[str]) -> int:
    from grow_cli.controls import NotPossible, control_folder, train_control

    failed = 0
    for folder, kind in wanted:
        settings = {o.partition("=")[0]: o.partition("=")[2] for o in overrides}
        try:
            with_overrides(folder, overrides)  # refuses what cannot be read
            done = train_control(folder, kind, settings)
        except NotPossible as reason:
            console.out.print(f"{folder.path}: no {kind}: {reason}", markup=False, highlight=False, soft_wrap=True)
            continue
        except (UserError, TrainingFailed) as error:
            if len(wanted) == 1:
                raise
            console.error(f"{control_folder(folder, kind).path}: {error}")
            failed += 1
            continue
        console.out.print(f"{control_folder(folder, kind).path} {done}", markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise TrainingFailed(f"{failed} of {len(wanted)} controls failed")
    return 0


def _in_processes(wanted: list[tuple[RunFolder, str]], overrides: list[str], jobs: int) -> int:
    """Each in a process of its own, so many at a time; those whose seconds count one at a time, after the others."""
    from grow_cli.controls import TIMED, control_folder

    wanted = [w for w in wanted if control_folder(*w).read_summary().get("status") != "finished"]
    failed = _side_by_side([w for w in wanted if w[1] not in TIMED], overrides, jobs)
    failed += _side_by_side([w for w in wanted if w[1] in TIMED], overrides, 1)
    if not wanted:
        console.out.print("all controls were there already")
    if failed:
        raise TrainingFailed(f"{failed} of {len(wanted)} controls failed")
    return 0


def _side_by_side(wanted: list[tuple[RunFolder, str]], overrides: list[str], jobs: int) -> int:
    """Returns how many failed. Interrupted, it stops what is running and begins nothing more."""
    waiting, running, failed = list(wanted), list[subprocess.Popen[str]](), 0
    columns = ("controls", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console.out, transient=True, disable=not console.out.is_terminal)
    task = bar.add_task("", total=len(wanted))
    bar.start()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                folder, kind = waiting.pop(0)
                words = ["controls", str(folder.path), "--only", kind, *overrides]
                command = [sys.executable, "-m", "grow_cli", *words]
                running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            time.sleep(0.1)
            for child in [child for child in running if child.poll() is not None]:
                running.remove(child)
                bar.advance(task)
                out, err = child.communicate()
                failed += child.returncode != 0
                lines = [line for line in out.splitlines() if "controls" in line or ": no " in line]
                words = lines[-1:] if child.returncode == 0 else [err.strip()]
                console.out.print("\n".join(words), markup=False, highlight=False, soft_wrap=True)
    finally:
        bar.stop()
        for child in running:
            child.send_signal(signal.SIGINT)  # they save, and are resumed next time
        for child in running:
            child.communicate()
    return failed
