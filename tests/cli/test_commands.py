"""The commands as a user types them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from grow_cli.commands.completion import candidates
from grow_cli.commands.jobs import slug

COLUMNS = (
    "step epoch samples seconds growth_seconds flops parameters widths lr batch_size "
    "train_loss train_accuracy val_loss val_accuracy"
).split()
EVENT = (
    "event step epoch seconds method trigger readings site kind units_added details phases loss_before loss_after "
    "accuracy_before accuracy_after function_change parameters_before parameters_after flops_before flops_after "
    "widths_before widths_after growth_seconds"
).split()
SUMMARY = (
    "status dataset model method trigger seed train_accuracy val_accuracy test_accuracy train_loss val_loss test_loss "
    "best_val_accuracy best_step steps epochs events architecture widths parameters flops_per_sample training_flops "
    "growth_flops seconds growth_seconds compile_seconds peak_memory_bytes device versions commit"
).split()


@pytest.mark.parametrize("typed", ["--help", "list", "--version"])
def test_help_and_lists_wait_for_no_heavy_package(typed: str) -> None:
    """Which is what makes them answer at once; seconds are those of a shared machine."""
    code = f"""
import sys
from grow_cli.cli import main
try:
    main([{typed!r}])
except SystemExit as end:
    assert end.code == 0
