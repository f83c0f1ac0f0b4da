"""An interrupted run goes on, across growth events, and ends with the same numbers to the last bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from same_run import events_of, same_end

from grow_cli.training.interrupts import Interrupts


@pytest.fixture
def whole(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> Path:
    """The run that nothing interrupted."""
    assert grow("train", *small, "run_dir=whole").code == 0
    events = events_of(tmp_path / "whole")
    assert len(events) == 2
    assert all(e["units_added"] == 64 for e in events)
    return tmp_path / "whole"


# The signal is looked at once per step, a warm-up's included: 50 steps, 10 of warm-up, 50 steps, 10 of warm-up, ...
MOMENTS = {
    "at-once": 1,
    "mid-epoch": 33,
    "in-the-first-warm-up": 56,
    "after-growth": 75,
    "in-the-second": 117,
    "late": 170,
}


def _after(looks: int) -> Callable[[Interrupts], int | None]:
    """As if SIGTERM had arrived before the given look at the signal."""
    counted = 0

    def arrived(self: Interrupts) -> int | None:
        nonlocal counted
        counted += 1
        return signal.SIGTERM if counted >= looks else None

    return arrived


def test_a_resumed_run_ends_as_the_whole_one(
    whole: Path, grow: Callable, small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment, looks in MOMENTS.items():
        with monkeypatch.context() as patched:
            patched.setattr(Interrupts, "__call__", _after(looks))
            outcome = grow("train", *small, f"run_dir={moment}")
        assert outcome.code == 143, moment
        assert "grow resume" in outcome.err, moment
        assert json.loads((tmp_path / moment / "summary.json").read_text())["status"] == "interrupted"
        assert grow("resume", moment).code == 0, moment
        same_end(whole, tmp_path / moment)


WIDTH = (
    (
        "tiny",
        "method.batch_growth=true",
        "trigger.every=25",
        "method.significance=false",
        "growth.max_units=[9,5]",
        "model.norm=batch",
    ),
    ("random_width", "growth.neurons=3", "growth.optimizer_state=reset", "model.dropout=0.2"),
    ("fold", "model=mlp", "model.hidden=[6,4]", "model.dropout=0.2", "method.layer=2", "method.regularization=0.1"),
)


@pytest.mark.parametrize("options", WIDTH, ids=lambda options: "+".join(options[:2]))
def test_a_resumed_width_run_ends_as_the_whole_one(
    options: tuple[str, ...],
    grow: Callable,
    wide: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = [f"method={options[0]}", *wide, *options[1:]]
    assert grow("train", *arguments, "run_dir=whole").code == 0
    assert sum(e["units_added"] > 0 for e in events_of(tmp_path / "whole")) == 2
    for looks in (33, 75):
        cut = f"cut-{looks}"
        with monkeypatch.context() as patched:
            patched.setattr(Interrupts, "__call__", _after(looks))
            assert grow("train", *arguments, f"run_dir={cut}").code == 143
        assert grow("resume", cut, "progress=off").code == 0
        same_end(tmp_path / "whole", tmp_path / cut)


@pytest.mark.slow
def test_a_run_that_takes_growth_back_resumes_exactly_too(
    grow: Callable, wide: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolling = ("growth.rollback=true", "optimizer.lr=1e-9", "growth.max_events=5", "stop.epochs=30", "trigger.every=25")
    arguments = ("method=fold", *wide, "model=mlp_fold", "model.hidden=[2]", *rolling)
    assert grow("train", *arguments, "run_dir=whole").code == 0
    kinds = [e["kind"] for e in events_of(tmp_path / "whole")]
    assert {"width", "rollback"} <= set(kinds)
    for looks in (40, 140, 220):
        cut = f"cut-{looks}"
        with monkeypatch.context() as patched:
            patched.setattr(Interrupts, "__call__", _after(looks))
            assert grow("train", *arguments, f"run_dir={cut}").code == 143
        stale = tmp_path / cut / "mistakes/neuron-099.png"
        stale.parent.mkdir(exist_ok=True)
        stale.write_bytes(b"of an event that the checkpoint does not know")
        assert grow("resume", cut).code == 0
        same_end(tmp_path / "whole", tmp_path / cut)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("model=vit", "model.dropout=0.2", "trajectory.smoothing=0.9", "precision=bf16"),
        (
            "trajectory.dtype=int8",
            "trigger=tau_kappa",
            "trigger.tau_crit=0",
            "trigger.kappa_crit=0",
            "trigger.patience=2",
            "evaluate.every=10",
        ),
        ("optimizer=sgd", "trajectory.storage=file"),
    ],
    ids="+".join,
)
def test_other_states_resume_exactly_too(
    options: tuple[str, ...], grow: Callable, small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = [o for o in small if not o.startswith("trigger")]
    model = () if "model=vit" in options else ("model=residual_cnn",)
    trigger = () if "trigger=tau_kappa" in options else ("trigger=every", "trigger.every=25", "trigger.unit=steps")
    typed = ("train", *rest, *trigger, *options, *model, "dataset.crop=1", "dataset.flip=true")
    assert grow(*typed, "stop.epochs=9", "run_dir=whole").code == 0
    with monkeypatch.context() as patched:
        patched.setattr(Interrupts, "__call__", _after(61))
        assert grow(*typed, "stop.epochs=9", "run_dir=cut").code == 143
    assert grow("resume", "cut").code == 0
    same_end(tmp_path / "whole", tmp_path / "cut")


def test_an_interrupted_growth_leaves_the_summary_of_what_was_saved(
    grow: Callable, small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Interrupts, "__call__", _after(MOMENTS["in-the-second"]))
    assert grow("train", *small, "run_dir=r").code == 143
    summary = json.loads((tmp_path / "r/summary.json").read_text())
    saved = torch.load(tmp_path / "r/checkpoints/last.pt", weights_only=True)
    assert summary["architecture"] == saved["architecture"]
    assert (summary["events"], summary["widths"]) == (1, "64-64-64"), "the second growth is not in the checkpoint"


def test_a_refused_second_run_takes_nothing_from_the_first(
    grow: Callable, small: tuple[str, ...], tmp_path: Path
) -> None:
    from grow_cli.records.folder import RunFolder

    first = RunFolder(tmp_path / "r")
    first.create({"config": {"seed": 1}})  # it is loading data now: no metrics, no checkpoint yet
    assert "another process" in grow("train", *small, "run_dir=r").err
    assert (tmp_path / "r/.hydra/config.yaml").read_text() == "seed: 1\n"
    first.close()


def test_ctrl_c_ends_a_whole_sweep(
    grow: Callable, small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Interrupts, "__call__", _after(30))
    outcome = grow("train", "-m", "seed=0,1,2", *small, "run_dir=s")
    assert outcome.code == 143
    assert len(list((tmp_path / "s").glob("*/metrics.csv"))) == 1
    assert "Error executing job" not in outcome.err


def _wait_for_rows(process: subprocess.Popen[str], metrics: Path, rows: int) -> None:
    for _ in range(6000):
        if metrics.exists() and metrics.read_text().count("\n") > rows:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("the run writes no metrics")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow), (signal.SIGINT, 130)]
)
def test_signals_write_a_checkpoint_and_tell(
    number: signal.Signals, code: int, spawn: Callable, small: tuple[str, ...], tmp_path: Path
) -> None:
    process = spawn("train", *small, "run_dir=r", "stop.epochs=100000", "growth.max_events=1")
    _wait_for_rows(process, tmp_path / "r/metrics.csv", 3)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "grow resume" in err
    assert "Traceback" not in err
    assert json.loads((tmp_path / "r/summary.json").read_text())["status"] == "interrupted"
    assert torch.load(tmp_path / "r/checkpoints/last.pt", weights_only=True)["progress"]["step"] > 0


@pytest.mark.slow  # a kill at each file operation is simulated in tests/reliability
@pytest.mark.parametrize("seed", range(6))
def test_kill_9_at_random_moments_loses_nothing(
    seed: int, spawn: Callable, grow: Callable, small: tuple[str, ...], tmp_path: Path
) -> None:
    typed = (*small, "stop.epochs=100", "trigger.every=150", "growth.max_events=3", f"seed={seed}")
    assert grow("train", *typed, "run_dir=whole").code == 0
    moment = random.Random(seed)
    process = spawn("train", *typed, "run_dir=cut")
    _wait_for_rows(process, tmp_path / "cut/metrics.csv", 0)
    time.sleep(moment.uniform(0, 1.0))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert torch.load(tmp_path / "cut/checkpoints/last.pt", weights_only=True)["format"] == 1
    for _ in range(2 if seed else 0):
        process = spawn("resume", "cut")
        time.sleep(moment.uniform(3, 6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    outcome = grow("resume", "cut")
    assert outcome.code == 0 or "finished" in outcome.err, outcome.err
    same_end(tmp_path / "whole", tmp_path / "cut")


def test_resume_changes_nothing_but_where_things_are(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> None:
    assert grow("train", *small, "run_dir=r", "stop.epochs=2").code == 0
    (tmp_path / "r/summary.json").unlink()  # as after a kill
    outcome = grow("resume", "r", "optimizer.lr=1")
    assert outcome.code == 2
    assert "optimizer.lr=1" in outcome.err
    config = (tmp_path / "r/.hydra/config.yaml").read_bytes()
    assert grow("resume", "r", "device=cpu").code == 0
    assert (tmp_path / "r/.hydra/config.yaml").read_bytes() == config


def test_two_processes_cannot_write_one_run(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> None:
    from grow_cli.records.folder import RunFolder

    assert grow("train", *small, "run_dir=r", "stop.epochs=2").code == 0
    (tmp_path / "r/summary.json").unlink()
    holder = RunFolder(tmp_path / "r")
    holder.open()
    outcome = grow("resume", "r")
    assert (outcome.code, "another process" in outcome.err) == (2, True)
    holder.close()
    assert grow("resume", "r").code == 0


@pytest.mark.slow
def test_a_half_written_row_is_cut_off(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        assert grow("train", *small, f"run_dir={name}").code == 0
    cut = tmp_path / "cut"
    (cut / "summary.json").unlink()
    with (cut / "metrics.csv").open("a") as file:
        file.write("999,1.0,3")
    with (cut / "growth.jsonl").open("a") as file:
        file.write('{"event": 3, "st')
    assert grow("resume", "cut").code == 0
    same_end(tmp_path / "whole", cut)


def test_the_second_ctrl_c_acts_at_once_and_the_third_whatever_happens() -> None:
    code = (
        "import os, signal, time\n"
        "from grow_cli.errors import Interrupted\n"
        "from grow_cli.training.interrupts import Interrupts\n"
        "with Interrupts().watching():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)\n"
        "    except Interrupted:\n"
        "        print('put in order', flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, timeout=20, stdout=subprocess.PIPE)
    assert (done.stdout, done.returncode) == (b"put in order\n", -signal.SIGTERM)


_EXTENDED = ("schedule=constant", "stop.epochs=null", "growth.until=1")


def test_a_finished_run_goes_on_to_a_further_limit_as_if_it_had_had_it_from_the_start(
    grow: Callable, small: tuple[str, ...], tmp_path: Path
) -> None:
    assert grow("train", *small, *_EXTENDED, "stop.steps=200", "run_dir=long").code == 0
    assert grow("train", *small, *_EXTENDED, "stop.steps=150", "run_dir=short").code == 0
    former = (tmp_path / "short/summary.json").read_bytes()
    outcome = grow("resume", "short", "stop.steps=200")
    assert outcome.code == 0, outcome.err
    assert "differs from a run" not in outcome.err
    same_end(tmp_path / "long", tmp_path / "short")
    assert (tmp_path / "short/summary-1.json").read_bytes() == former
    assert "steps: 150" in (tmp_path / "short/.hydra/config-1.yaml").read_text()
    assert "steps: 200" in (tmp_path / "short/.hydra/config.yaml").read_text(), "a kill goes on to the new limit"
    for typed, says in {
        "stop.steps=200": "is at 200 already",
        "optimizer.lr=1": "keeps its configuration",
    }.items():
        refused = grow("resume", "short", typed)
        assert refused.code == 2
        assert says in refused.err
    assert (tmp_path / "short/summary.json").exists(), "what is refused moves nothing"


@pytest.mark.slow
def test_where_the_schedule_follows_the_budget_a_further_limit_is_warned_of_or_refused(
    grow: Callable, small: tuple[str, ...]
) -> None:
    assert grow("train", *small, "stop.epochs=4", "run_dir=anneal").code == 0
    outcome = grow("resume", "anneal", "stop.epochs=5")
    assert outcome.code == 0, outcome.err
    for words in (
        "differs from a run",
        "schedule=anneal follows the budget",
        "growth was allowed until 60%",
        "step 36",
    ):
        assert words in outcome.err, words
    assert grow("train", *small, "stop.epochs=2", "schedule=cosine", "run_dir=cosine").code == 0
    refused = grow("resume", "cosine", "stop.epochs=5")
    assert refused.code == 2
    assert "schedule=cosine is spread over the whole budget" in refused.err
