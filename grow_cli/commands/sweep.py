"""What a sweep needs beyond its runs: to count its jobs wherever they ran, and to say what it came to.

A sweep into a fixed folder (`run_dir=PATH`) can be repeated and extended: `commands.jobs` finds the jobs it has done.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import secrets
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from grow_cli import console
from grow_cli.analysis.ranking import show_ranking
from grow_cli.commands.jobs import IDENTIFYING, Plan, find, forget, names_its_jobs, planned, register, told
from grow_cli.config import Config
from grow_cli.errors import TrainingFailed, UserError
from grow_cli.files import open_lock, open_plainly, shortest, write_text
from grow_cli.records.configs import as_plain, typed
from grow_cli.records.flat import flatten
from grow_cli.records.folder import RunFolder
from grow_cli.records.grammar import key_of
from grow_cli.records.jobs import read_jobs, with_ends, write_jobs
from grow_cli.records.words import counted, were
from grow_cli.schema import make_absolute, role_of
from grow_cli.tasks import task_in

# became → how the closing line of a sweep says it
COUNTED = {
    "trained": "trained",
    "resumed": "resumed and finished",
    "skipped": "finished already",
    "busy": "left to another process, which is at it",
    "queued": "left in Slurm's queue",
    "interrupted": "interrupted",
    "crashed": "crashed, and are tried again when the same is typed again",
    "failed": "failed",
}
UNFINISHED = ("failed", "crashed", "interrupted")


@dataclass(frozen=True)
class Outcome:
    """What became of a job (a key of COUNTED), and why where that is not plain."""

    job: str
    became: str
    sentence: str = ""
    here: bool = True
    """Its words were printed by the process that began the sweep."""


@dataclass(frozen=True)
class Job:
    """One that waits for its process."""

    number: int
    folder: RunFolder
    """Claimed, and not locked."""
    config: Config
    begun: bool
    told: str = ""
    """What makes it another job than the others: `method=tiny seed=1`."""


class Tally(Callback):
    """The outcomes of a sweep's jobs, left as files in the sweep's folder by whichever process ran them.

    Hydra hands a launcher's worker a copy of its callbacks, and gives the process that began the sweep no results.
    """

    current: ClassVar[Tally | None] = None

    sweep: Path
    """Its folder; set when a sweep begins, so that a single run has none."""
    plan: Plan | None
    """Its jobs; None where a search decides them as it goes."""
    total: int | None
    """How many they are."""
    swept: frozenset[str]
    """The keys that it has several values of."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.begun = 0.0
        self.plan, self.total = None, None
        self.place: dict[tuple[str, ...], str] = {}
        self._new: list[str] = []
        self._id = secrets.token_hex(3)
        self._unwritten: list[Outcome] = []
        self.waiting: list[Job] = []
        self._held: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What a launcher hands its workers, for every job: not the list of all jobs."""
        return self.__dict__ | {"plan": None, "place": {}, "_new": []}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        typed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        self.swept = frozenset(o.key_or_group for o in typed if o.is_sweep_override())
        Tally.current = self
        self.begin(Path(str(config.hydra.sweep.dir)).absolute())
        jobs = planned(config, typed)
        if jobs is not None:
            self.plan, self.total = Plan(jobs, line_of(config), self.swept), len(jobs)
        if self.plan and names_its_jobs(config):
            with contextlib.suppress(OSError, UserError), one_at_a_time(self.sweep):  # said when a job is claimed
                self.place, self._new = register(self.sweep, self.plan)

    def begin(self, sweep: Path) -> None:
        """Outcomes are kept from now on, and `grow sweep status` sees that a process is at this sweep."""
        self.sweep, self.begun = sweep, time.time()
        remove_spools(sweep)
        with contextlib.suppress(OSError):  # a folder that cannot be written, or has no locks: spools go by their age
            self._spool().mkdir(parents=True, exist_ok=True)
            self._held = open_lock(self._spool() / ".lock")
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def folder_of(self, own: Path) -> RunFolder:
        """The folder of the job that is being composed; called under the sweep's lock."""
        place = self.place or {entry.overrides: entry.folder for entry in read_jobs(self.sweep).entries}
        return find(own, self.swept, place)

    def forget(self) -> None:
        """The line is refused: its jobs are none."""
        if self.plan is not None and self._new:
            with contextlib.suppress(OSError, UserError), one_at_a_time(self.sweep):
                forget(self.sweep, self._new, self.plan.line)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if hasattr(self, "sweep"):
            Tally.current = self

    @property
    def here(self) -> bool:
        """This is the process that began the sweep, not a launcher's worker."""
        return os.getpid() == self.pid

    def begins(self) -> None:
        """Say which job is trained now: `job 3 of 6: method=tiny seed=1`."""
        number = HydraConfig.get().job.num + 1
        words = told(HydraConfig.get().overrides.task, self.swept)
        console.say(
            f"job {number}" + (f" of {self.total}" if self.total else "") + (f": {words}" if words else ""), "bold"
        )

    def wait(self, folder: RunFolder, config: Config, begun: bool) -> None:
        """Leave a job to `local` or `slurm`, which train all of them side by side when Hydra has composed the last."""
        words = told(HydraConfig.get().overrides.task, self.swept)
        self.waiting.append(Job(HydraConfig.get().job.num, folder, config, begun, words))

    def ended(self, job: Job, became: str, sentence: str) -> None:
        """Called once per job that waited."""
        self.note(job.folder.path.name, became, sentence, job.number)

    def note(self, job: str, became: str, sentence: str = "", number: int | None = None) -> None:
        """Called once per job, in the job's process, or with its number."""
        outcome = Outcome(job, became, sentence, self.here)
        number = HydraConfig.get().job.num if number is None else number
        spool = self._spool()
        try:
            spool.mkdir(parents=True, exist_ok=True)
            # the job's folder says the same, and lasts
            write_text(spool / f"{number}.json", json.dumps(asdict(outcome)), lasting=False)
        except OSError as error:  # the job is what it is, though it cannot be counted
            console.warn(f"{job}: that it {became} cannot be noted ({error.strerror})")
            self._unwritten.append(outcome)

    def collect(self) -> list[Outcome]:
        """All that was noted, in the jobs' order; the files are taken away, and what did not end well is kept in `jobs.json`."""
        files = sorted(self._spool().glob("*.json"), key=lambda path: int(path.stem))
        outcomes = [Outcome(**json.loads(path.read_text(encoding="utf-8"))) for path in files]
        with contextlib.suppress(OSError, UserError):
            keep(self.sweep, outcomes)
        shutil.rmtree(self._spool(), ignore_errors=True)
        if self._held is not None:
            os.close(self._held)
            self._held = None
        return outcomes + self._unwritten

    def _spool(self) -> Path:
        return self.sweep / f".jobs-{self._id}"


