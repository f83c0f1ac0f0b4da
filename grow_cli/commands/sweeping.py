"""`grow sweep`: what a sweep's jobs are at, and those that did not finish once more."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable
from pathlib import Path

from grow_cli import console
from grow_cli.analysis.ranking import show_ranking
from grow_cli.analysis.sweeps import JobState, Status, head, no_sweep, status
from grow_cli.commands import local
from grow_cli.commands.overrides import config_of
from grow_cli.commands.sweep import Job, Tally, conclude
from grow_cli.config import Sweep
from grow_cli.errors import Interrupted, UserError
from grow_cli.files import shortest
from grow_cli.records.folder import RunFolder
from grow_cli.records.jobs import number_of, read_jobs
from grow_cli.records.named import named
from grow_cli.records.words import counted, were

_QUEUED = 10  # jobs that have not begun, of which more are only counted


def parser() -> console.Parser:
    """The command's arguments."""
    parser = console.Parser(
        prog="grow sweep",
        description="status: how many jobs of a sweep are queued, running, finished, interrupted, crashed and failed, when the "
        "last will have ended, and a line for each that is not finished; nothing is written. retry: go on with all jobs that "
        "are begun and not finished, each from its last checkpoint, failed ones too.",
        epilog="example: grow sweep status outputs/mine; grow sweep retry outputs/mine -j 4",
    )
    parser.add_argument("what", choices=("status", "retry"), metavar="status|retry", help="what to do")
    parser.add_argument("sweep", type=Path, metavar="SWEEP", help="the folder of a sweep")
    parser.add_argument("--json", action="store_true", help="status: as JSON, all jobs")
    parser.add_jobs("retry: how many jobs train at a time (default: 1)", type=console.positive("--jobs"))
    return parser


def main(arguments: list[str]) -> int:
    """Look, or train."""
    options = parser().parse(arguments)
    sweep = named(options.sweep, folders=True)
    if options.what == "status":
        if options.jobs is not None:
            raise UserError("grow sweep status trains nothing: leave out --jobs, or type `grow sweep retry`")
        now = status(sweep)
        if options.json:
            print(json.dumps(as_data(now), indent=1))
        else:
            show(now)
        return 0
    if options.json:
        raise UserError(
            "grow sweep retry prints no JSON: leave out --json, and ask `grow sweep status --json` meanwhile"
        )
    return retry(sweep, options.jobs or 1, arguments)


def show(now: Status) -> None:
    """Counts, the expected end, and a line for each job that is not finished."""
    console.say(head(now.counts, now.expected_end))
    left = [job for job in now.jobs if job.state != "finished"]
    queued = [job for job in left if job.state == "queued"]
    for job in left:
        if job not in queued[_QUEUED:]:
            console.line(f"{job.state:<11}  {job.told}" + (f": {words}" if (words := _why(job)) else ""))
    if queued[_QUEUED:]:
        console.line(f"{'queued':<11}  and {len(queued) - _QUEUED:,} more")
    if left and not now.processes:
        console.say("no process is at it, as far as its locks can be seen from here; go on with")
        for command in go_on(now):
            console.line(f"  {command}")


def go_on(now: Status) -> list[str]:
    """The commands that train what is left."""
    left = [job.folder.claimed for job in now.jobs if job.state != "finished"]
    again = [f"grow sweep retry {shlex.quote(str(shortest(now.folder)))}"] if any(left) else []
    return again + ([] if left and all(left) else typed(now.lines, now.folder))


def typed(lines: Iterable[tuple[str, ...]], sweep: Path) -> list[str]:
    """The commands that began it."""
    return [f"grow train -m {' '.join(map(shlex.quote, (*line, f'run_dir={sweep}')))}" for line in lines]


def as_data(now: Status) -> dict[str, object]:
    """What `--json` prints."""
    end = now.expected_end
    return {
        "folder": str(now.folder.absolute()),
        "counts": now.counts,
        "processes": now.processes,
        "expected_end": None if end is None else time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(end)),
        "jobs": [
            {
                "folder": job.folder.path.name,
                "job": job.told,
                "state": job.state,
                "reason": job.reason or None,
                "score": job.run.val,
                "fraction": 1.0 if job.state == "finished" else job.fraction,
            }
            for job in now.jobs
        ],
        "lines": [list(line) for line in now.lines],
    }


def _why(job: JobState) -> str:
    return job.reached if job.state == "running" else " ".join(job.reason.split())


def retry(sweep: Path, at_once: int, arguments: list[str]) -> int:
    """Train what is begun and not finished, and end as a sweep ends."""
    jobs, all_jobs = unfinished(sweep)
    if not jobs:
        show_ranking(all_jobs)
        console.say("all jobs are finished")
        return 0
    tally = Tally()
    tally.begin(sweep.absolute())
    try:
        local.train(jobs, tally.ended, Sweep(jobs=at_once))
    except (Interrupted, KeyboardInterrupt):
        again = f"grow sweep {' '.join(map(shlex.quote, arguments))}"
        console.err.print(f"interrupted: go on with `{again}`", markup=False)
        raise
    finally:
        outcomes = tally.collect()
    _say_what_has_not_begun(sweep, all_jobs)
    conclude(tally, outcomes, [folder.path.name for folder in all_jobs])
    return 0


def _say_what_has_not_begun(sweep: Path, begun: list[RunFolder]) -> None:
    jobs = read_jobs(sweep)
    missing = len(jobs.named.keys() - {folder.path.name for folder in begun})
    if missing:
        lines = "; ".join(typed(jobs.lines, sweep))
        console.warn(f"{counted(missing, 'job')} of the sweep {were(missing)} never begun: type {lines}")


def unfinished(sweep: Path) -> tuple[list[Job], list[RunFolder]]:
    """The jobs of a sweep, in their order, that are begun and have not come to their end, and all that are begun.

    UserError where it is no sweep.
    """
    folders = [RunFolder(path) for path in sweep.iterdir() if path.is_dir()] if sweep.is_dir() else []
    claimed = sorted((f for f in folders if f.claimed), key=lambda f: (number_of(f.path.name), f.path.name))
    if not claimed:
        raise no_sweep(sweep)
    told = {name: entry.told for name, entry in read_jobs(sweep).named.items()}
    left = [f for f in claimed if f.read_summary().get("status") != "finished"]
    jobs = [Job(i, f, config_of(f), f.begun, told.get(f.path.name, "")) for i, f in enumerate(left)]
    return jobs, claimed
