"""What a sweep has in Slurm's queue: submitted by sbatch, noted in the sweep's folder, looked for by squeue."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grow_cli import console
from grow_cli.commands import slurm_script
from grow_cli.errors import UserError
from grow_cli.files import make_folder, read_bytes, write_text
from grow_cli.records.words import counted

if TYPE_CHECKING:
    from grow_cli.commands.sweep import Job
    from grow_cli.config import Sweep

RECORDS = ".slurm"
"""In a sweep's folder: for each array a script, a record of its id and jobs, and what Slurm said of its tasks."""
BY_SLURM = {
    "CANCELLED": ("interrupted", "it was cancelled"),
    "TIMEOUT": ("interrupted", "its time ended before it had saved: give more of it, or a larger sweep.lead_seconds"),
    "DEADLINE": ("interrupted", "its deadline came"),
    "PREEMPTED": ("interrupted", "it was preempted, and was not queued again"),
    "NODE_FAIL": ("crashed", "its node failed"),
    "BOOT_FAIL": ("crashed", "its node did not start"),
    "OUT_OF_MEMORY": ("crashed", "it had too little memory: give more by sweep.memory_gb"),
}
"""The end of a task by Slurm, and not by the job itself → what became of the job, and why."""
_OVER = {"COMPLETED", "FAILED", "GONE", *BY_SLURM}
_LARGEST = 2**24  # bytes of a record

Key = tuple[str, int]
"""The id of an array and the number of one of its tasks."""


@dataclass(frozen=True)
class Task:
    """One of an array, as squeue shows it."""

    state: str
    code: int = 0
    """Of its script; negative: the signal that ended it."""
    reason: str = ""

    @property
    def over(self) -> bool:
        return self.state in _OVER


GONE = Task("GONE")
"""One that Slurm has forgotten, which it does minutes after the end."""


def submit(sweep: Path, jobs: Sequence[Job], config: Sweep) -> dict[Key, Job]:
    """One array for all of them; UserError where sbatch does not take it."""
    name = secrets.token_hex(4)
    try:
        records = make_folder(sweep / RECORDS)
        written = records / f"{name}.sh"
        write_text(written, slurm_script.script([job.folder.path for job in jobs], config))
        label = re.sub(r"[^\w.-]+", "_", sweep.name)
        line = slurm_script.submission(written, records / f"{name}.txt", len(jobs), label, config)
        done = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        array = re.match(r"\d+", done.stdout.strip())
        if done.returncode or array is None:
            _remove(written)
            raise UserError(_refused(done, len(jobs)))
        noted = {"id": array[0], "jobs": [job.folder.path.name for job in jobs]}
        write_text(records / f"{name}.json", json.dumps(noted) + "\n")
    except OSError as error:
        raise UserError(f"{sweep / RECORDS} cannot be written ({error.strerror}): choose another run_dir") from error
    console.line(f"{counted(len(jobs), 'job')} given to Slurm: {ways([array[0]])}")
    return {(array[0], number): job for number, job in enumerate(jobs)}


def _refused(done: subprocess.CompletedProcess[str], jobs: int) -> str:
    said = " ".join((done.stderr or done.stdout).replace("sbatch: error: ", "").split())
    most = "; an array has MaxArraySize tasks at most (`scontrol show config`)" * ("array" in said)
    return (
        f"sbatch did not take {counted(jobs, 'job')} ({said or f'exit code {done.returncode}'}{most}): change sweep.*"
    )


def ways(arrays: Iterable[str]) -> str:
    """How to look at arrays, and how to end them."""
    ids = sorted(set(arrays))
    return f"`squeue -j {','.join(ids)}` shows what waits and runs, `scancel {' '.join(ids)}` ends it"


def queued(sweep: Path, jobs: Sequence[Job]) -> dict[Key, Job]:
    """Those of the jobs that an earlier array still has waiting or running; the records of arrays that are over go."""
    of = {job.folder.path.name: job for job in jobs}
    found: dict[Key, Job] = {}
    for record in sorted((sweep / RECORDS).glob("*.json")):
        array, names = _read(record, sweep)
        tasks = tasks_of(array)
        if tasks is None:
            if jobs:
                raise UserError(
                    f"squeue does not say what becomes of this sweep's job {array}: try again when it answers"
                )
            continue
        there = [number for number, task in tasks.items() if not task.over]
        if not there:
            _remove(record)
        of_ours = {(array, n): of[names[n]] for n in there if n < len(names) and names[n] in of}
        if of_ours:
            console.line(f"{counted(len(of_ours), 'job')} in Slurm's queue already: {ways([array])}")
        found |= of_ours
    with contextlib.suppress(OSError):  # others are in it, or there is none
        (sweep / RECORDS).rmdir()
    return found


def _read(record: Path, sweep: Path) -> tuple[str, list[str]]:
    """The id of an array, and the folders of its jobs by the numbers of their tasks."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        raw = json.loads(read_bytes(record, _LARGEST, sweep))
        array, names = raw["id"], raw["jobs"]
        if re.fullmatch(r"[0-9]+", array) and all(isinstance(name, str) for name in names):
            return array, names
    raise UserError(f"{record} is damaged: remove it once `squeue --me` shows no job of this sweep")


def _remove(of_an_array: Path) -> None:
    """All of an array that is over, but what Slurm has said of its tasks, if anything."""
    said = of_an_array.with_suffix(".txt")
    silent = said.is_file() and said.stat().st_size == 0
    for path in (of_an_array.with_suffix(".json"), of_an_array.with_suffix(".sh"), *([said] if silent else [])):
        path.unlink(missing_ok=True)


def tasks_of(array: str) -> dict[int, Task] | None:
    """The tasks of an array that Slurm knows of, by their numbers; None where it does not answer."""
    line = ["squeue", "--noheader", "--array", f"--jobs={array}", "--states=all"]
    columns = "ArrayTaskID:16,State:24,exit_code:16,Reason:80"
    done = subprocess.run([*line, f"--Format={columns}"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        return {} if "Invalid job id" in done.stderr else None
    return dict(read_task(line) for line in done.stdout.splitlines() if line[:1].isdigit())


def read_task(line: str) -> tuple[int, Task]:
    """A line of squeue, `3  FAILED  512  NonZeroExitCode`: the code is a wait status, or `2:0` with the signal after it."""
    number, state, status, *reason = line.split(None, 3)
    first, colon, second = status.partition(":")
    code, by = (int(first), int(second)) if colon else (int(first) >> 8, int(first) & 0x7F)
    return int(number), Task(state, -by if by else code, " ".join(reason).strip())
