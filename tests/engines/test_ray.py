"""A real Ray cluster of two nodes on this machine: joined by address, a worker and a node killed, GPUs dealt out, Ctrl-C."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from same_run import same_end

pytest.importorskip("ray", reason="the extra ray")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(24),  # of this cluster alone, whatever the machine has
}
JOB = (
    *("dataset=digits", "model=mlp_tiny", "method=net2net", "growth.neurons=2", "subset=300", "device=cpu"),
    *("trigger=every", "trigger.every=100", "trigger.unit=steps"),
    *("evaluate.every=25", "evaluate.unit=steps", "stop.epochs=60"),
)
PATIENCE = 300


class Node:
    """Of a cluster: `ray start --block`, and what it began."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = folder / f"node-{'head' if '--head' in words else time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address=127.0.0.1"]
        size = ("--object-store-memory=100000000", "--disable-usage-stats")
        for _ in range(5):  # a node gives its agent 15 s to start in, which on a machine with other work may be too few
            with self.log.open("wb") as log:
                self._process = subprocess.Popen([*command, *size, *words], env=ENVIRONMENT, stdout=log, stderr=log)
            until(lambda: "Ray runtime started" in self.log.read_text() or self._process.poll() is not None)
            if self._process.poll() is None:
                return
            self.kill()
        raise AssertionError(self.log.read_text())

    def processes(self) -> list[psutil.Process]:
        try:
            top = psutil.Process(self._process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """Everything at once, as when a machine is switched off."""
        found = self.processes()
        for process in found:
            with_grace(process.kill)
        psutil.wait_procs(found, timeout=60)
        self._process.wait(timeout=60)


def with_grace(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except psutil.Error:
        return None


def until(holds: Callable[[], Any], says: Callable[[], str] = lambda: "") -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < end, says()
        time.sleep(0.1)
    return found


@pytest.fixture(autouse=True)
def _as_the_cluster_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, ENVIRONMENT[name])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Of a cluster's head, which is said to have four processors and two GPUs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = Node(folder, "--head", f"--port={port}", "--num-cpus=4", "--num-gpus=2", "--include-dashboard=false")
    yield f"127.0.0.1:{port}"
    head.kill()


def trainings(node: Node | None = None) -> list[psutil.Process]:
    """The processes that train a job, of all nodes or of one."""
    of = psutil.Process().children(recursive=True) if node is None else node.processes()
    return [p for p in of if "resume" in (with_grace(p.cmdline) or []) and "grow_cli" in with_grace(p.cmdline)]


def summaries(sweep: Path) -> dict[int, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sweep.glob("*/summary.json")]
    return {summary["seed"]: summary for summary in found}


def test_gpus_are_dealt_out_to_the_jobs_so_many_to_each(address: str, spawn: Callable, tmp_path: Path) -> None:
    sweep = spawn(
        *("train", "-m", *JOB, "sweep=ray", f"sweep.address={address}", "sweep.slots_per_gpu=2", "sweep.gpus=1"),
        *("seed=0,1,2,3,4,5", "run_dir=s"),
    )
    at_once: list[Counter[str]] = []
    while sweep.poll() is None:
        # by the job's folder: a process that begins another is there twice for a moment
        seen = {
            str(with_grace(p.cmdline)): (with_grace(p.environ) or {}).get("CUDA_VISIBLE_DEVICES") for p in trainings()
        }
        at_once.append(Counter(name for name in seen.values() if name is not None))
        time.sleep(0.1)
    out, err = sweep.communicate()
    assert sweep.returncode == 0, err
    assert "6 jobs, 4 at a time" in out
    assert "6 jobs: 6 trained" in out
    assert {name for seen in at_once for name in seen} == {"0", "1"}
    assert max(max(seen.values(), default=0) for seen in at_once) == 2, "two share a GPU, and never three"


def test_ctrl_c_ends_the_jobs_and_the_same_line_goes_on(address: str, spawn: Callable, tmp_path: Path) -> None:
    line = ("train", "-m", *JOB, "sweep=ray", f"sweep.address={address}", "seed=0,1,2,3,4,5", "run_dir=s")
    sweep = spawn(*line)
    until(lambda: list(tmp_path.glob("s/*/checkpoints/last.pt")))  # one that has begun
    running = trainings()
    assert running
    sweep.send_signal(signal.SIGINT)
    err = sweep.communicate(timeout=PATIENCE)[1]
    assert sweep.returncode == 130, err
    assert "run the same command with run_dir=" in err
    assert not psutil.wait_procs(running, timeout=30)[1], "a job trains on without its sweep"
    saved = [s for s in summaries(tmp_path / "s").values() if s["status"] == "interrupted"]
    assert saved, "those under way say at which step they were"
    assert any(s["steps"] % 25 for s in saved), "where they were, and not at their last evaluation"
    again = spawn(*line)
    _, err = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, err
    assert Counter(s["status"] for s in summaries(tmp_path / "s").values()) == {"finished": 6}


def test_twelve_of_twelve_finish_though_a_worker_and_a_node_are_killed(
    address: str, folder: Path, spawn: Callable, grow: Callable, tmp_path: Path
) -> None:
    other = Node(folder, f"--address={address}", "--num-cpus=2")
    sweep = spawn(
        *("train", "-m", *JOB, "sweep=ray", f"sweep.address={address}", "sweep.cpus=2"),
        *("seed=" + ",".join(map(str, range(12))), "run_dir=s"),
    )
    until(lambda: len(list(tmp_path.glob("s/*/checkpoints/last.pt"))) >= 2 and trainings(), sweep.poll)
    elsewhere = {p.pid for p in trainings(other)}
    of_head = next(p for p in trainings() if p.pid not in elsewhere)
    of_head.parent().kill()  # the worker; what it trains saves and ends by itself
    psutil.wait_procs([of_head], timeout=60)
    until(lambda: trainings(other), sweep.poll)
    other.kill()
    out, err = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, out + err
    assert "joined the Ray cluster of 2 nodes" in out
    assert "12 jobs, 3 at a time" in out
    assert "goes on again (its worker is lost: " in out, out
    assert "12 jobs: 12 trained" in out
    folders = {json.loads(path.read_text())["seed"]: path.parent for path in tmp_path.glob("s/*/summary.json")}
    statuses = {seed: s["status"] for seed, s in summaries(tmp_path / "s").items()}
    assert statuses == dict.fromkeys(range(12), "finished")
    again = [line.partition("seed=")[2].partition(":")[0] for line in out.splitlines() if "goes on again" in line]
    for seed in dict.fromkeys(again):
        assert grow("train", *JOB, f"seed={seed}", "threads=1", "progress=off", f"run_dir=alone-{seed}").code == 0
        same_end(tmp_path / f"alone-{seed}", folders[int(seed)])
