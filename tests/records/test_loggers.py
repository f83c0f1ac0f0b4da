"""Loggers: what each is told, once, across a resume too; and what is said where its package is missing."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from grow_cli.commands.train import compose
from grow_cli.errors import UserError
from grow_cli.loggers.base import Logger, Remote, numbers
from grow_cli.records.flat import flatten
from grow_cli.records.folder import RunFolder

CONFIG = {"seed": 3, "method": {"name": "tiny", "of": {}}, "optimizer": {"lr": 0.1}, "path": None}
ROWS = [
    {"step": step, "val_loss": 1 / (i + 1), "widths": "1-2", "test_loss": math.nan}
    for i, step in enumerate([10, 20, 20, 30])
]
EVENT = {"event": 1, "step": 20, "units_added": 4, "site": "hidden 1", "details": {"x": math.inf}}
SUMMARY = {"steps": 30, "status": "finished", "test_accuracy": 0.5, "architecture": {"hidden": [1]}, "nan": math.nan}


class Calls(list[tuple[Any, ...]]):
    """What a fake package was told, in order."""

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self if call[0] == name]


def inject(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A fake of the package."""
    calls = Calls()

    class Run:
        summary = SimpleNamespace(update=lambda values: calls.append(("summary", values)))

        def log(self, values: dict[str, Any], step: int) -> None:
            calls.append(("log", step, values))

        def finish(self, exit_code: int) -> None:
            calls.append(("finish", exit_code))

    def init(**settings: Any) -> Run:
        calls.append(("init", settings))
        return Run()

    inject(monkeypatch, "wandb", init=init, Settings=SimpleNamespace)
    return calls


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A fake of the package."""
    calls = Calls()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")

    class Client:
        def __init__(self, tracking_uri: str) -> None:
            calls.append(("uri", tracking_uri))

        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(self, name: str, artifact_location: str | None) -> str:
            calls.append(("experiment", name))
            return "7"

        def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
            calls.append(("run", experiment, run_name, tags))
            return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

        def get_metric_history(self, run: str, name: str) -> list[Any]:
            return [SimpleNamespace(step=step) for _, key, _, step in calls.of("metric") if key == name]

        def update_run(self, run: str, status: str) -> None:
            calls.append(("again", run, status))

        def log_batch(self, run: str, metrics: Any = (), params: Any = ()) -> None:
            calls.extend(("metric", run, name, value, step) for name, value, _, step in metrics)
            calls.extend(("param", *param) for param in params)

        def log_text(self, run: str, text: str, path: str) -> None:
            calls.append(("text", path, json.loads(text)))

        def set_terminated(self, run: str, status: str) -> None:
            calls.append(("end", run, status))

    inject(monkeypatch, "mlflow", MlflowClient=Client)
    inject(monkeypatch, "mlflow.entities", Metric=lambda *a: a, Param=lambda *a: a)
    return calls


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run folder that has a config."""
    folder = RunFolder(tmp_path / "run")
    folder.create({"config": CONFIG})
    folder.close()
    return folder.path


def start(folder: Path, *overrides: str) -> Logger:
    """The logger of these overrides."""
    logger: Logger = compose(list(overrides)).logger.build(folder)
    return logger


def tell(logger: Logger, rows: list[dict[str, Any]], *events: dict[str, Any]) -> None:
    for row in rows:
        logger.metrics(row)
    for event in events:
        logger.growth(event)


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)


def test_numbers_are_those_that_were_measured() -> None:
    assert numbers({"a": 1, "b": 0.5, "c": math.nan, "d": math.inf, "e": "1-2", "f": True, "g": None}) == {
        "a": 1,
        "b": 0.5,
    }


def test_a_config_is_flattened_to_the_keys_that_a_user_types() -> None:
    assert flatten(CONFIG) == {"seed": 3, "method.name": "tiny", "method.of": {}, "optimizer.lr": 0.1, "path": None}


def test_wandb_is_told_config_rows_growth_and_summary(wandb: Calls, run_folder: Path) -> None:
    logger = start(run_folder, "logger=wandb", "logger.project=p", "logger.group=g")
    tell(logger, ROWS[:2], EVENT)
    logger.summary(SUMMARY)
    logger.close()
    (settings,) = wandb.of("init")[0]
    assert (settings["project"], settings["group"], settings["entity"]) == ("p", "g", None)
    assert (settings["mode"], settings["resume"], settings["dir"]) == ("offline", None, str(run_folder))
    assert settings["config"] == CONFIG
    rows = [(10, {"step": 10, "val_loss": 1.0}), (20, {"step": 20, "val_loss": 0.5})]
    assert wandb.of("log")[:2] == rows
    step, growth = wandb.of("log")[2]
    assert (step, growth["growth/units_added"]) == (20, 4)
    assert json.loads(growth["growth/event"]) == EVENT | {"details": {"x": None}}
    assert wandb.of("summary")[0][0] == SUMMARY | {"nan": None}
    assert wandb[-1] == ("finish", 0)


