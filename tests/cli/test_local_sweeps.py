"""`sweep=local`: what dies goes on again, what would fail again does not, and nothing is trained twice."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from grow_cli import cli
from grow_cli.commands import children, local
from grow_cli.errors import UserError
from grow_cli.records.jobs import Entry, Jobs, read_jobs, write_jobs


class Processes:
    """Stands for `children.run`: one job after another in this process; `dies`: a job's number → how often it is killed."""

    def __init__(self) -> None:
        self.dies: Counter[str] = Counter()
        self.begun: list[str] = []
        self.environments: list[dict[str, str]] = []

    def run(
        self,
        commands: list[list[str]],
        at_once: int,
        done: Callable[[children.Ended], bool],
        environment: Callable[[int], dict[str, str]],
        begins: Callable[[list[str]], None],
    ) -> None:
        waiting = list(commands)
        for number, arguments in enumerate(waiting):
            name = Path(arguments[1]).name
            begins(arguments)
            self.begun.append(name)
            self.environments.append(environment(number % at_once))
            killed = self.dies[name.partition("-")[0]]
            self.dies[name.partition("-")[0]] -= 1
            code = -signal.SIGKILL if killed > 0 else cli._run(arguments)
            err = "error: the words of its process\n" if code in (1, 2) else ""
            if done(children.Ended(arguments, code, "printed\n", err)):
                waiting.append(arguments)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    found = Processes()
    monkeypatch.setattr(local.children, "run", found.run)
    return found


@pytest.fixture
def sweep(small: tuple[str, ...]) -> tuple[str, ...]:
    return ("train", "-m", *small, "sweep=local", "stop.epochs=2", "run_dir=s")


def _summaries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/summary.json"))]


def test_jobs_are_trained_once_and_as_a_run_alone(
    processes: Processes, sweep: tuple[str, ...], grow: Callable, tmp_path: Path
) -> None:
    first = grow(*sweep, "seed=0,1", "sweep.jobs=2")
    assert (first.code, "2 jobs: 2 trained" in first.out) == (0, True), first.err
    assert "2 jobs, 2 at a time" in first.out
    assert "job 2 of 2: seed=1: trained, val_accuracy" in first.out
    assert all(path.read_text() == "printed\n" for path in tmp_path.glob("s/*/log.txt"))
    again = grow(*sweep, "seed=0,1,2", "sweep.jobs=1", "sweep.retries=0")
    assert (again.code, "3 jobs: 1 trained, 2 finished already" in again.out) == (0, True), again.err
    assert len(processes.begun) == len(set(processes.begun)) == 3
    assert grow("train", *sweep[2:-1], "seed=1", "run_dir=alone").code == 0
    alone = json.loads((tmp_path / "alone/summary.json").read_text())
    assert [s["test_loss"] for s in _summaries(tmp_path / "s") if s["seed"] == 1] == [alone["test_loss"]]


@pytest.mark.slow
def test_a_job_whose_process_dies_goes_on_again_so_often_as_asked(
    processes: Processes, sweep: tuple[str, ...], grow: Callable, tmp_path: Path
) -> None:
    processes.dies = Counter({"1": 2})
    left = grow(*sweep, "seed=0,1", "sweep.retries=1")
    assert left.code == 1
    assert "1 trained, 1 crashed" in left.out
    assert "goes on again (its process was ended by SIGKILL)" in left.out
    assert "1 run of the sweep did not finish: 1-" in left.err
    processes.dies = Counter({"1": 2})
    assert "1 trained, 1 finished already" in grow(*sweep, "seed=0,1", "sweep.retries=2").out


@pytest.mark.slow
def test_a_job_that_would_fail_again_is_not_tried_again(
    processes: Processes, sweep: tuple[str, ...], grow: Callable
) -> None:
    left = grow(*sweep, "subset=300,1000000")
    assert left.code == 1
    assert "2 jobs: 1 trained, 1 failed" in left.out
    assert "the words of its process" in left.out
    assert len(processes.begun) == 2
    asked = grow("sweep", "status", "s").out
    assert "2 jobs: 1 finished, 1 failed\n" in asked
    assert "failed       subset=1000000: the words of its process\n" in asked


