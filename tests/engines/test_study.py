"""Real searches by Optuna: one study of two processes, both killed and continued; what pruning saves, and what it costs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="the extra tune")
pytestmark = pytest.mark.slow

RUN = (
    "method=static",
    "dataset=digits",
    "model=mlp",
    "model.hidden=[16]",
    "subset=600",
    "device=cpu",
    "threads=1",
    "progress=off",
)
# the upper half of the span trains; with the lower one nothing happens in so few epochs
SPACE = "optimizer.lr: {low: 1e-8, high: 1e-1, log: true}\n"
PATIENCE = 600


def tuned(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tune.json").read_text())
    return found["methods"]["static"] | {"flops": found["flops"]}


def test_a_study_of_two_processes_that_are_both_killed_is_continued_and_nothing_is_trained_twice(
    spawn: Callable, tmp_path: Path
) -> None:
    line = ("tune", *RUN, "stop.epochs=8", "--trials", "12", "--seeds", "1", "--pruner", "median", "--folder", "t")
    two = [spawn(*line), spawn(*line)]
    end = time.monotonic() + PATIENCE
    while len(list(tmp_path.glob("t/static/*/*/summary.json"))) < 4:
        assert time.monotonic() < end
        assert all(one.poll() is None for one in two), [one.communicate() for one in two]
        time.sleep(0.05)
    for one in two:
        os.kill(one.pid, signal.SIGKILL)
        one.communicate()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("t/static/*/*/summary.json")}
    assert 4 <= len(before) < 12
    two = [spawn(*line), spawn(*line)]
    ended = [one.communicate(timeout=PATIENCE) for one in two]
    assert [one.returncode for one in two] == [0, 0], ended
    assert all(path.stat().st_mtime_ns == at for path, at in before.items()), "none is trained twice"
    assert spawn(*line).wait(PATIENCE) == 0  # whichever ended first knew the other at its last trial
    trials = tuned(tmp_path / "t")["trials"]
    assert [trial["number"] for trial in trials] == list(range(12))
    assert {trial["state"] for trial in trials} <= {"finished", "pruned"}
    assert len(list(tmp_path.glob("t/static/*/*/summary.json"))) == 12


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruning_stops_a_third_of_the_trials_where_half_are_hopeless_and_finds_as_good_a_value(
    spawn: Callable, tmp_path: Path, pruner: str
) -> None:
    (tmp_path / "space.yaml").write_text(SPACE, encoding="utf-8")
    line = ("tune", *RUN, "stop.epochs=20", "--trials", "24", "--seeds", "1", "--space", "space.yaml")
    for how in ("none", pruner):
        searching = spawn(*line, "--pruner", how, "--folder", how)
        out, err = searching.communicate(timeout=PATIENCE)
        assert searching.returncode == 0, out + err
    whole, cut = tuned(tmp_path / "none"), tuned(tmp_path / pruner)
    states = Counter(trial["state"] for trial in cut["trials"])
    print(pruner, states, f"best {cut['winner']['score']:.4f}, without {whole['winner']['score']:.4f}")
    print(f"FLOPs {cut['flops']:.4g}, without {whole['flops']:.4g}: {cut['flops'] / whole['flops']:.2f}")
    assert Counter(trial["state"] for trial in whole["trials"]) == {"finished": 24}
    assert states["pruned"] >= 8
    assert cut["winner"]["score"] >= whole["winner"]["score"] - 0.01, "as good as without"
    assert cut["flops"] < whole["flops"]
    pruned = [trial for trial in cut["trials"] if trial["state"] == "pruned"]
    for trial in pruned:
        summary = json.loads(
            next(tmp_path.glob(f"{pruner}/static/trial-{trial['number']:03d}/*/summary.json")).read_text()
        )
        assert (summary["status"], summary["ended"]["rule"]) == ("finished", "pruned")
