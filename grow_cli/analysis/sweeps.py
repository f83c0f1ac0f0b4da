"""What the jobs of a sweep are at, read from its folder alone: from any terminal, any machine, and a read-only disk."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from grow_cli.analysis.listed import Listed, locked
from grow_cli.config import Stop
from grow_cli.errors import UserError
from grow_cli.files import open_to_read
from grow_cli.records.folder import RunFolder
from grow_cli.records.jobs import Entry, number_of, read_jobs
from grow_cli.records.metrics import AXES
from grow_cli.records.words import counted, lasting

STATES = ("queued", "running", "finished", "interrupted", "crashed", "failed")
"""What a job can be, in the order in which they are counted."""

# since when a process is at the sweep, and a job's folder → what became of it, and why
_Spool = tuple[float, dict[str, tuple[str, str]]]


@dataclass(frozen=True)
class JobState:
    """A job as it is now."""

    folder: RunFolder
    told: str
    """What makes it another job than the others; where that is not known its folder's name."""
    state: str
    """One of STATES."""
    reason: str = ""
    """Why it is not finished, where that is not plain."""

    @cached_property
    def run(self) -> Listed:
        """Its files, as far as they are there."""
        try:
            summary: dict[str, Any] = self.folder.read_summary() if self.state != "running" else {}
        except UserError:
            summary = {}
        return Listed(self.folder, self.folder.path.name, 0.0, summary, self.state)

    @cached_property
    def fraction(self) -> float:
        """How much of its budget is used, by its last evaluation; 0 where nothing tells it."""
        return used(self.run.last, self.run.config)

    @property
    def reached(self) -> str:
        """`epoch 3.2, val_accuracy 0.9123`, as far as there is something."""
        row = self.run.last
        when = f"epoch {float(row['epoch']):.1f}" if _number(row.get("epoch")) else ""
        score = "" if self.run.val is None else f"{self.run.task.column('val')} {self.run.val:.4g}"
        return ", ".join(filter(None, (when, score)))


@dataclass(frozen=True)
class Status:
    """A sweep as it is now."""

    folder: Path
    jobs: list[JobState]
    processes: int
    """Those that are at it, as far as their locks can be seen from here."""
    expected_end: float | None
    """Seconds since 1970, by the pace of the processes that are at it; None where nothing tells it."""
    lines: tuple[tuple[str, ...], ...] = ()
    """What was typed after `grow train -m`."""

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        found = Counter(job.state for job in self.jobs)
        return {state: found[state] for state in STATES}


def used(row: Mapping[str, str], config: Mapping[str, Any]) -> float:
    """How much of a run's budget is used at a row of its metrics.csv, from 0 to 1; `config` is flat."""
    parts = [
        float(row[AXES[name].column]) / limit
        for name in Stop.BUDGETS
        if isinstance(limit := config.get(f"stop.{name}"), int | float)
        and limit > 0
        and _number(row.get(AXES[name].column))
    ]
    return min(1.0, max(parts, default=0.0))


def expected_end(begun: float, now: float, done: float, left: float) -> float | None:
    """When `left` jobs will have ended, if they take as long as the `done` since `begun`; parts of a job count as parts."""
    if done <= 0 or left <= 0 or now <= begun:
        return None
    return now + (now - begun) / done * left


def head(counts: Mapping[str, int], end: float | None, now: float | None = None) -> str:
    """`12 jobs: 3 queued, 2 running, 7 finished; expected end 14:05 (in 12 min)`."""
    told = [f"{number:,} {state}" for state, number in counts.items() if number]
    words = f"{counted(sum(counts.values()), 'job')}: {', '.join(told)}"
    if end is None:
        return words
    left = max(0.0, end - (time.time() if now is None else now))
    day = "%H:%M:%S" if left < 600 else "%H:%M" if left < 43200 else "%Y-%m-%d %H:%M"
    return f"{words}; expected end {time.strftime(day, time.localtime(end))} (in {lasting(left)})"