@pytest.mark.slow
def test_retry_goes_on_with_what_did_not_finish(
    processes: Processes, sweep: tuple[str, ...], grow: Callable, tmp_path: Path
) -> None:
    processes.dies = Counter({"1": 1})
    assert grow(*sweep, "seed=0,1", "sweep.retries=0").code == 1
    asked = grow("sweep", "status", "s").out
    assert "crashed      seed=1: its process was ended by SIGKILL\n" in asked
    assert "  grow sweep retry s\n" in asked
    retried = grow("sweep", "retry", "s")
    assert (retried.code, "1 job: 1 trained" in retried.out) == (0, True), retried.err
    assert [s["status"] for s in _summaries(tmp_path / "s")] == ["finished"] * 2
    assert grow("sweep", "retry", "s").out == "all jobs are finished\n"
    assert "nowhere does not exist" in grow("sweep", "retry", "nowhere").err


@pytest.mark.slow
def test_retry_ends_with_the_ranking_of_all_jobs_and_names_the_line_of_those_that_never_began(
    processes: Processes, sweep: tuple[str, ...], grow: Callable, tmp_path: Path
) -> None:
    processes.dies = Counter({"1": 1})
    assert grow(*sweep, "optimizer.lr=1e-3,2e-3", "sweep.retries=0").code == 1
    known = read_jobs(tmp_path / "s")
    never = Entry("2-x", ("optimizer.lr=3e-3",), "optimizer.lr=3e-3")
    write_jobs(tmp_path / "s", Jobs((*known.entries, never), known.lines))
    retried = grow("sweep", "retry", "s")
    assert "1 job: 1 trained" in retried.out
    assert retried.out.count("optimizer.lr=") == 3, "a line of the job that was trained, and two ways"
    assert "1 job of the sweep was never begun: type grow train -m " in retried.err


@pytest.mark.slow
def test_jobs_are_spread_over_the_gpus(
    processes: Processes, sweep: tuple[str, ...], grow: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    wanted = [o for o in sweep if not o.startswith("device=")]
    left = grow(*wanted, "seed=0,1,2,3", "sweep.slots_per_gpu=2", "device=auto")
    assert "4 jobs, 4 at a time" in left.out
    assert [e["CUDA_VISIBLE_DEVICES"] for e in processes.environments] == ["5", "7", "5", "7"]


def test_a_sweeper_that_needs_results_at_once_is_refused() -> None:
    local.refuse_search("hydra._internal.core_plugins.basic_sweeper.BasicSweeper")
    with pytest.raises(UserError, match="needs each job's score at once"):
        local.refuse_search("hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper")


@pytest.mark.slow
def test_twelve_jobs_survive_kills_of_a_job_and_of_the_sweep(
    small: tuple[str, ...], spawn: Callable, grow: Callable, tmp_path: Path
) -> None:
    typed = ("train", "-m", *small, "sweep=local", "sweep.jobs=2", "stop.epochs=20", "run_dir=s")
    seeds = "seed=" + ",".join(map(str, range(11)))
    parent = spawn(*typed, seeds)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("s/*/checkpoints/last.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    jobs = psutil.Process(parent.pid).children(recursive=True)
    jobs[0].kill()
    while len(_summaries(tmp_path / "s")) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    jobs = psutil.Process(parent.pid).children(recursive=True)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate(timeout=60)
    assert not psutil.wait_procs(jobs, timeout=60)[1], "a job trains on without its sweep"
    finished = {p: p.stat().st_mtime_ns for p in tmp_path.glob("s/*/summary.json")}
    before = {p for p in finished if json.loads(p.read_text())["status"] == "finished"}
    again = spawn(*typed, seeds)
    out, err = again.communicate(timeout=500)
    assert again.returncode == 0, err
    assert f"{len(before)} finished already" in out
    assert all(p.stat().st_mtime_ns == finished[p] for p in before), "none is trained twice"
    assert [s["status"] for s in _summaries(tmp_path / "s")] == ["finished"] * 11
    assert grow("train", *small, "stop.epochs=20", "seed=0", "threads=1", "run_dir=alone").code == 0
    nets = [
        torch.load(p / "checkpoints/last.pt", weights_only=True)["model"]
        for p in (tmp_path / "alone", *tmp_path.glob("s/0-*"))
    ]
    assert all(torch.equal(tensor, nets[1][name]) for name, tensor in nets[0].items())


def test_processes_of_torchrun_do_not_each_train_the_sweep(grow: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    left = grow("train", "-m", "seed=0,1", "run_dir=r")
    assert left.code == 2
    assert "torchrun began 2 processes" in left.err
    assert "MASTER_ADDR" in grow("train", "run_dir=r").err
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert "torchrun" not in grow("train", "run_dir=r", "method=nothing").err
