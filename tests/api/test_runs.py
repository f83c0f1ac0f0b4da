"""`import grow_cli as grow`: runs from Python are the command's, to the last bit, and leave the process as it was."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import grow_cli as grow
from grow_cli.api.overrides import typed
from grow_cli.commands.train import compose
from grow_cli.errors import UserError
from grow_cli.training.loop import Loop

SHORT = ("dataset=digits", "subset=200", "method=tiny", "model.hidden=[3]", "trigger=every", "trigger.every=1")
SHORT += ("stop.epochs=2", "method.samples=100", "device=cpu", "progress=off")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> grow.Run:
    folder = tmp_path_factory.mktemp("python") / "run"
    return grow.train(SHORT, run_dir=folder)


def test_the_package_is_light_until_something_is_used() -> None:
    code = (
        "import sys, grow_cli as grow; dir(grow)\n"
        "heavy = {'torch', 'numpy', 'pandas', 'hydra', 'omegaconf', 'rich'} & set(sys.modules); assert not heavy, heavy\n"
        "grow.train; assert 'torch' not in sys.modules\n"
        "try: grow.nothing\n"
        "except AttributeError: pass\n"
        "else: raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    for name in grow.__all__:
        assert callable(getattr(grow, name)), name
        assert name in dir(grow)


def test_keywords_are_what_one_would_type() -> None:
    given = {"method": "tiny", "stop": {"epochs": 3}, "growth.rollback": True, "growth.max_units": [4, 5]}
    words = typed(["seed=1"], given | {"subset": np.float64(0.5), "label": "it's a\\", "data_dir": Path("/a b/c")})
    assert words[:5] == ["seed=1", "method=tiny", "stop.epochs=3", "growth.rollback=true", "growth.max_units=[4,5]"]
    config = compose(words)
    assert (config.label, config.data_dir, config.subset) == ("it's a\\", "/a b/c", 0.5)


def test_a_run_from_python_has_the_commands_numbers(run: grow.Run, grow: Callable[..., Any]) -> None:
    assert grow("train", *SHORT, "run_dir=typed").code == 0
    theirs = torch.load("typed/checkpoints/last.pt", weights_only=True)["model"]
    ours = run.net.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_has_what_its_folder_holds(run: grow.Run) -> None:
    assert run.config["method"]["name"] == "tiny"
    assert run.summary["status"] == "finished"
    assert list(run.metrics["epoch"]) == [1, 2]
    assert run.growth["units_added"].sum() > 0
    assert not run.net.training
    assert next(run.net.parameters()).device.type == "cpu"
    assert sum(p.numel() for p in run.net.parameters()) == run.summary["parameters"]
    assert "finished" in repr(run)
    assert grow.load(run.folder).summary == run.summary
    assert grow.load(run.folder, best=True).net.widths()


def test_predictions_are_those_that_the_run_was_measured_by(run: grow.Run) -> None:
    raw = compose(list(SHORT)).dataset.load(Path())
    right = run.predict(raw.test_x) == np.asarray(raw.classes)[raw.test_y.numpy()]
    assert right.mean() == pytest.approx(run.summary["test_accuracy"], abs=1e-9)
    assert (run.predict(raw.test_x.numpy(), names=False) == raw.test_y.numpy()).mean() == right.mean()
    chances = run.predict_proba(raw.test_x)
    assert chances.shape == (len(raw.test_x), 10)
    assert np.allclose(chances.sum(1), 1)


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (np.zeros((2, 64)), "takes samples"),
        (np.zeros((1, 8, 8)), "a sample was given"),
        ([["a"]], "not an array of numbers"),
        (np.full((1, 1, 8, 8), np.nan), "not finite"),
    ],
)
def test_samples_that_do_not_fit_are_refused_in_a_sentence(run: grow.Run, x: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        run.predict(x)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["method=tyni"], "tiny"),
        (["stop.epochs=no"], "stop.epochs"),
        (["-m", "seed=1,2"], "call grow.train once per run"),
        (["seed=1,2"], "seed"),
        (["batch_size=0"], "batch_size=0"),
        ([3], "not an override"),
        (["seed = 3"], "type seed=3"),
        (["lr", "0.1"], "type optimizer.lr=0.1"),
    ],
)
def test_mistakes_are_sentences_and_leave_no_folder(overrides: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        grow.train(overrides, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_process_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    before = (os.getcwd(), logging.root.handlers[:], logging.root.level, torch.get_num_threads(), dict(os.environ))
    grow.train(SHORT, run_dir=tmp_path / "run", threads=2, **{"stop.epochs": 1})
    after = (os.getcwd(), logging.root.handlers[:], logging.root.level, torch.get_num_threads(), dict(os.environ))
    assert after == before
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert torch.equal(torch.rand(3), expected)
    assert torch.tensor(1e-39) * 1.0 != 0, "denormals are still flushed"


def test_nothing_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grow.train(SHORT, run_dir=tmp_path / "run", progress="auto", **{"stop.epochs": 1})
    assert capsys.readouterr().out == ""


def test_an_interrupted_run_goes_on_to_the_same_numbers(
    run: grow.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = Loop._evaluate

    def interrupted(loop: Loop) -> None:
        evaluate(loop)
        if loop.session.progress.evaluations == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Loop, "_evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"grow\.resume"):
        grow.train(SHORT, run_dir=tmp_path / "run")
    monkeypatch.setattr(Loop, "_evaluate", evaluate)
    assert grow.load(tmp_path / "run").summary["status"] == "interrupted"
    again = grow.resume(tmp_path / "run")
    assert capsys.readouterr().out == ""
    assert all(torch.equal(a, b) for a, b in zip(again.net.parameters(), run.net.parameters(), strict=True))


def test_compare_gives_the_commands_tables(run: grow.Run, tmp_path: Path) -> None:
    other = grow.train(SHORT, run_dir=tmp_path / "run", label="chance", **{"method.significance": False})
    (found,) = grow.compare([run, other.folder])
    assert set(found.table["way"]) == {"tiny", "chance"} == set(found.numbers["way"])
    assert found.numbers.set_index("way").loc["chance", "parameters"] == other.summary["parameters"]
    with pytest.raises(UserError, match="split"):
        grow.compare([run], split="train")


def test_the_report_is_written(run: grow.Run, tmp_path: Path) -> None:
    page = run.report(tmp_path / "page.html")
    assert page.read_text(encoding="utf-8").startswith("<!")
