"""A real Slurm on this machine: 12 jobs come through whatever happens to them, with the numbers of undisturbed runs.

`slurm_cluster` starts slurmctld, slurmd and munged. In the cluster of these tests a task that is queued again waits five seconds.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from engines.slurm_cluster import Cluster, absent

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
            if process.cmdline()[1:] == ["-m", "grow_cli", "resume", str(job)]:
                return process
        except psutil.Error:
            continue
    raise AssertionError(f"nothing trains {job}")


def test_twelve_jobs_come_through_signals_preemption_kills_and_a_node_that_restarts(
    sweep: Sweep, cluster: Cluster, run: tuple[str, ...]
) -> None:
    submitter = sweep.begin(*run, "seed=" + ",".join(map(str, range(12))))
    array = sweep.array()
    timed = sweep.one_at_work(set())
    cluster.ask("scancel", "--batch", "--signal=USR2", f"{array}_{timed}")  # as a time limit announces itself
    cancelled = sweep.one_at_work({timed})
    cluster.ask("scancel", f"{array}_{cancelled}")
    cluster.kill(cluster.node("n1"))
    cluster.start_node("n1")
    killed = sweep.one_at_work({timed, cancelled})
    cluster.kill(_process(sweep.job(killed)))
    sweep.one_at_work({timed, cancelled, killed})
    urgent = cluster.say(
        "sbatch", "--parsable", "--partition=high", "--nodes=2", "--output=/dev/null", "--wrap=sleep 1"
    )
    cluster.until(lambda: "JobState=COMPLETED" in cluster.say("scontrol", "show", "job", urgent.strip()), 200)
    again = {seed for seed in range(12) if "Restarts=0" not in sweep.shown(seed)}
    assert timed in again
    preempted = (again - {timed, cancelled, killed}).pop()
    out = _ended(submitter, 1)
    assert f"12 jobs given to Slurm: `squeue -j {array}` shows what waits and runs" in out
    assert f"seed={cancelled}: interrupted (it was cancelled)" in out
    assert "12 jobs: 11 trained, 1 interrupted" in out
    assert f"task {array}_{timed} is queued again" in sweep.log(timed)
    assert "the process ended with 137, and the job goes on again (1 of 2)" in sweep.log(killed)
    assert "queued again" not in sweep.log(cancelled)
    once_more = _ended(sweep.begin(*run, "seed=" + ",".join(map(str, range(12)))), 0)
    assert "1 job given to Slurm" in once_more
    assert "12 jobs: 1 resumed and finished, 11 finished already" in once_more
    for seed in {timed, cancelled, killed, preempted}:
        _same(sweep.job(seed), _alone(sweep.folder, f"alone-{seed}", *run, f"seed={seed}"))


def test_a_job_longer_than_its_time_limit_and_than_its_evaluations_gets_through(sweep: Sweep, pace: float) -> None:
    """The limit is a real one; Slurm gives its signal up to 30 seconds early, and torch takes some to start."""
    long = _run(int(110 * pace), 1)
    out = _ended(sweep.begin(*long, "seed=0", "sweep.minutes=2", "sweep.lead_seconds=10"), 0)
    assert "1 job: 1 trained" in out
    assert "is queued again" in sweep.log(0)
    _same(sweep.job(0), _alone(sweep.folder, "alone", *long, "seed=0"))


def test_a_job_that_is_preempted_by_cancelling_is_queued_again(
    sweep: Sweep, cluster: Cluster, run: tuple[str, ...]
) -> None:
    submitter = sweep.begin(*run, "seed=0", "sweep.partition=cut")
    sweep.one_at_work(set())
    cluster.say("sbatch", "--parsable", "--partition=high", "--nodes=2", "--output=/dev/null", "--wrap=sleep 1")
    assert "1 job: 1 trained" in _ended(submitter, 0)
    assert "is queued again" in sweep.log(0)
    _same(sweep.job(0), _alone(sweep.folder, "alone", *run, "seed=0"))


def test_a_job_of_a_node_that_dies_goes_on_on_another(sweep: Sweep, cluster: Cluster, run: tuple[str, ...]) -> None:
    submitter = sweep.begin(*run, "seed=0", 'sweep.options=["--nodelist=n2"]')
    sweep.one_at_work(set())
    cluster.say("scontrol", "update", f"JobId={sweep.array()}_0", "ReqNodeList=")
    trained = _process(sweep.job(0))
    cluster.kill(cluster.node("n2"), *_above(trained), trained)
    assert "1 job: 1 trained" in _ended(submitter, 0)
    cluster.start_node("n2")
    _same(sweep.job(0), _alone(sweep.folder, "alone", *run, "seed=0"))


def _above(process: psutil.Process) -> list[psutil.Process]:
    """The batch script and the daemon that began it."""
    return [one for one in process.parents() if one.name() in ("slurmstepd", "bash", "slurm_script")]


def test_ctrl_c_leaves_the_jobs_to_slurm_and_the_same_line_waits_for_them(
    sweep: Sweep, cluster: Cluster, run: tuple[str, ...]
) -> None:
    words = (*(o for o in run if not o.startswith("subset")), "seed=0,1,2", "subset=300,1000000")
    first = sweep.begin(*words)
    array = sweep.array()
    cluster.until(lambda: list(sweep.folder.glob("s/*/checkpoints/last.pt")), 300)
    first.send_signal(signal.SIGINT)
    out = _ended(first, 130)
    assert f"left to Slurm: `squeue -j {array}` shows what waits and runs, `scancel {array}` ends it" in out
    out = _ended(sweep.begin(*words), 1)
    assert f"in Slurm's queue already: `squeue -j {array}`" in out
    assert "given to Slurm" not in out
    assert "3 failed" in out
    assert "subset=1000000" in out
    left = [json.loads(path.read_text()) for path in sweep.folder.glob("s/*/summary.json")]
    assert [summary["status"] for summary in left] == ["finished"] * 3