heavy = {{"torch", "hydra", "omegaconf", "numpy", "pandas", "sklearn", "scipy", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_list_names_every_option_with_a_line(grow: Callable) -> None:
    everything = grow("list").out
    for name in (
        "digits",
        "cifar100",
        "image_folder",
        "residual_mlp",
        "vit",
        "alether",
        "tau_kappa",
        "adamw",
        "anneal",
    ):
        assert f" {name} " in everything
    assert grow("list", "trigger").out.startswith("trigger=")
    assert "dataset=" not in grow("list", "trigger").out


def test_cfg_job_shows_the_config_and_trains_nothing(grow: Callable, tmp_path: Path) -> None:
    outcome = grow("train", "--cfg", "job", "method=alether", "method.rank=8")
    assert outcome.code == 0
    assert "rank: 8" in outcome.out
    assert "name: tau_kappa" in outcome.out, "the method brings its paper's trigger"
    assert list(tmp_path.iterdir()) == []


def test_what_is_given_by_hand_wins_over_the_methods_defaults(grow: Callable) -> None:
    out = grow("train", "--cfg", "job", "method=alether", "model=vit", "trigger=plateau").out
    assert "name: vit" in out
    assert "name: plateau" in out


def test_table1_restores_the_papers_window(grow: Callable) -> None:
    assert "window: 5" in grow("train", "--cfg", "job", "method=alether_table1").out
    assert "window: 20" in grow("train", "--cfg", "job", "method=alether").out


@pytest.mark.slow
def test_a_run_folder_holds_what_is_promised(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> None:
    outcome = grow("train", *small, "trigger=tau_kappa", "~trigger.every", "~trigger.unit", "trigger.patience=1")
    assert outcome.code == 2, "keys of another trigger do not slip through"
    typed = [o for o in small if not o.startswith("trigger")]
    outcome = grow(
        "train", *typed, "trigger=tau_kappa", "trigger.patience=1", "trigger.tau_crit=1.0", "trigger.kappa_crit=0"
    )
    assert outcome.code == 0, outcome.err
    (folder,) = (tmp_path / "outputs/digits/alether").iterdir()
    assert str(folder.name) in outcome.out
    metrics = pd.read_csv(folder / "metrics.csv")
    assert list(metrics.columns[: len(COLUMNS)]) == COLUMNS
    assert {"trigger/tau", "trigger/kappa", "trigger/rho"} <= set(metrics.columns)
    assert metrics["step"].is_monotonic_increasing
    assert metrics["seconds"].is_monotonic_increasing
    assert metrics["flops"].is_monotonic_increasing
    events = [json.loads(line) for line in (folder / "growth.jsonl").read_text().splitlines()]
    assert events
    for event in events:
        assert set(EVENT) <= set(event)
        assert [p["phase"] for p in event["phases"]] == ["initialize", "freeze", "warmup", "resume"]
        assert event["parameters_after"] > event["parameters_before"]
    summary = json.loads((folder / "summary.json").read_text())
    assert set(SUMMARY) <= set(summary)
    assert summary["status"] == "finished"
    assert summary["events"] == len(events)
    assert summary["parameters"] == metrics["parameters"].iloc[-1]
    assert summary["training_flops"] >= metrics["flops"].iloc[-1]
    assert (folder / ".hydra/overrides.yaml").exists()
    assert (folder / ".hydra/hydra.yaml").exists()
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["best.pt", "last.pt"]
    assert sorted(p.name for p in folder.iterdir()) == [
        ".hydra", ".lock", "checkpoints", "growth.jsonl", "metrics.csv", "summary.json",
    ]  # fmt: skip


def test_without_a_validation_split_the_training_split_is_measured_and_that_is_said(
    grow: Callable, tmp_path: Path
) -> None:
    typed = ("method=static", "dataset.validation=0", "subset=100", "stop.epochs=2", "stop.train_score=1")
    outcome = grow("train", *typed, "run_dir=r")
    assert outcome.code == 0
    assert "dataset.validation=0: nothing is held out" in outcome.err
    summary = json.loads((tmp_path / "r/summary.json").read_text())
    assert (summary["val_accuracy"], summary["val_loss"]) == (summary["train_accuracy"], summary["train_loss"])
    metrics = pd.read_csv(tmp_path / "r/metrics.csv")
    assert metrics["whole_train_loss"].tolist() == metrics["val_loss"].tolist()
    assert "nothing was held out" in grow("eval", "r").out
    assert grow("plot", "r", "-o", "r.svg").code == 0
    assert "the training split at each evaluation" in (tmp_path / "r.svg").read_text()
    assert grow("report", "r").code == 0
    assert "Nothing was held out" in (tmp_path / "r/report.html").read_text()


@pytest.mark.slow
def test_eval_measures_the_grown_net_as_the_run_did(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> None:
    assert grow("train", *small, "run_dir=r").code == 0
    summary = json.loads((tmp_path / "r/summary.json").read_text())
    outcome = grow("eval", "r", "--json", "device=cpu")
    assert outcome.code == 0, outcome.err
    measured = json.loads(outcome.out)
    for key in ("test_loss", "test_accuracy", "val_loss", "train_accuracy", "widths", "parameters"):
        assert measured[key] == pytest.approx(summary[key]), key
    assert measured["widths"].count("-") == 3, "two blocks at first and two grown"
    assert json.loads(grow("eval", "r", "--json", "--best").out)["step"] == summary["best_step"]
    assert "accuracy" in grow("eval", "r").out
    assert grow("eval", "r", "dataset=moons").code == 2
    assert grow("eval", "r", "bath_size=3").code == 2
    (tmp_path / "r/summary.json").write_text("{")
    assert "damaged" in grow("resume", "r").err


def _images(root: Path, brightness: int, side: int = 8) -> Path:
    """Two classes; only the brightness of the training images differs from one such folder to another."""
    generator = np.random.default_rng(0)
    for split, n, level in (("train", 10, brightness), ("test", 5, 60)):
        for number, name in enumerate(("dark", "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = level + 40 * number + generator.integers(0, 40, (side, side, 3))
                Image.fromarray(pixels.astype("uint8")).save(folder / f"{i}.png")
    return root


def test_eval_normalises_other_data_as_the_net_was_trained_with(grow: Callable, tmp_path: Path) -> None:
    ours, theirs = _images(tmp_path / "ours", 60), _images(tmp_path / "theirs", 120)
    small = ("method=static", "model=mlp", "stop.epochs=3", "batch_size=4", "dataset=image_folder")
    assert grow("train", *small, f"dataset.path={ours}", "run_dir=r").code == 0
    here, there = (json.loads(grow("eval", "r", "--json", *more).out) for more in ((), (f"dataset.path={theirs}",)))
    assert there["test_loss"] == here["test_loss"], "the statistics of the others' training images are not used"
    assert there["train_loss"] != here["train_loss"]


@pytest.mark.slow
def test_eval_on_other_images_than_the_net_can_take_is_a_sentence(grow: Callable, tmp_path: Path) -> None:
    ours = _images(tmp_path / "ours", 60)
    small = ("method=static", "model=mlp", "stop.epochs=1", "batch_size=4", "dataset=image_folder", "subset=14")
    assert grow("train", *small, f"dataset.path={ours}", "run_dir=r").code == 0
    others = _images(tmp_path / "others", 60)
    few = len(list((others / "train").rglob("*.png"))) // 2
    for path in list((others / "train").rglob("*.png"))[::2]:
        path.unlink()
    assert few < 14, "fewer than subset asks for"
    assert grow("eval", "r", f"dataset.path={others}").code == 0
    larger = _images(tmp_path / "larger", 60, side=12)
    renamed = _images(tmp_path / "renamed", 60)
    more = _images(tmp_path / "more", 60)
    for split in ("train", "test"):
        (renamed / split / "dark").rename(renamed / split / "zebra")
        shutil.copytree(more / split / "dark", more / split / "zebra")
    for folder, words in (
        (larger, ["(3, 8, 8)", "(3, 12, 12)"]),
        (renamed, ["light, zebra", "dark, light"]),
        (more, ["dark, light, zebra", "dark, light)"]),
    ):
        outcome = grow("eval", "r", f"dataset.path={folder}")
        assert outcome.code == 2
        assert all(word in outcome.err for word in words), outcome.err


def test_eval_takes_nothing_that_would_be_ignored_or_change_what_is_measured(
    grow: Callable, small: tuple[str, ...]
) -> None:
    assert grow("train", *small, "run_dir=r").code == 0
    for mistake in ("dataset.scale=2", "dataset.validation=0.5", "subset=20", "model.activation=tanh", "stop.epochs=9"):
        outcome = grow("eval", "r", mistake)
        assert outcome.code == 2
        assert mistake in outcome.err
        assert "as it was trained" in outcome.err
        assert "dataset.path" in outcome.err


@pytest.mark.slow
def test_plot_draws_a_picture(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> None:
    assert grow("train", *small, "run_dir=r").code == 0
    assert grow("plot", "r").code == 0
    assert (tmp_path / "r/growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_sweep_makes_folders_that_pandas_reads_without_special_cases(
    grow: Callable, small: tuple[str, ...], tmp_path: Path
) -> None:
    # static has no warm-up: what only some methods have cannot be swept with them
    shared = [o for o in small if not o.startswith("method.")]
    outcome = grow("train", "-m", "method=alether,copy,random,static", "seed=0,1", *shared, "stop.epochs=12")
    assert outcome.code == 0, outcome.err
    folders = sorted(p.parent for p in tmp_path.glob("outputs/sweeps/*/*/summary.json"))
    assert len(folders) == 8
    table = pd.DataFrame([json.loads((f / "summary.json").read_text()) for f in folders])
    assert table.groupby("method")["seed"].nunique().to_dict() == {"alether": 2, "copy": 2, "random": 2, "static": 2}
    assert table["test_accuracy"].notna().all()
    assert (table["events"] > 0).tolist() == (table["method"] != "static").tolist()
    frames = pd.concat([pd.read_csv(f / "metrics.csv") for f in folders])
    assert set(COLUMNS) <= set(frames.columns)
    same = table.groupby(["method", "seed"])["test_loss"].first()
    alone = grow("train", "method=copy", "seed=1", *shared, "stop.epochs=12", "run_dir=alone")
    assert alone.code == 0
    assert json.loads((tmp_path / "alone/summary.json").read_text())["test_loss"] == same["copy", 1]


@pytest.mark.slow
def test_a_failed_job_does_not_end_the_sweep(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> None:
    outcome = grow("train", "-m", "subset=1000000,200", *small[1:], "stop.epochs=2", "run_dir=s")
    assert outcome.code != 0
    assert "1000000" in outcome.err
    assert len(list((tmp_path / "s").glob("*/summary.json"))) == 1
    asked = grow("sweep", "status", "s").out
    assert "2 jobs: 1 finished, 1 failed\n" in asked
    assert "failed       subset=1000000: subset=1000000: " in asked, "it has no folder, and yet its reason is known"


@pytest.mark.parametrize("line", ["grow train experiment=tiny_mnist --", "grow compare r --", "grow resume r --"])
def test_after_a_dash_nothing_but_options_is_offered(line: str) -> None:
    assert all(word.startswith("--") for word in candidates(line))


def test_folder_names_of_sweeps_are_safe() -> None:
    assert "/" not in slug(["dataset.path=/a/b", "seed=1"])
    assert len(slug(["x=" + "ü" * 400]).encode()) < 255
    assert slug("") == "defaults"
    assert slug("seed=1") != slug("seed=2")
    assert slug("x=" + "a" * 400) != slug("x=" + "a" * 401)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("grow tr", "train"),
        ("grow compare r --t", "--to"),
        ("grow train meth", "method="),
        ("grow train method=", "method=alether"),
        ("grow train method=alether model=re", "model=residual_mlp"),
        ("grow train method=alether method.r", "method.rank="),
        ("grow train -m trigger=ta", "trigger=tau_kappa"),
        ("grow list da", "dataset"),
        ("grow completion z", "zsh"),
    ],
)
def test_tab_completes(line: str, found: str) -> None:
    assert found in candidates(line)
    assert not [c for c in candidates("grow train ") if c.startswith(("schema", "hydra"))]


def test_tab_completes_run_folders(grow: Callable, tmp_path: Path) -> None:
    (tmp_path / "outputs/digits").mkdir(parents=True)
    assert grow("completion", "--query", "grow eval out").out.split() == ["outputs/"]
    assert grow("completion", "--query", "grow eval outputs/").out.split() == ["outputs/digits/"]
    assert "complete -F" in grow("completion", "bash").out
