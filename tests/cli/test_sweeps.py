"""A sweep into one folder can be repeated and extended: what is done is not done again, and nothing is overwritten."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import torch

from grow_cli.commands import sweep as sweeping
from grow_cli.commands.train import _job, compose
from grow_cli.records.folder import RunFolder
from grow_cli.training.interrupts import Interrupts

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def sweep(small: tuple[str, ...]) -> tuple[str, ...]:
    """A sweep into the folder `s` whose jobs grow once and take half a second each."""
    return ("train", "-m", *small, "stop.epochs=6", "trigger.every=25", "growth.max_events=1", "run_dir=s")


def _files(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def _seeds(folder: Path) -> list[int]:
    return sorted(json.loads(p.read_text())["seed"] for p in folder.glob("*/summary.json"))


@pytest.mark.slow
def test_a_repeated_sweep_trains_nothing(grow: Callable, sweep: tuple[str, ...], tmp_path: Path) -> None:
    first = grow(*sweep, "seed=0,1")
    assert (first.code, "2 jobs: 2 trained" in first.out) == (0, True), first.err
    assert "What it reached" not in first.out, "a job ends in one line"
    lines = [line for line in first.out.splitlines() if line.startswith("val_accuracy ")]
    assert all(
        re.match(r"val_accuracy 0\.\d+, grew 1 time to [\d,]+ parameters \([\d-]+\), \d+ s; ", line) for line in lines
    )
    assert [line.partition("; s/")[2][:2] for line in lines] == ["0-", "1-"]
    runs = [_files(p) for p in sorted((tmp_path / "s").glob("[0-9]*"))]
    again = grow(*sweep, "seed=0,1", "progress=off")
    assert (again.code, "2 of 2 jobs were finished already" in again.out) == (0, True), again.err
    assert "What it reached" not in again.out
    assert [_files(p) for p in sorted((tmp_path / "s").glob("[0-9]*"))] == runs
    assert not list((tmp_path / "s").glob(".jobs*"))


@pytest.mark.parametrize(
    "more",
    [
        ("threads=2", "device=cpu", "evaluate.batch_size=50", "logger=[csv]"),
        pytest.param(("checkpoint.every=3", "progress=lines"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_sweep_typed_again_with_what_does_not_make_another_run_trains_nothing(
    more: tuple[str, ...], grow: Callable, sweep: tuple[str, ...], tmp_path: Path
) -> None:
    assert grow(*sweep).code == 0
    before = sorted(path.name for path in (tmp_path / "s").iterdir() if path.is_dir())
    again = grow(*sweep, *more)
    assert again.code == 0, again.err
    assert "1 of 1 job was finished already" in " ".join(again.out.split())
    assert sorted(path.name for path in (tmp_path / "s").iterdir() if path.is_dir()) == before
    assert grow("compare", "s").code == 0


@pytest.mark.slow
def test_a_key_that_is_swept_over_makes_jobs_whatever_its_role(
    grow: Callable, small: tuple[str, ...], tmp_path: Path
) -> None:
    assert grow("train", "-m", *small, "threads=1,2", "run_dir=s").code == 0
    assert len(list((tmp_path / "s").glob("*/summary.json"))) == 2


@pytest.mark.slow
def test_an_extended_sweep_finds_its_jobs_whatever_their_number(
    grow: Callable, sweep: tuple[str, ...], tmp_path: Path
) -> None:
    assert grow(*sweep, "seed=1").code == 0
    (first,) = (tmp_path / "s").glob("0-*")
    before = _files(first)
    outcome = grow(*sweep, "seed=0,1,2")
    assert (outcome.code, "3 jobs: 2 trained, 1 finished already" in outcome.out) == (0, True), outcome.err
    assert _files(first) == before
    assert _seeds(tmp_path / "s") == [0, 1, 2]
    assert len(list((tmp_path / "s").glob("[0-9]*"))) == 3, "no empty folder is left behind"


@pytest.mark.slow
def test_an_interrupted_job_ends_as_the_whole_one(
    grow: Callable, sweep: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert grow(*sweep[:-1], "run_dir=whole", "seed=0,1").code == 0
    looks = 0

    def arrived(self: Interrupts) -> int | None:
        nonlocal looks
        looks += 1
        return signal.SIGTERM if looks >= 90 else None

    with monkeypatch.context() as patched:
        patched.setattr(Interrupts, "__call__", arrived)
        cut = grow(*sweep, "seed=0,1")
    assert (cut.code, "run_dir=" in cut.err) == (143, True)
    outcome = grow(*sweep, "seed=0,1")
    assert (outcome.code, "1 resumed" in outcome.out, "1 finished already" in outcome.out) == (0, True, True)
    for one, other in zip(*(sorted((tmp_path / name).glob("[0-9]*")) for name in ("whole", "s")), strict=True):
        assert one.name == other.name
        clocks = ["seconds", "growth_seconds"]
        frames = [pd.read_csv(p / "metrics.csv").drop(columns=clocks) for p in (one, other)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
        nets = [torch.load(p / "checkpoints/last.pt", weights_only=True)["model"] for p in (one, other)]
        assert all(torch.equal(tensor, nets[1][name]) for name, tensor in nets[0].items())
        ends = [json.loads((p / "summary.json").read_text()) for p in (one, other)]
        assert ends[0]["test_loss"] == ends[1]["test_loss"]
        assert ends[0]["events"] == 1


@pytest.mark.slow
def test_a_job_that_was_killed_before_its_first_checkpoint_is_begun(
    grow: Callable, sweep: tuple[str, ...], tmp_path: Path
) -> None:
    assert grow(*sweep, "seed=0").code == 0
    (folder,) = (tmp_path / "s").glob("0-*")
    for path in [*folder.glob("*.*"), *folder.glob("checkpoints/*")]:
        if path.is_file() and path.name != ".lock":
            path.unlink()
    (folder / "checkpoints").rmdir()
    outcome = grow(*sweep, "seed=0")
    assert (outcome.code, "1 job: 1 trained" in outcome.out) == (0, True), outcome.err


@pytest.mark.slow
def test_a_job_with_another_config_is_refused_and_kept(grow: Callable, sweep: tuple[str, ...], tmp_path: Path) -> None:
    assert grow(*sweep, "seed=0").code == 0
    (config,) = (tmp_path / "s").glob("0-*/.hydra/config.yaml")
    config.write_text(config.read_text().replace("smoothing: 0.0", "smoothing: 0.1"))
    before = _files(config.parent.parent)
    outcome = grow(*sweep, "seed=0,1")
    assert outcome.code == 1
    assert "another configuration (label_smoothing is 0.1 there, 0.0 here)" in outcome.err
    assert "1 trained, 1 failed" in outcome.out
    assert _files(config.parent.parent) == before


@pytest.mark.slow
def test_names_that_look_alike_are_not_one_job(grow: Callable, sweep: tuple[str, ...], tmp_path: Path) -> None:
    assert grow(*sweep, "label='a b','a,b'").code == 0
    assert len(list((tmp_path / "s").glob("*/summary.json"))) == 2


@pytest.mark.slow
def test_a_failed_job_is_told_again_and_not_tried_again(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> None:
    shared = [o for o in small if not o.startswith(("method.", "optimizer."))]
    typed = ("train", "-m", *shared, "method=static", "optimizer=sgd", "optimizer.lr=1e30,1e-3", "run_dir=s")
    assert grow(*typed).code == 1
    outcome = grow(*typed)
    assert outcome.code == 1
    assert "failed before" in outcome.err
    assert "remove" in outcome.err
    assert "1 finished already, 1 failed" in outcome.out


@pytest.mark.slow
def test_a_job_that_another_process_is_at_is_left_to_it(grow: Callable, sweep: tuple[str, ...], tmp_path: Path) -> None:
    assert grow(*sweep, "seed=0").code == 0
    (path,) = (tmp_path / "s").glob("0-*")
    (path / "summary.json").unlink()  # it is still training
    other = RunFolder(path)
    other.open()
    before = _files(path)
    outcome = grow(*sweep, "seed=0,1")
    other.close()
    assert (outcome.code, "1 trained, 1 left to another process" in outcome.out) == (0, True), outcome.err
    assert _files(path) == before


@pytest.mark.slow
def test_two_sweeps_at_once_do_each_job_once(spawn: Callable, sweep: tuple[str, ...], tmp_path: Path) -> None:
    both = [spawn(*sweep, "stop.epochs=2", f"seed={seeds}") for seeds in ("0,1,2", "1,2,0")]
    for process in both:
        out, err = process.communicate(timeout=180)
        assert process.returncode == 0, out + err
    assert _seeds(tmp_path / "s") == [0, 1, 2]


@pytest.mark.parametrize("dataset", ["digits", "curve"])
def test_a_job_returns_what_it_reached_in_validation(
    dataset: str, grow: Callable, small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from grow_cli.commands import train

    returned = []
    monkeypatch.setattr(train, "_job", lambda raw: returned.append(_job(raw)))
    shared = [o for o in small if not o.startswith("method.")]
    typed = ("train", "-m", "method=static", "model=mlp", *shared, f"dataset={dataset}", "subset=100", "run_dir=s")
    for _ in range(2):
        assert grow(*typed).code == 0
    (summary,) = (tmp_path / "s").glob("*/summary.json")
    reached = json.loads(summary.read_text())
    assert returned == [reached["val_accuracy" if dataset == "digits" else "val_r2"]] * 2, "trained, then skipped"
    assert grow(*typed[:-1], "run_dir=t", "subset=1000000").code == 1
    assert returned[2:] == [None]


def test_no_objective_is_none_and_not_nan() -> None:
    assert sweeping.objective({"val_accuracy": None}) is None
    assert sweeping.objective({"val_r2": float("nan")}) is None
    assert sweeping.objective({"val_accuracy": 0.0}) == 0.0


MISSING = {
    "sweep=joblib": "joblib",
    "sweep=ray": "ray",
    "hydra/launcher=joblib": "joblib",
}


@pytest.mark.parametrize("typed", MISSING)
def test_a_plugin_that_is_not_installed_is_named(typed: str, grow: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    extra = MISSING[typed]
    plugins = Plugins.instance().stats.modules_import_time
    if (extra == "ray" and find_spec("ray")) or any(
        name.startswith(f"hydra_plugins.hydra_{extra}") for name in plugins
    ):
        pytest.skip(f"{extra} is installed")
    assert ConfigStore.instance()
    outcome = grow("train", "-m", typed)
    assert outcome.code == 2
    assert outcome.err == f"error: {typed} needs a package that is not installed: pip install 'grow-cli[{extra}]'\n"


def _alone(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, whose plugins may lie on PYTHONPATH."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "grow_cli", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


PARALLEL = {
    "hydra_joblib_launcher": ("sweep=joblib", "hydra.launcher.n_jobs=2"),
}


@pytest.mark.parametrize("plugin", PARALLEL)
def test_a_parallel_sweep_counts_skips_and_computes_the_same(
    plugin: str, grow: Callable, sweep: tuple[str, ...], tmp_path: Path
) -> None:
    pytest.importorskip(f"hydra_plugins.{plugin}")
    first = _alone(tmp_path, *sweep, *PARALLEL[plugin], "seed=0,1", "subset=300,1000000")
    assert first.returncode == 1
    assert "4 jobs: 2 trained, 2 failed" in first.stdout, first.stderr
    assert "1000000" in first.stderr
    assert "Traceback" not in first.stderr
    again = _alone(tmp_path, *sweep, *PARALLEL[plugin], "seed=1", "subset=300")
    assert (again.returncode, "1 of 1 jobs" in again.stdout) == (0, True), again.stderr
    threads = [
        torch.load(p, weights_only=True)["progress"]["threads"] for p in tmp_path.glob("s/*/checkpoints/last.pt")
    ]
    assert set(threads) == {1}
    assert grow("train", *sweep[2:-1], "seed=1", "threads=1", "run_dir=alone").code == 0
    alone = json.loads((tmp_path / "alone/summary.json").read_text())
    for path in tmp_path.glob("s/*/summary.json"):
        summary = json.loads(path.read_text())
        if summary["seed"] == 1:
            assert summary["test_loss"] == alone["test_loss"]


def test_the_sweep_group_is_listed_and_leaves_a_single_run_alone(grow: Callable) -> None:
    listed = grow("list", "sweep").out
    assert all(f" {name} " in listed for name in ("joblib", "slurm", "ray"))
    assert compose(["seed=1"]).threads is None


def test_a_sweep_into_the_folder_of_a_run_is_refused(grow: Callable, tmp_path: Path) -> None:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("seed: 0\n")
    outcome = grow("train", "-m", "run_dir=run", "seed=0,1")
    assert outcome.code == 2
    assert "run is a run folder" in outcome.err