def test_mlflow_is_told_config_rows_growth_and_summary(mlflow: Calls, run_folder: Path) -> None:
    logger = start(run_folder, "logger=mlflow", "logger.experiment=e")
    tell(logger, ROWS[:1], EVENT)
    logger.summary(SUMMARY)
    logger.close()
    assert mlflow.of("uri") == [(f"sqlite:///{run_folder / 'mlflow' / 'mlflow.db'}",)]
    assert mlflow.of("experiment") == [("e",)]
    assert mlflow.of("run") == [("7", "run", {})]
    assert ("optimizer.lr", "0.1") in mlflow.of("param")
    assert mlflow.of("metric") == [
        ("r1", "step", 10, 10),
        ("r1", "val_loss", 1.0, 10),
        ("r1", "growth/units_added", 4, 20),
        ("r1", "final/steps", 30, 30),
        ("r1", "final/test_accuracy", 0.5, 30),
    ]
    assert [path for path, _ in mlflow.of("text")] == ["growth/1.json", "summary.json"]
    assert mlflow[-1] == ("end", "r1", "FINISHED")


def test_mlflow_goes_where_it_is_told(mlflow: Calls, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://a")
    start(run_folder, "logger=mlflow").close()
    start(run_folder, "logger=mlflow", "logger.tracking_uri='http://b'").close()
    assert mlflow.of("uri") == [("http://a",), ("http://b",)]


def test_a_run_that_did_not_finish_is_marked_so(wandb: Calls, mlflow: Calls, run_folder: Path) -> None:
    for name in ("wandb", "mlflow"):
        start(run_folder, f"logger={name}").close()
    assert wandb[-1] == ("finish", 1)
    assert mlflow[-1] == ("end", "r1", "FAILED")


def test_a_resumed_run_goes_on_under_its_id_and_tells_nothing_twice(
    wandb: Calls, mlflow: Calls, run_folder: Path
) -> None:
    for name in ("wandb", "mlflow"):
        tell(start(run_folder, f"logger={name}"), ROWS[:3], EVENT)  # killed: never closed
        until(lambda: json.loads((run_folder / name / "sent.json").read_text())["events"] == 1)  # noqa: B023
        again = start(run_folder, f"logger={name}")
        again.resume(rows=1, events=0)
        tell(again, ROWS[1:], EVENT, EVENT | {"event": 2})
        again.close()
    ids = [settings["id"] for (settings,) in wandb.of("init")]
    assert len(ids) == 2
    assert ids[0] == ids[1]
    assert mlflow.of("again") == [("r1", "RUNNING")]
    assert len(mlflow.of("run")) == 1
    told = [values["val_loss"] for _, values in wandb.of("log") if "val_loss" in values]
    assert told == [row["val_loss"] for row in ROWS]
    assert [value for _, name, value, _ in mlflow.of("metric") if name == "val_loss"] == told
    assert [json.loads(v["growth/event"])["event"] for _, v in wandb.of("log") if "growth/event" in v] == [1, 2]


def test_what_a_checkpoint_knows_and_a_server_was_never_told_is_told_when_the_run_goes_on(
    wandb: Calls, mlflow: Calls, run_folder: Path
) -> None:
    folder = RunFolder(run_folder)
    for row in ROWS:
        folder.append_metrics(row)
    folder.append_growth(EVENT)
    for name in ("wandb", "mlflow"):
        first = start(run_folder, f"logger={name}")
        tell(first, ROWS[:1])  # the server went away then: neither the next two rows nor the event reached it
        first.close()
        again = start(run_folder, f"logger={name}")
        again.resume(rows=3, events=1)
        tell(again, ROWS[3:])
        again.close()
    told = [row["val_loss"] for row in ROWS]
    assert [value for _, name, value, _ in mlflow.of("metric") if name == "val_loss"] == told
    assert [values["val_loss"] for _, values in wandb.of("log") if "val_loss" in values] == told
    assert len([v for _, v in wandb.of("log") if "growth/event" in v]) == 1
    assert [path for path, _ in mlflow.of("text")] == ["growth/1.json"]


def test_a_row_that_was_told_and_not_noted_before_a_kill_is_not_told_twice_to_mlflow(
    mlflow: Calls, run_folder: Path
) -> None:
    first = start(run_folder, "logger=mlflow")
    tell(first, ROWS[:2], EVENT)
    first.close()
    sent = run_folder / "mlflow/sent.json"
    sent.write_text(json.dumps(json.loads(sent.read_text()) | {"rows": 1, "events": 0}))  # as the kill left it
    again = start(run_folder, "logger=mlflow")
    again.resume(rows=1, events=0)
    tell(again, ROWS[1:2], EVENT)
    tell(again, ROWS[3:])
    again.close()
    assert [step for _, name, _, step in mlflow.of("metric") if name == "step"] == [10, 20, 30]
    assert len(mlflow.of("text")) == 1


@pytest.mark.slow
def test_jobs_of_a_sweep_are_grouped_by_it(wandb: Calls, mlflow: Calls, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "mine" / "0-seed=3")
    folder.create({"config": CONFIG, "hydra": {"hydra": {"mode": "MULTIRUN"}}})
    folder.close()
    for name in ("wandb", "mlflow"):
        start(folder.path, f"logger={name}").close()
    assert wandb.of("init")[0][0]["group"] == "mine"
    assert mlflow.of("run") == [("7", "0-seed=3", {"grow.sweep": "mine"})]


def test_an_experiment_that_another_run_makes_at_this_moment_is_used(
    mlflow: Calls, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, there = sys.modules["mlflow"].MlflowClient, [None, SimpleNamespace(experiment_id="9")]

    def exists(*_: Any, **__: Any) -> str:
        raise RuntimeError("RESOURCE_ALREADY_EXISTS")

    monkeypatch.setattr(client, "create_experiment", exists)
    monkeypatch.setattr(client, "get_experiment_by_name", lambda self, name: there.pop(0))
    start(run_folder, "logger=mlflow").close()
    assert mlflow.of("run") == [("9", "run", {})]


def test_a_server_that_hangs_holds_up_neither_the_training_nor_its_end(
    mlflow: Calls, run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = start(run_folder, "logger=mlflow")
    monkeypatch.setattr(logger, "patience", 0.2)
    hangs = threading.Event()
    monkeypatch.setattr(sys.modules["mlflow"].MlflowClient, "log_batch", lambda *_, **__: hangs.wait(30))
    begun = time.monotonic()
    tell(logger, ROWS, EVENT)
    assert time.monotonic() - begun < 0.2
    logger.summary(SUMMARY)
    logger.close()
    assert time.monotonic() - begun < 5
    said = capsys.readouterr().err
    assert "logger=mlflow has not answered for 0.2 seconds: 7 of 7 messages have not arrived" in " ".join(said.split())
    assert json.loads((run_folder / "mlflow/sent.json").read_text())["rows"] == 0, "a resumed run will tell them"
    hangs.set()


def test_wandb_online_joins_its_earlier_part(wandb: Calls, run_folder: Path) -> None:
    start(run_folder, "logger=wandb", "logger.mode=online")
    assert wandb.of("init")[0][0]["resume"] == "allow"


def test_a_logger_that_fails_does_not_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Remote):
        name = "broken"

        def send(self, numbers: dict[str, float], step: int, **documents: dict[str, Any]) -> None:
            raise OSError("the server is gone")

    logger = Broken(tmp_path)
    tell(logger, ROWS)
    logger.close()
    said = capsys.readouterr().err
    assert (
        "logger=broken has failed and is disabled for this run (the server is gone); metrics.csv has every row" in said
    )
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_named_before_anything_is_read(
    name: str, grow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grow_cli.loggers.base.find_spec", lambda package: None)
    done = grow("train", f"logger={name}", "dataset=image_folder", "dataset.path=nowhere")
    assert done.code == 2
    assert f"logger={name} needs a package that is not installed: pip install 'grow-cli[{name}]'" in done.err


def test_a_logger_that_cannot_start_is_told_in_a_sentence(
    wandb: Calls, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("no account\nand much more")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(UserError, match=r"logger=wandb cannot start \(no account\): check its settings"):
        start(run_folder, "logger=wandb")


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UserError, match=r"logger\.mode=on: must be one of offline, online, disabled"):
        compose(["logger=wandb", "logger.mode='on'"])


@pytest.mark.slow
def test_a_run_tells_every_row_event_and_its_summary(
    wandb: Calls, grow: Any, small: tuple[str, ...], tmp_path: Path
) -> None:
    done = grow("train", *small, "logger=wandb", f"run_dir={tmp_path / 'run'}")
    assert done.code == 0, done.err
    folder = RunFolder(tmp_path / "run")
    rows = folder.metrics.read_text(encoding="utf-8").splitlines()[1:]
    events = folder.growth.read_text(encoding="utf-8").splitlines()
    told = [values for _, values in wandb.of("log")]
    assert sum("val_loss" in values for values in told) == len(rows)
    assert [json.loads(v["growth/event"]) for v in told if "growth/event" in v] == [json.loads(e) for e in events]
    assert json.loads(json.dumps(wandb.of("summary")[0][0])) == folder.read_summary()
    assert wandb[-1] == ("finish", 0)


@pytest.mark.slow
def test_a_resumed_run_tells_what_an_unbroken_one_would(
    wandb: Calls, grow: Any, small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from grow_cli.training.loop import Loop

    assert grow("train", *small, "logger=wandb", f"run_dir={tmp_path / 'whole'}").code == 0
    whole = wandb.of("log")
    wandb.clear()

    save = Loop.save

    def killed(self: Loop, *, best: bool) -> None:
        if self.session.progress.step >= 100:  # its row is told, its checkpoint is not written
            raise KeyboardInterrupt
        save(self, best=best)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "save", killed)
        assert grow("train", *small, "logger=wandb", f"run_dir={tmp_path / 'run'}").code == 130
    assert grow("resume", tmp_path / "run").code == 0
    timed = ("seconds", "growth_seconds", "growth/event")
    steps, rows = zip(*wandb.of("log"), strict=True)
    known, expected = zip(*whole, strict=True)
    assert steps == known
    assert [{k: v for k, v in row.items() if k not in timed} for row in rows] == [
        {k: v for k, v in row.items() if k not in timed} for row in expected
    ]
    ids = [settings["id"] for (settings,) in wandb.of("init")]
    assert len(ids) == 2
    assert ids[0] == ids[1]


@pytest.mark.filterwarnings("ignore")  # the packages warn as they please
@pytest.mark.parametrize("noted", [True, False], ids=["killed", "killed before it was noted what was told"])
def test_tensorboard_reads_back_what_it_was_told(noted: bool, run_folder: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tell(start(run_folder, "logger=tensorboard"), ROWS[:2], EVENT)  # killed: never closed
    sent = run_folder / "tensorboard/sent.json"
    if not noted:
        sent.write_text(json.dumps(json.loads(sent.read_text()) | {"rows": 1, "events": 0}))
    again = start(run_folder, "logger=tensorboard")
    again.resume(rows=1, events=0)
    tell(again, ROWS[1:], EVENT)
    again.summary(SUMMARY)
    again.close()
    read = EventAccumulator(str(run_folder / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in read.Scalars("val_loss")] == [
        (row["step"], pytest.approx(row["val_loss"])) for row in ROWS
    ]
    assert [(e.step, e.value) for e in read.Scalars("growth/units_added")] == [(20, 4)]
    assert read.Scalars("final/test_accuracy")[0].value == 0.5
    assert set(read.Tags()["tensors"]) == {f"{name}/text_summary" for name in ("config", "growth", "summary")}


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline_writes_files_and_needs_no_account(run_folder: Path) -> None:
    pytest.importorskip("wandb")
    logger = start(run_folder, "logger=wandb")
    tell(logger, ROWS, EVENT)
    logger.summary(SUMMARY)
    logger.close()
    assert [path.stat().st_size > 0 for path in (run_folder / "wandb").glob("offline-run-*/run-*.wandb")] == [True]
    assert json.loads((run_folder / "wandb" / "sent.json").read_text())["rows"] == len(ROWS)


@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_a_database_in_the_run_folder(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tell(start(run_folder, "logger=mlflow"), ROWS[:2], EVENT)  # killed: never closed
    until(lambda: json.loads((run_folder / "mlflow/sent.json").read_text())["events"] == 1)
    again = start(run_folder, "logger=mlflow")
    again.resume(rows=1, events=0)
    tell(again, ROWS[1:], EVENT)
    again.summary(SUMMARY)
    again.close()
    client = package.MlflowClient(tracking_uri=f"sqlite:///{run_folder / 'mlflow' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("grow").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.lr"] == "0.1"
    assert run.data.metrics["final/test_accuracy"] == 0.5
    assert len(client.get_metric_history(run.info.run_id, "val_loss")) == len(ROWS)
    assert [path.name for path in (run_folder / "mlflow").glob("artifacts/*/artifacts/*.json")] == ["summary.json"]