def no_sweep(folder: Path) -> UserError:
    """The sentence for a folder that holds no jobs, or that does not exist."""
    holds = "holds no jobs of a sweep" if folder.exists() else "does not exist"
    return UserError(f"{folder} {holds}: name the folder that `grow train -m` printed")


def status(sweep: Path, now: float | None = None) -> Status:
    """The status of the sweep in this folder, which is only read; UserError if it is no sweep."""
    jobs = read_jobs(sweep)
    entries = jobs.named
    for name in _claimed(sweep):
        entries.setdefault(name, Entry(name, (), name))
    if not entries:
        raise no_sweep(sweep)
    living, noted = _spools(sweep)
    latest = {name: end for _, ends in noted for name, end in ends.items()}
    found = [_state(sweep, entry, latest.get(entry.folder)) for entry in sorted(entries.values(), key=_order)]
    begun = min((begun for begun, _ in living), default=None)
    over = {name for _, ends in living for name in ends}
    end = None if begun is None else _end(found, over, begun, time.time() if now is None else now)
    return Status(sweep, found, len(living), end, jobs.lines)


def _end(jobs: list[JobState], over: set[str], begun: float, now: float) -> float | None:
    """By what has ended since `begun`; `over` have ended and are not tried again by those that are at it."""
    done = left = 0.0
    for job in jobs:
        if job.state == "finished":
            done += _ended(job.folder) >= begun
        elif job.state == "running":
            done, left = done + job.fraction, left + 1 - job.fraction
        elif job.state != "failed" and job.folder.path.name not in over:
            left += 1
    return expected_end(begun, now, done, left)


def _state(sweep: Path, entry: Entry, noted: tuple[str, str] | None) -> JobState:
    folder, told = RunFolder(sweep / entry.folder), entry.told or entry.folder
    became, sentence = noted or (entry.became, entry.sentence)
    try:
        summary = folder.read_summary()
    except UserError as error:
        return JobState(folder, told, "crashed", str(error))
    status = str(summary.get("status", ""))
    if status == "finished":
        return JobState(folder, told, "finished")
    if locked(folder):
        return JobState(folder, told, "running")
    if status in STATES:
        reason = summary.get("error") or (sentence if became == status else "")
        return JobState(folder, told, status, str(reason))
    if became in STATES:
        return JobState(folder, told, became, sentence)
    if folder.holds_a_run:
        return JobState(folder, told, "crashed", "its process was ended, and had no time to say why")
    return JobState(folder, told, "queued")


def _claimed(sweep: Path) -> list[str]:
    """The names of the jobs' folders that were begun; none where it is no folder."""
    try:
        with os.scandir(sweep) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [name for name in names if not name.startswith(".") and RunFolder(sweep / name).claimed]


def _spools(sweep: Path) -> tuple[list[_Spool], list[_Spool]]:
    """Of each process that is at the sweep since when, and how jobs ended; the same of all, the dead ones' first."""
    living: list[_Spool] = []
    dead: list[_Spool] = []
    for spool in sorted(sweep.glob(".jobs-*")):
        try:
            begun = (spool / ".lock").stat().st_mtime
        except OSError:
            begun = 0.0
        (living if locked(RunFolder(spool)) else dead).append((begun, _noted(spool)))
    return living, [*dead, *living]


def _noted(spool: Path) -> dict[str, tuple[str, str]]:
    """A job's folder → what became of it, and why; a file that goes away meanwhile is left out."""
    ends = {}
    for path in spool.glob("*.json"):
        try:
            with open_to_read(path, spool) as file:
                raw = json.loads(file.read())
            ends[str(raw["job"])] = (str(raw["became"]), str(raw["sentence"]))
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return ends


def _ended(folder: RunFolder) -> float:
    try:
        return (folder.path / "summary.json").stat().st_mtime
    except OSError:
        return 0.0


def _order(entry: Entry) -> tuple[int, str]:
    return number_of(entry.folder), entry.folder


def _number(text: str | None) -> bool:
    try:
        return text is not None and float(text) >= 0
    except ValueError:
        return False
