"""A real Slurm on this machine: jobs come through whatever happens to them.

`slurm_cluster` starts slurmctld, slurmd and munged. Most jobs are stand-ins that count their steps and save as a run does: none
may be missing, and none taken twice. That a run which goes on has the numbers of an undisturbed one, whenever it was asked to
save, is tested in tests/cli/test_resume.py, and here for one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import psutil
import pytest
import torch
from engines.slurm_cluster import Cluster, absent

from grow_cli import config as config_of
from grow_cli.commands import slurm
from grow_cli.commands.sweep import Job
from grow_cli.records.folder import RunFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(absent()),
        reason=f"Slurm is not installed ({', '.join(absent())}): apt-get install -y slurmctld slurmd munge",
    ),
]

_RUN = (
    *("subset=300", "model=mlp", "model.hidden=[4]", "method=net2net", "trigger=every", "trigger.unit=steps"),
    *("growth.neurons=2", "growth.max_events=2", "evaluate.unit=steps", "stop.epochs=null", "threads=1"),
)
CLOCKS = ["seconds", "growth_seconds"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def pace(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Steps a second, on this machine now."""
    run = _alone(tmp_path_factory.mktemp("pace"), "pace", *_run(2000, 20), "seed=99")
    return 2000 / float(json.loads((run / "summary.json").read_text())["seconds"])


@pytest.fixture(scope="module")
def run(pace: float) -> tuple[str, ...]:
    """Overrides of a run of 10 seconds that is evaluated 30 times and grows twice."""
    return _run(int(10 * pace), 30)


def _run(steps: int, evaluations: int) -> tuple[str, ...]:
    every = steps // evaluations
    return *_RUN, f"stop.steps={steps}", f"evaluate.every={every}", f"trigger.every={max(every, steps // 4)}"


class Sweep:
    """`grow train -m sweep=slurm` in a folder, and what one can see of it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.submitters: list[subprocess.Popen[str]] = []

    def begin(self, *words: str) -> subprocess.Popen[str]:
        begun = subprocess.Popen(
            [sys.executable, "-m", "grow_cli", "train", "-m", "sweep=slurm", "run_dir=s", *words],
            cwd=self.folder,
            env=self.cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.submitters.append(begun)
        return begun

    def job(self, seed: int) -> Path:
        (found,) = (self.folder / "s").glob(f"{seed}-*")
        return found

    def log(self, seed: int) -> str:
        path = self.job(seed) / "log.txt"
        return path.read_text() if path.exists() else ""

    def array(self) -> str:
        """The id of the only one."""
        self.cluster.until(lambda: list(self.folder.glob("s/.slurm/*.json")))
        (record,) = self.folder.glob("s/.slurm/*.json")
        return str(json.loads(record.read_text())["id"])

    def shown(self, seed: int) -> str:
        """What scontrol says of a task."""
        return self.cluster.say("scontrol", "--oneliner", "show", "job", f"{self.array()}_{seed}")

    def trains(self, seed: int) -> bool:
        """Whether it has had its first evaluations, and has most of them before it."""
        rows = self.job(seed) / "metrics.csv"
        return rows.exists() and 1 < rows.read_text().count("\n") < 12

    def running(self) -> list[int]:
        """The seeds of the jobs that are at work, in the first half of their training."""
        asked = ("--noheader", "--array", "--states=RUNNING", f"--jobs={self.array()}", "--Format=ArrayTaskID")
        return [int(n) for n in self.cluster.say("squeue", *asked).split() if self.trains(int(n))]

    def one_at_work(self, but: set[int]) -> int:
        """The seed of a job that is in the middle of its training, and is none of these."""
        found: list[int] = []
        self.cluster.until(lambda: found.extend(set(self.running()) - but) or found, 600)
        return found[0]

    def close(self) -> None:
        for one in self.submitters:
            if one.poll() is None:
                one.kill()
            one.communicate()


@pytest.fixture
def sweep(cluster: Cluster, tmp_path: Path) -> Iterator[Sweep]:
    found = Sweep(cluster, tmp_path)
    yield found
    found.close()


def _ended(submitter: subprocess.Popen[str], code: int) -> str:
    out, err = submitter.communicate(timeout=1500)
    assert submitter.returncode == code, out + err
    return out


def _alone(folder: Path, name: str, *words: str) -> Path:
    """A run that nothing disturbs."""
    line = [sys.executable, "-m", "grow_cli", "train", *words, "progress=off", f"run_dir={name}"]
    subprocess.run(line, cwd=folder, check=True, capture_output=True, timeout=900)
    return folder / name


def _same(one: Path, other: Path) -> None:
    first, second = (pd.read_csv(path / "metrics.csv").drop(columns=CLOCKS) for path in (one, other))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    nets = [torch.load(path / "checkpoints/last.pt", weights_only=True)["model"] for path in (one, other)]
    assert all(torch.equal(tensor, nets[1][name]) for name, tensor in nets[0].items())
    summaries = [json.loads((path / "summary.json").read_text()) for path in (one, other)]
    for key in ("test_loss", "val_loss", "steps", "events", "widths", "training_flops", "status"):
        assert summaries[0][key] == summaries[1][key], key


def _process(job: Path) -> psutil.Process:
    """The one that trains a job."""
    for process in psutil.process_iter():
        try:
            if process.cmdline()[-4:] == ["-m", "grow_cli", "resume", str(job)]:
                return process
        except psutil.Error:
            continue
    raise AssertionError(f"nothing trains {job}")


def test_a_run_that_is_queued_again_ends_with_the_numbers_of_an_undisturbed_one(
    sweep: Sweep, cluster: Cluster, run: tuple[str, ...]
) -> None:
    submitter = sweep.begin(*run, "seed=0")
    array = sweep.array()
    sweep.one_at_work(set())
    cluster.ask("scancel", "--batch", "--signal=USR2", f"{array}_0")
    assert "1 job: 1 trained" in _ended(submitter, 0)
    assert f"task {array}_0 is queued again" in sweep.log(0)
    _same(sweep.job(0), _alone(sweep.folder, "alone", *run, "seed=0"))


# $4: the folder of `python -m grow_cli resume FOLDER`
_COUNTS = r"""#!/bin/bash
cd "$4" || exit 2
exec 8>>.lock; flock -n 8 || { echo "error: another process is using $4"; exit 2; }
mkdir -p checkpoints
[ -e checkpoints/last.pt ] || echo 0 >checkpoints/last.pt
step=$(cat checkpoints/last.pt)
saves() { echo $step >checkpoints/last.pt; printf '{\n "status": "%s"\n}\n' $1 >summary.json; exit $2; }
trap 'asked=${asked:-140}' USR2; trap 'asked=${asked:-143}' TERM
while [ $step -lt $(cat ../steps) ]; do
  sleep 0.5 8>&-
  step=$((step + 1)); echo $step >>taken
  [ -z "$asked" ] || saves interrupted $asked
