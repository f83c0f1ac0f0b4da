"""A real Slurm on this machine: jobs come through whatever happens to them.

`slurm_cluster` starts slurmctld, slurmd and munged. Most jobs are stand-ins that count their steps and save as a run does: none
may be missing, and none taken twice. Twelve are trainings, and end with the numbers of runs that nothing interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from engines.slurm_cluster import Cluster, absent
from same_run import same_end

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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    yield found
    found.close()


def _process(job: Path) -> psutil.Process:
    """The one that trains a job."""
    for process in psutil.process_iter():
        try:
            if process.cmdline()[-4:] == ["-m", "grow_cli", "resume", str(job)]:
                return process
        except psutil.Error:
            continue
    raise AssertionError(f"nothing trains {job}")


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
            slurm.train(jobs, lambda job, word, why: became.append(word), jobs[0].config.sweep)
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


# seconds of training, growing: between a preemption and the end of its grace there is time enough on a quick machine, too
TRAINING = (
    *("dataset=digits", "subset=300", "model=mlp_tiny", "method=net2net", "growth.neurons=2", "trigger=every"),
    *("trigger.every=500", "trigger.unit=steps", "evaluate.every=500", "evaluate.unit=steps", "stop.epochs=null"),
    *("device=cpu", "threads=1"),
)  # fmt: skip


class Trainings:
    """A sweep of real runs, typed as a user does."""

    def __init__(self, cluster: Cluster, folder: Path, spawn: Callable, *line: str) -> None:
        self.cluster, self.folder = cluster, folder
        self.sweep = spawn("train", "-m", *TRAINING, *line, "sweep=slurm", f"run_dir={folder.name}")

    def array(self) -> tuple[str, list[Path]]:
        """Its id, and its jobs' folders in the order of its tasks; empty where nothing is submitted yet, or all is over."""
        for record in self.folder.glob(".slurm/*.json"):
            found = json.loads(record.read_text())
            return found["id"], [self.folder / name for name in found["jobs"]]
        return "", []

    def preempt_each_once(self) -> list[Path]:
        """When it has its first checkpoint, by a job that wants its node; those that were asked to make room."""
        met: list[Path] = []
        while self.sweep.poll() is None:
            array, folders = self.array()
            running = self.cluster.say("squeue", "-h", f"--jobs={array}", "--states=R", "--Format=ArrayTaskID,NodeList")
            for number, node in (line.split() for line in running.splitlines() if array):
                job = folders[int(number)]
                if job not in met and (job / "checkpoints/last.pt").exists():
                    met.append(job)
                    urgent = ("--partition=high", f"--nodelist={node}", "--output=/dev/null", "--wrap=sleep 1")
                    self.cluster.say("sbatch", *urgent)
            time.sleep(0.2)
        return met

    def logs(self) -> list[str]:
        return [path.read_text() for path in sorted(self.folder.glob("*/log.txt"))]


def _as_alone(grow: Callable, trainings: Trainings, *line: str) -> None:
    """Every job of a sweep has the numbers of the same line without Slurm."""
    assert grow("train", "-m", *TRAINING, *line, "progress=off", "run_dir=alone").code == 0
    jobs = [path.parent for path in sorted(trainings.folder.glob("*/summary.json"))]
    alone = {json.loads(path.read_text())["seed"]: path.parent for path in Path("alone").glob("*/summary.json")}
    for job in jobs:
        same_end(alone.pop(json.loads((job / "summary.json").read_text())["seed"]), job)
    assert not alone


@pytest.fixture
def in_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return cluster


@pytest.mark.parametrize(("partition", "seeds"), [("low", "0,1,2,3,4,5"), ("cut", "6,7,8,9,10")])
def test_trainings_that_are_preempted_are_queued_again_and_end_as_undisturbed_ones(
    partition: str, seeds: str, in_cluster: Cluster, spawn: Callable, grow: Callable, tmp_path: Path
) -> None:
    line = (f"seed={seeds}", "stop.steps=10000")
    trainings = Trainings(in_cluster, tmp_path / "s", spawn, *line, f"sweep.partition={partition}")
    met = trainings.preempt_each_once()
    out, err = trainings.sweep.communicate()
    jobs = len(seeds.split(","))
    assert f"{jobs} jobs: {jobs} trained" in out, out + err
    assert len(met) == jobs
    assert all("interrupted: continue with" in log for log in trainings.logs()), (
        "each has saved when its node was wanted"
    )
    _as_alone(grow, trainings, *line)


def test_a_training_longer_than_its_time_limit_ends_as_one_without_a_limit(
    in_cluster: Cluster, spawn: Callable, grow: Callable, tmp_path: Path
) -> None:
    line = ("seed=11", "stop.steps=50000")
    limit = ("sweep.minutes=1", "sweep.lead_seconds=10")
    trainings = Trainings(in_cluster, tmp_path / "s", spawn, *line, *limit)
    out, err = trainings.sweep.communicate(timeout=1800)
    assert "1 job: 1 trained" in out, out + err
    assert "is queued again" in trainings.logs()[0]
    _as_alone(grow, trainings, *line)