def line_of(config: DictConfig) -> tuple[str, ...]:
    """What was typed after `grow train -m`, the folder left out."""
    given = [*config.hydra.overrides.hydra, *config.hydra.overrides.task]
    ours = ("run_dir", "hydra.sweep.dir", "hydra.mode", "hydra.searchpath")
    return tuple(str(override) for override in given if key_of(override) not in ours)


def keep(sweep: Path, outcomes: Iterable[Outcome]) -> None:
    """In `jobs.json`, how the jobs ended that did not end well: a job that never began has no other place to say it."""
    bad = [(o.job, o.became, o.sentence) for o in outcomes if o.became in UNFINISHED]
    if bad:
        with one_at_a_time(sweep):
            known = read_jobs(sweep)
            if known.entries:
                write_jobs(sweep, with_ends(known, bad))


_SPOOL_AGE = 3600.0 * 24


def remove_spools(sweep: Path) -> None:
    """The counts that earlier sweeps into this folder have left, whose process was killed: nobody will collect them."""
    for spool in sweep.glob(".jobs-*"):
        if not spool.is_symlink() and _abandoned(spool):
            shutil.rmtree(spool, ignore_errors=True)


def _abandoned(spool: Path) -> bool:
    """Whether no process holds its lock; where that cannot be known, whether it is older than a day."""
    try:
        lock = open_plainly(spool / ".lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(lock)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - spool.stat().st_mtime > _SPOOL_AGE
    return True


def describe(outcomes: list[Outcome]) -> str:
    """`6 jobs: 2 trained, 4 finished already`."""
    counts = Counter(outcome.became for outcome in outcomes)
    if set(counts) == {"skipped"}:
        return f"{len(outcomes)} of {counted(len(outcomes), 'job')} {were(len(outcomes))} finished already"
    return f"{counted(len(outcomes), 'job')}: " + ", ".join(
        f"{counts[k]} {words}" for k, words in COUNTED.items() if counts[k]
    )


def conclude(tally: Tally, outcomes: list[Outcome], ranked: Iterable[str] | None = None) -> None:
    """Print what a sweep came to; TrainingFailed if a job of it did not end well.

    :param ranked: the folders of the jobs that are ranked; None: those of `outcomes`
    """
    with console.whatever_happens_to_the_terminal():
        names = [outcome.job for outcome in outcomes] if ranked is None else ranked
        show_ranking(RunFolder(tally.sweep / name) for name in names)
        if any(outcome.became in ("trained", "resumed") for outcome in outcomes) and len(outcomes) > 1:
            path = shlex.quote(str(shortest(tally.sweep)))
            console.line(f"next: grow compare {path}")
            console.line(f"      grow report {path}")
        console.say(f"{describe(outcomes)}; the sweep is in")
        console.out.print(str(tally.sweep), markup=False, style="bold", soft_wrap=True)
    refuse_unfinished(outcomes)


def refuse_unfinished(outcomes: list[Outcome]) -> None:
    """TrainingFailed that names the jobs that did not end well, if any; what they said elsewhere is printed."""
    bad = [outcome for outcome in outcomes if outcome.became in UNFINISHED]
    for outcome in bad:
        if not outcome.here:  # its words went to wherever the job ran
            console.err.print(f"{outcome.job}: {outcome.sentence}", markup=False)
    if bad:
        names = ", ".join([outcome.job for outcome in bad[:5]] + [f"and {len(bad) - 5} more"] * (len(bad) > 5))
        raise TrainingFailed(f"{counted(len(bad), 'run')} of the sweep did not finish: {names}")


@contextlib.contextmanager
def one_at_a_time(sweep: Path) -> Iterator[None]:
    """While a job looks for its folder and claims it: two sweeps at once must not begin a job twice."""
    path = sweep / ".lock"
    with contextlib.ExitStack() as held:
        try:
            fcntl.flock(held.enter_context(os.fdopen(open_lock(path))), fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"{path} cannot be locked ({error.strerror}), and without a lock two sweeps could begin one job: choose a "
                "run_dir on another file system"
            ) from error
        yield


def refuse_other_config(folder: RunFolder, raw: DictConfig) -> None:
    """UserError where what was typed is the same and what it means is not: a YAML file or a default has changed."""
    remedy = "choose another run_dir, or remove that folder to train the job anew"
    try:
        there = _flat(typed(folder.config(), folder.hydra / "config.yaml"))
    except UserError as error:
        raise UserError(f"{error}; {remedy}") from error
    here = _flat(raw)
    for key in sorted(there.keys() | here.keys()):
        if role_of(key) in IDENTIFYING and there.get(key) != here.get(key):
            raise UserError(
                f"{folder.path} holds this job with another configuration "
                f"({key} is {there.get(key)} there, {here.get(key)} here) and is not overwritten: {remedy}"
            )


def _flat(config: DictConfig) -> dict[str, Any]:
    make_absolute(config)
    return flatten(as_plain(config))


def objective(summary: dict[str, Any]) -> float | None:
    """What a sweeper maximizes: the validation score at the end of the run, never the test's.

    None, not NaN, where there is none.
    """
    task = task_in(summary)
    value = summary.get(task.column("val"))
    return task.direction * float(value) if value is not None and math.isfinite(value) else None
