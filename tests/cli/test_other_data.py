"""Data that are not those that a net was trained on: every command that goes on with it or measures it refuses them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from grow_cli.training.interrupts import Interrupts

IMAGES = (
    *("dataset=image_folder", "method=net2net", "model=mlp_tiny", "batch_size=8", "stop.epochs=12", "progress=off"),
    *("evaluate.every=4", "evaluate.unit=steps", "trigger=every", "trigger.every=8", "trigger.unit=steps"),
    "growth.max_events=1",
)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """cat and dog, (3, 4, 4)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for split, n in (("train", 12), ("test", 6)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = generator.integers(0, 80, (4, 4, 3)) + 80 * label
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pets" / split / name / f"{i}.png")
    return tmp_path / "pets"


def _stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    asked = 0

    def after(self: Interrupts) -> int | None:
        nonlocal asked
        asked += 1
        return 15 if asked > steps else None

    monkeypatch.setattr(Interrupts, "__call__", after)


def _swap(tree: Path) -> None:
    for split in ("train", "test"):
        (tree / split / "cat").rename(tree / split / "zebra")


def _one_more(tree: Path) -> None:
    shutil.copy(tree / "train/cat/0.png", tree / "train/cat/99.png")


def _wider(tree: Path) -> None:
    for path in tree.rglob("*.png"):
        with Image.open(path) as image:
            image.resize((6, 4)).save(path)


def _third(tree: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(tree / split / "cat", tree / split / "eel")


def _labels(tree: Path) -> None:
    """Each class's images under the other's name."""
    for split in ("train", "test"):
        (tree / split / "cat").rename(tree / split / "x")
        (tree / split / "dog").rename(tree / split / "cat")
        (tree / split / "x").rename(tree / split / "dog")


def _pixel(tree: Path) -> None:
    with Image.open(tree / "train/dog/3.png") as image:
        image.putpixel((0, 0), (255, 0, 255))
        image.save(tree / "train/dog/3.png")


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "renamed": (_swap, "other classes (dog, zebra instead of cat, dog)"),
    "one image more": (_one_more, "25 training samples, 12 test samples"),
    "another size": (_wider, "(3, 4, 6)"),
    "a third class": (_third, "3 classes (cat, dog, eel)"),
    "swapped labels": (_labels, "other training samples"),
    "one pixel": (_pixel, "other training samples"),
}


def _state(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.slow
def test_a_run_is_not_continued_or_measured_on_other_data_and_nothing_is_written(
    tree: Path, grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        _stop_after(patched, 20)
        assert grow("train", *IMAGES, f"dataset.path={tree}", "run_dir=r").code == 143
    kept = shutil.copytree(tree, tmp_path / "kept")
    before = _state(tmp_path / "r")
    for change, (spoil, words) in CHANGES.items():
        spoil(tree)
        for command in (("resume", "r", f"dataset.path={tree}"), ("eval", "r")):
            outcome = grow(*command)
            assert outcome.code == 2, (change, command, outcome)
            assert words in outcome.err, outcome.err
            assert len(outcome.err.strip().splitlines()) == 1
            assert _state(tmp_path / "r") == before
        shutil.rmtree(tree)
        shutil.copytree(kept, tree)
    # the same images elsewhere are the same data
    assert grow("resume", "r", f"dataset.path={kept}").code == 0
    summary = json.loads((tmp_path / "r/summary.json").read_text())
    state = torch.load(tmp_path / "r/checkpoints/last.pt", weights_only=True)
    assert summary["data"] == state["data"]
    assert summary["data"]["counts"] == {"train": 24, "test": 12}
    assert summary["data"]["classes"] == ["cat", "dog"]


def test_controls_are_trained_on_the_data_of_their_run(tree: Path, grow: Callable, tmp_path: Path) -> None:
    assert grow("train", *IMAGES, f"dataset.path={tree}", "run_dir=r").code == 0
    shutil.copytree(tree, tmp_path / "kept")
    _labels(tree)
    before = _state(tmp_path / "r")
    outcome = grow("controls", "r", "--only", "static-steps")
    assert (outcome.code, "other training samples" in outcome.err) == (2, True), outcome
    assert _state(tmp_path / "r") == before
    shutil.rmtree(tree)
    (tmp_path / "kept").rename(tree)
    assert grow("controls", "r", "--only", "static-steps").code == 0


@pytest.mark.slow
def test_a_job_that_a_sweep_resumes_needs_the_data_that_it_was_begun_on(
    tree: Path, grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ("train", "-m", "seed=0", *IMAGES, f"dataset.path={tree}", "run_dir=s")
    with monkeypatch.context() as patched:
        _stop_after(patched, 20)
        assert grow(*typed).code == 143
    _labels(tree)
    (job,) = (path.parent for path in (tmp_path / "s").glob("*/metrics.csv"))
    before = _state(job)
    outcome = grow(*typed)
    assert outcome.code != 0
    assert "other training samples" in outcome.err
    assert _state(job) == before
    _labels(tree)
    assert grow(*typed).code == 0


POINTS = ("dataset.samples=60", "dataset.test_samples=20", "batch_size=20", "progress=off", "checkpoint.events=true")
EVENTS = (
    "evaluate.every=3",
    "evaluate.unit=steps",
    "trigger=every",
    "trigger.every=3",
    "trigger.unit=steps",
    "stop.epochs=5",
)


@pytest.mark.parametrize(
    ("typed", "commands"),
    [
        (
            ("method=fold", "dataset=sines", *POINTS, *EVENTS),
            [("eval", "r"), ("explain", "r"), ("plot", "r", "--picture", "boundaries")],
        ),
        (
            (
                *("method=static", "model=mlp", "model.hidden=[4]", "model.activation=rational"),
                *("dataset=curve", *POINTS, "stop.epochs=1"),
            ),
            [("eval", "r"), ("plot", "r", "--picture", "landscape")],
        ),
    ],
)
def test_nothing_is_drawn_of_other_points_than_the_net_was_trained_on(
    typed: tuple[str, ...], commands: list[tuple[str, ...]], grow: Callable, tmp_path: Path
) -> None:
    outcome = grow("train", *typed, "run_dir=r")
    assert outcome.code == 0, outcome.err
    config = tmp_path / "r/.hydra/config.yaml"
    text = config.read_text()
    assert text.count("draw_seed: 0") == 1
    config.write_text(text.replace("draw_seed: 0", "draw_seed: 1"))
    before = _state(tmp_path / "r")
    for command in commands:
        outcome = grow(*command)
        assert (outcome.code, "other training samples" in outcome.err) == (2, True), (command, outcome)
        assert _state(tmp_path / "r") == before


def test_a_checkpoint_of_an_older_grow_is_checked_in_what_it_has(
    tree: Path, grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        _stop_after(patched, 20)
        assert grow("train", *IMAGES, f"dataset.path={tree}", "run_dir=r").code == 143
    last = tmp_path / "r/checkpoints/last.pt"
    state = torch.load(last, weights_only=True)
    del state["data"]
    torch.save(state, last)
    _pixel(tree)
    assert grow("eval", "r").code == 0, "no fingerprint to compare with"
    _swap(tree)
    assert "other classes" in grow("resume", "r").err
    for split in ("train", "test"):
        (tree / split / "zebra").rename(tree / split / "cat")
    assert grow("resume", "r").code == 0


def test_eval_measures_other_images_on_purpose_a_test_part_alone_too(
    tree: Path, grow: Callable, tmp_path: Path
) -> None:
    assert grow("train", *IMAGES, f"dataset.path={tree}", "run_dir=r").code == 0
    shutil.copytree(tree, tmp_path / "other")
    _pixel(tmp_path / "other")
    _one_more(tmp_path / "other")
    whole = json.loads(grow("eval", "r", "--json", f"dataset.path={tmp_path / 'other'}").out)
    shutil.rmtree(tmp_path / "other" / "train")
    alone = grow("eval", "r", "--json", f"dataset.path={tmp_path / 'other'}")
    assert json.loads(alone.out)["test_loss"] == whole["test_loss"]
    assert "train_loss" not in json.loads(alone.out)
    assert "accuracy" in grow("eval", "r", f"dataset.path={tmp_path / 'other'}").out
    (tmp_path / "other/test/cat").rename(tmp_path / "other/test/zebra")
    assert "other classes" in grow("eval", "r", f"dataset.path={tmp_path / 'other'}").err


def test_an_export_says_how_images_are_prepared(tree: Path, grow: Callable, tmp_path: Path) -> None:
    assert (
        grow("train", *IMAGES, f"dataset.path={tree}", "dataset.size=4", "dataset.background=9", "run_dir=r").code == 0
    )
    assert grow("export", "r").code == 0
    told = (tmp_path / "r/export/model.py").read_text().split('"""')[1]
    assert all(word in told for word in ("EXIF applied", "background: 9", "size: 4", "bilinear", "colour: RGB")), told
    state = torch.load(tmp_path / "r/checkpoints/last.pt", weights_only=True)
    assert state["inputs"]["image"]["background"] == 9


def test_a_validation_split_that_would_be_empty_is_refused_before_training(grow: Callable, tmp_path: Path) -> None:
    outcome = grow("train", "dataset=curve", "dataset.validation=1e-8", "method=static", "model=mlp", "run_dir=r")
    assert outcome.code == 2
    assert "dataset.validation=1e-08: the training part has 200 samples, too few to hold out that part" in outcome.err
    assert not (tmp_path / "r").exists()
