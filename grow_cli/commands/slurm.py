"""`sweep=slurm`: a sweep's jobs as one job array of Slurm, which goes on without the process that submitted it.

Hydra composes the jobs, and their folders are claimed, one after the other; then sbatch gets a script that trains them
(`slurm_script`). What was submitted is noted in the sweep's folder (`slurm_queue`), so that the same line typed again waits for
it, and submits only what is missing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from grow_cli import console
from grow_cli.analysis.listed import locked
from grow_cli.analysis.summary import in_a_line
from grow_cli.commands import children, local, slurm_queue
from grow_cli.commands.slurm_queue import Key, Task
from grow_cli.errors import Interrupted, UserError
from grow_cli.files import open_to_read
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import counted

if TYPE_CHECKING:
    from rich.status import Status

    from grow_cli.commands.sweep import Job
    from grow_cli.config import Sweep

_ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
_LATE = 60.0  # seconds by which at the latest a file that another machine has written is seen (NFS)
_SLOWEST = 15.0  # seconds between two looks at the queue


def train(jobs: Sequence[Job], note: Callable[[Job, str, str], None], config: Sweep) -> None:
    """All of them; `note` is told what became of each (a key of COUNTED), and why where that is not plain."""
    missing = list(jobs)
    try:
        _refuse_without_slurm()
        left = slurm_queue.queued(jobs[0].folder.path.parent, jobs)
        there = {job.number for job in left.values()}
        held = {job.number: locked(job.folder) for job in jobs if job.number not in there}
        busy = [job for job in jobs if held.get(job.number)]
        missing = [job for job in jobs if held.get(job.number) is False]
        if missing:
            left |= slurm_queue.submit(jobs[0].folder.path.parent, missing, config)
    except UserError:
        for job in missing:
            _give_back(job.folder)
        raise
    for job in busy:
        note(job, "busy", "another process is at it")
    if not config.wait:
        for job in left.values():
            note(job, "queued", "")
        return
    try:
        watch(left, note)
    except (Interrupted, KeyboardInterrupt):
        console.line(f"{counted(len(left), 'job')} left to Slurm: {slurm_queue.ways(array for array, _ in left)}")
        raise
    slurm_queue.queued(jobs[0].folder.path.parent, ())


def _refuse_without_slurm() -> None:
    absent = [program for program in ("sbatch", "squeue") if shutil.which(program) is None]
    if absent:
        raise UserError(
            f"sweep=slurm needs {' and '.join(absent)}, which this machine does not have: type it on a login node of a cluster "
            "with Slurm, or use sweep=local"
        )


def _give_back(folder: RunFolder) -> None:
    """A folder that was claimed for a job that will not be trained."""
    with contextlib.suppress(UserError):
        folder.open()
        folder.discard_unless_trained()


def watch(left: dict[Key, Job], note: Callable[[Job, str, str], None]) -> None:
    """Until all have ended, which are taken out of `left` one by one; a line for each."""
    total, pause = len(left), 1.0
    late: dict[Key, float] = {}
    with console.out.status("") if console.out.is_terminal else contextlib.nullcontext() as shown:
        view = _View(shown)
        while left:
            known = {array: slurm_queue.tasks_of(array) for array in {array for array, _ in left}}
            for key, job in list(left.items()):
                tasks = known[key[0]]
                task = None if tasks is None else tasks.get(key[1], slurm_queue.GONE)
                if task is None or not task.over:
                    view.sees(key, task)
                    continue
                became, sentence = outcome(job.folder, task, resumed=job.begun)
                # what another machine has written may not be seen yet
                if (
                    task.code == 0
                    and became == "crashed"
                    and time.monotonic() < late.setdefault(key, time.monotonic() + _LATE)
                ):
                    continue
                del left[key]
                told = f" ({sentence})" if sentence else ""
                if not sentence and became in ("trained", "resumed"):
                    told = f", {in_a_line(job.folder, job.folder.read_summary())}"
                console.line(f"job {total - len(left)} of {total}: {job.told or job.folder.path.name}: {became}{told}")
                note(job, became, sentence)
            view.update()
            if left:
                time.sleep(pause)
                pause = min(pause * 1.2, _SLOWEST)


def outcome(folder: RunFolder, task: Task, *, resumed: bool) -> tuple[str, str]:
    """What became of a job (a key of COUNTED), and why where that is not plain, once its task is over."""
    code = task.code
    if code > 128 and code - 128 not in _ASKED:  # as a shell says that a signal has ended a process
        code = 128 - code
    if task is slurm_queue.GONE:  # Slurm has forgotten it: the folder says what there is to say
        code = 128 + signal.SIGTERM if folder.read_summary().get("status") in (None, "interrupted") else 1
    became, sentence = local.outcome(folder, children.Ended([], code, "", _last_words(folder)), resumed=resumed)
    if became in ("trained", "resumed"):
        return became, sentence
    if task.state in slurm_queue.BY_SLURM:
        return slurm_queue.BY_SLURM[task.state]
    if code == 0:
        return "crashed", "its task ended without a word"
    if became == "failed" and not sentence:
        sentence = f"it printed nothing; what Slurm said of it is in {folder.path.parent / slurm_queue.RECORDS}"
    return became, sentence


def _last_words(folder: RunFolder) -> str:
    try:
        with open_to_read(folder.path / local.LOG, folder.path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


class _View:
    """What is shown meanwhile: how many wait and run, on a terminal, and once what somebody should look at."""

    def __init__(self, shown: Status | None) -> None:
        self._counts: Counter[str] = Counter()
        self._told: set[str] = set()
        self._shown = shown

    def sees(self, key: Key, task: Task | None) -> None:
        """A task that is not over; None where Slurm does not answer."""
        if task is None:
            self._warn("Slurm does not answer: its jobs run on, and it is asked again")
            return
        self._counts[task.state.lower()] += 1
        if "held" in task.reason.lower():
            name = f"{key[0]}_{key[1]}"
            self._warn(f"Slurm holds job {name} ({task.reason.strip('()')}): `scontrol release {name}` lets it go")

    def _warn(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            console.warn(sentence)

    def update(self) -> None:
        """After all were seen."""
        if self._shown is not None:
            self._shown.update(re.sub(r"[][]", "", ", ".join(f"{n} {state}" for state, n in self._counts.items())))
        self._counts.clear()