done
saves finished 0
"""


class Counting:
    """A sweep of stand-ins, submitted and waited for in this process."""

    def __init__(self, cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster, self.folder = cluster, folder
        program = folder / "python"
        program.write_text(_COUNTS)
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)

    def jobs(self, count: int, steps: int, **how: Any) -> list[Job]:
        (self.folder / "steps").write_text(str(steps))
        config = SimpleNamespace(sweep=config_of.Sweep(engine="slurm", **how))
        folders = [self.folder / f"{number}-job" for number in range(count)]
        for path in folders:
            path.mkdir()
        return [Job(n, RunFolder(path), cast(Any, config), False) for n, path in enumerate(folders)]

    def train(self, jobs: list[Job], meanwhile: Callable[[], None] = lambda: None) -> list[str]:
        """What became of them; `meanwhile` is called beside it. What takes ten minutes is cancelled."""
        became: list[str] = []
        too_long = threading.Timer(600, self.cluster.cancel_all)
        too_long.start()
        beside = threading.Thread(target=meanwhile)
        beside.start()
        try:
            slurm.train(jobs, lambda job, word, why: became.append(word))
        finally:
            too_long.cancel()
            beside.join()
        return became

    def taken(self, job: Job) -> list[int]:
        path = job.folder.path / "taken"
        return [int(step) for step in path.read_text().split()] if path.exists() else []

    def at_step(self, job: Job, step: int) -> None:
        self.cluster.until(lambda: len(self.taken(job)) >= step)

    def log(self, job: Job) -> str:
        return (job.folder.path / "log.txt").read_text()


@pytest.fixture
def counting(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(cluster, tmp_path, monkeypatch)


def test_twelve_jobs_come_through_a_signal_kills_scancel_and_a_node_that_restarts(
    counting: Counting, cluster: Cluster
) -> None:
    jobs = counting.jobs(12, 40)
    met: list[Job] = []

    def at_work() -> Job:
        """One in the first half of its steps, that has not been met."""
        found: list[Job] = []

        def look() -> list[Job]:
            found.extend(j for j in jobs if j not in met and 3 < len(counting.taken(j)) < 20)
            return found

        cluster.until(look, 600)
        met.append(found[0])
        return found[0]

    def disturbs() -> None:
        array = json.loads(next(counting.folder.glob(".slurm/*.json")).read_text())["id"]
        cluster.ask("scancel", "--batch", "--signal=USR2", f"{array}_{at_work().number}")
        cluster.ask("scancel", f"{array}_{at_work().number}")
        cluster.kill(cluster.node("n1"))
        cluster.start_node("n1")
        cluster.kill(_process(at_work().folder.path))

    def begun_and_disturbed() -> None:
        cluster.until(lambda: list(counting.folder.glob(".slurm/*.json")))
        disturbs()

    assert sorted(counting.train(jobs, begun_and_disturbed)) == ["interrupted"] + ["trained"] * 11
    timed, cancelled, killed = met
    assert "is queued again" in counting.log(timed)
    assert "queued again" not in counting.log(cancelled)
    assert "ended with 137, and the job goes on again (1 of 2)" in counting.log(killed)
    assert counting.train([cancelled]) == ["trained"]
    for job in jobs:
        kept = counting.taken(job) if job is not killed else sorted(set(counting.taken(job)))
        assert kept == list(range(1, 41)), counting.log(job)


def test_a_job_longer_than_its_time_limit_gets_through(counting: Counting) -> None:
    (job,) = counting.jobs(1, 160, minutes=1, lead_seconds=10)
    assert counting.train([job]) == ["trained"]
    assert "is queued again" in counting.log(job)
    assert counting.taken(job) == list(range(1, 161))


@pytest.mark.parametrize("partition", ["low", "cut"])
def test_a_preempted_job_is_queued_again_where_slurm_requeues_and_where_it_cancels(
    partition: str, counting: Counting, cluster: Cluster
) -> None:
    (job,) = counting.jobs(1, 120, partition=partition)
    array: list[str] = []

    def preempts() -> None:
        counting.at_step(job, 5)
        array.append(json.loads(next(counting.folder.glob(".slurm/*.json")).read_text())["id"])
        cluster.say("sbatch", "--partition=high", "--nodes=2", "--output=/dev/null", "--wrap=sleep 1")

    assert counting.train([job], preempts) == ["trained"]
    assert "Restarts=1" in cluster.say("scontrol", "show", "job", f"{array[0]}_0")
    assert ("is queued again" in counting.log(job)) == (partition == "cut"), "elsewhere Slurm has done it itself"
    assert counting.taken(job) == list(range(1, 121))


def test_a_job_of_a_node_that_dies_goes_on_on_another(counting: Counting, cluster: Cluster) -> None:
    (job,) = counting.jobs(1, 60)
    died: list[str] = []

    def kills() -> None:
        counting.at_step(job, 5)
        array = json.loads(next(counting.folder.glob(".slurm/*.json")).read_text())["id"]
        died.append(cluster.say("squeue", "--noheader", f"--jobs={array}", "--Format=NodeList").strip())
        trained = _process(job.folder.path)
        above = [one for one in trained.parents() if one.name() in ("slurmstepd", "slurm_script")]
        cluster.kill(cluster.node(died[0]), *above, trained)

    assert counting.train([job], kills) == ["trained"]
    cluster.start_node(died[0])
    assert counting.taken(job)[-60:] == list(range(1, 61)), "from its last checkpoint, which it had at its beginning"
    assert len(counting.taken(job)) > 60


def test_ctrl_c_leaves_the_jobs_to_slurm_and_the_same_line_waits_for_them(
    counting: Counting, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = counting.jobs(3, 16)

    def interrupts() -> None:
        counting.at_step(jobs[0], 4)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        counting.train(jobs, interrupts)
    signal.signal(signal.SIGINT, before)
    assert "3 jobs left to Slurm: `squeue -j " in capsys.readouterr().out
    assert counting.train(jobs) == ["trained"] * 3
    told = capsys.readouterr().out
    assert "3 jobs in Slurm's queue already" in told
    assert "given to Slurm" not in told
    assert all(counting.taken(job) == list(range(1, 17)) for job in jobs)
