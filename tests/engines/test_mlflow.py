"""A real MLflow server on this machine: first runs at once, a run that is killed, a server that stops answering."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from grow_cli.loggers.base import Remote
from grow_cli.loggers.patient import Patient
from grow_cli.training.loop import Loop

mlflow = pytest.importorskip("mlflow")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # it warns as it pleases

RUN = (
    *("subset=300", "method=net2net", "model=mlp", "model.hidden=[4]", "trigger=every", "trigger.every=40", "trigger.unit=steps"),
    *("evaluate.every=10", "evaluate.unit=steps", "stop.epochs=null", "stop.steps=200", "growth.neurons=2", "logger=mlflow"),
)  # fmt: skip
QUICK = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


class Server:
    """Of MLflow, with a database of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{port}"
        store = ("--backend-store-uri", f"sqlite:///{folder / 'm.db'}", "--artifacts-destination", str(folder / "a"))
        command = [sys.executable, "-m", "mlflow", "server", *store, "--host", "127.0.0.1", "--port", str(port)]
        self._log = (folder / "server.log").open("wb")
        # one worker: of several it kills those that do not answer within 5 s, on a busy machine before they have begun
        self._server = subprocess.Popen(
            [*command, "--workers", "1"], stdout=self._log, stderr=self._log, start_new_session=True
        )
        self.client = mlflow.MlflowClient(tracking_uri=self.uri)
        end = time.monotonic() + 300
        while not self._answers():
            assert time.monotonic() < end, (folder / "server.log").read_text()
            assert self._server.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.5)

    def _answers(self) -> bool:
        with socket.socket() as there:
            there.settimeout(1)
            return there.connect_ex(("127.0.0.1", int(self.uri.rpartition(":")[2]))) == 0

    def signal(self, number: int) -> None:
        os.killpg(self._server.pid, number)

    def close(self) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        self._server.wait()
        self._log.close()

    def runs(self) -> list[Any]:
        return list(self.client.search_runs([self.client.get_experiment_by_name("grow").experiment_id]))

    def rows(self, run: Any) -> list[int]:
        return sorted(m.step for m in self.client.get_metric_history(run.info.run_id, "val_loss"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path / "server")
    yield found
    found.close()


def _grow(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "grow_cli", *words, "progress=off"],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _ended(run: subprocess.Popen[str]) -> str:
    out, _ = run.communicate(timeout=600)
    assert run.returncode == 0, out
    return out


def test_eight_first_runs_at_once_against_a_fresh_server_lose_nothing(server: Server, tmp_path: Path) -> None:
    line = ("train", "-m", "sweep=local", "sweep.jobs=8", "sweep.retries=0", "seed=0,1,2,3,4,5,6,7", *RUN)
    _ended(_grow(tmp_path, *line, f"logger.tracking_uri={server.uri}", "run_dir=eight"))
    runs = server.runs()
    assert len(runs) == 8
    for run in runs:
        assert run.info.status == "FINISHED"
        assert server.rows(run) == list(range(10, 201, 10))
        assert run.data.tags["grow.sweep"] == "eight"


def test_a_run_that_is_killed_and_resumed_has_every_row_and_event_once(server: Server, tmp_path: Path) -> None:
    run = _grow(tmp_path, "train", *RUN, f"logger.tracking_uri={server.uri}", "run_dir=killed", "stop.steps=2000")
    sent = tmp_path / "killed/mlflow/sent.json"
    while run.poll() is None and not (sent.exists() and json.loads(sent.read_text())["rows"] >= 12):
        time.sleep(0.02)
    run.kill()
    run.communicate()
    _ended(_grow(tmp_path, "resume", "killed"))
    (found,) = server.runs()
    assert found.info.status == "FINISHED"
    assert server.rows(found) == sorted(pd.read_csv(tmp_path / "killed/metrics.csv")["step"])
    events = (tmp_path / "killed/growth.jsonl").read_text().splitlines()
    told = server.client.get_metric_history(found.info.run_id, "growth/units_added")
    assert len(told) == len(events)
    assert len(server.client.list_artifacts(found.info.run_id, "growth")) == len(events)


def test_a_server_that_stops_answering_holds_up_no_training_and_is_told_the_rest_when_the_run_goes_on(
    server: Server, tmp_path: Path
) -> None:
    keys = ("schedule=constant", "growth.until=1", f"logger.tracking_uri={server.uri}")
    run = _grow(tmp_path, "train", *RUN, *keys, "run_dir=hung", "stop.steps=600", **QUICK)
    sent = tmp_path / "hung/mlflow/sent.json"
    while run.poll() is None and not (sent.exists() and json.loads(sent.read_text())["rows"] >= 3):
        time.sleep(0.02)
    server.signal(signal.SIGSTOP)
    out = _ended(run)
    assert "logger=mlflow" in out
    assert "metrics.csv has every row" in " ".join(out.split())
    summary = json.loads((tmp_path / "hung/summary.json").read_text())
    assert summary["status"] == "finished"
    assert json.loads(sent.read_text())["rows"] < 60
    server.signal(signal.SIGCONT)
    time.sleep(1)
    _ended(_grow(tmp_path, "resume", "hung", "stop.steps=620"))
    found = next(r for r in server.runs() if r.info.run_name == "hung")
    assert server.rows(found) == list(range(10, 621, 10))


class Spent:
    """Seconds spent in calls of a function, by the given clock."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, name: str, clock: Callable[[], float]) -> None:
        self.seconds, self.calls = 0.0, 0
        inner = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            begun = clock()
            try:
                return inner(*args, **options)
            finally:
                self.seconds += clock() - begun
                self.calls += 1

        patch.setattr(owner, name, timed)


def test_training_keeps_its_pace_within_a_twentieth_while_the_server_hangs(
    server: Server, grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Patient, "patience", 5.0)
    waited = [Spent(monkeypatch, Remote, name, time.perf_counter) for name in ("metrics", "growth")]
    beside = Spent(
        monkeypatch, Remote, "_try", time.thread_time
    )  # in the logger's thread, which takes turns with training
    trained = Spent(monkeypatch, Loop, "train", time.thread_time)
    sent = tmp_path / "hung/mlflow/sent.json"
    stopped_at: list[float] = []

    def stops() -> None:
        while not (sent.exists() and json.loads(sent.read_text())["rows"] >= 3):
            time.sleep(0.01)
        server.signal(signal.SIGSTOP)
        stopped_at.append(beside.seconds)

    threading.Thread(target=stops, daemon=True).start()
    keys = ("schedule=constant", "growth.until=1", "stop.steps=6000", "threads=1", "progress=off", "run_dir=hung")
    assert grow("train", *RUN, *keys, f"logger.tracking_uri={server.uri}").code == 0
    summary = json.loads((tmp_path / "hung/summary.json").read_text())
    assert stopped_at
    assert json.loads(sent.read_text())["rows"] < 60, "the server hung for nine tenths of the run at least"
    assert waited[0].calls == 600
    waiting = sum(one.seconds for one in waited) / summary["seconds"]
    sending = (beside.seconds - stopped_at[0]) / trained.seconds
    print(
        f"\n{waiting:.2%} of {summary['seconds']:.1f} s of training in the logger; its thread took {sending:.2%} as much CPU"
    )
    assert waiting + sending < 0.05
