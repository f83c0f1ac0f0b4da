"""The rungs of a finished run's ladder: planned, trained for its FLOPs, read back. They are stored in
RUN/controls/.tried/<parameters>.

A rung's validation alone is measured: the test split is read for the chosen one only, once it is chosen
(`grow_cli.sizes.best`).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from grow_cli.controls import NotPossible, control_config, refuse_begun, train_beside
from grow_cli.errors import Paused, TrainingFailed, UserError
from grow_cli.files import is_there, make_folder, write_text
from grow_cli.records import configs, reading
from grow_cli.records.flat import plain
from grow_cli.records.folder import TRIED, RunFolder
from grow_cli.records.metrics import read_metrics
from grow_cli.sizes.ladder import Rung, ladder
from grow_cli.tasks import task_in

KIND = "static-best"

# Evaluations of a rung's training: as many for each size, and one near each fraction at which a halving drops some.
_EVALUATIONS = 32

EXACT = 0.01
"""A training ends after a whole step: sizes of which one costs more than this part of the budget are left out of a ladder."""

# A part of a budget is over when so much of it is: evaluations fall on whole steps.
_NEARLY = 1 - 1 / 64


def tried_folder(folder: RunFolder, rung: Rung | str) -> RunFolder:
    """Where a run's rung lies."""
    return RunFolder(folder.path / "controls" / TRIED / (rung if isinstance(rung, str) else rung.name))


def plan_file(folder: RunFolder) -> Path:
    """The ladder that was planned for a run, with what came of it."""
    return folder.path / "controls" / TRIED / "ladder.json"


def planned(folder: RunFolder, asked: int | None = None) -> list[Rung]:
    """The rungs of a run's plan; none where there is none yet. Damaged where the file is not grow's.

    :param asked: how many were asked for: none where the plan was made for another number
    """
    path = plan_file(folder)
    if not is_there(path):
        return []
    found = reading.json_data(path, folder.path)
    with reading.reading(path):
        rungs = [Rung(**{key: one[key] for key in Rung.__dataclass_fields__}) for one in found["rungs"]]
        for rung in rungs:
            if rung.name != str(int(rung.parameters)):  # it names a folder
                raise reading.damaged(path, f"a rung is called {rung.name!r}")
        return rungs if asked in (None, found.get("asked")) else []


def write_plan(folder: RunFolder, content: dict[str, Any]) -> None:
    """Into each run of a group, before anything is trained."""
    make_folder(folder.path / "controls")
    make_folder(folder.path / "controls" / TRIED)
    write_text(plan_file(folder), json.dumps(plain(content), indent=1) + "\n")


def plan(runs: list[RunFolder], count: int) -> list[Rung]:
    """One ladder for runs that differ by their seeds: that of the run with the median net. NotPossible where there is none.

    A net that did not grow leads nowhere, so the median is of those that did, if there are any. A plan that one of the runs
    has is kept, if it is as long: nothing is trained twice when a seed is added.
    """
    for folder in runs:
        if rungs := planned(folder, count):
            return rungs
    grew = [folder for folder in runs if has_grown(folder)] or runs
    by_size = sorted(grew, key=lambda folder: int(folder.read_summary()["parameters"]))
    middle = by_size[(len(by_size) - 1) // 2]
    summary = middle.read_summary()
    with reading.reading(summary.path):
        source = configs.whole(middle.config(), middle.hydra / "config.yaml")
        refuse_begun(source)
        rungs = ladder(summary["architecture"], source["model"], count)
        flops = min(float(folder.read_summary()["training_flops"]) for folder in runs)
        fit = [r for r in rungs if 3 * r.flops_per_sample * source["batch_size"] <= EXACT * flops]
    if len(fit) < 2:
        raise NotPossible(
            f"its {flops:.3g} FLOPs are too few steps of the other sizes to match the cost within {EXACT:.0%}: train it "
            "longer"
        )
    return fit


def has_grown(folder: RunFolder) -> bool:
    """Whether any of a finished run's growth was kept."""
    summary = folder.read_summary()
    return int(summary.get("events", 0)) > int(summary.get("undone", 0))


def rung_config(folder: RunFolder, rung: Rung) -> dict[str, Any]:
    """The run's recipe on a static net of this size, for the run's FLOPs; NotPossible where the run has no such control."""
    raw = control_config(folder, "static-flops") | {"control": KIND}
    raw["model"] |= rung.sizes
    flops, a_step = raw["stop"]["flops"], 3 * rung.flops_per_sample * raw["batch_size"]
    every = max(1, math.floor(flops / a_step / _EVALUATIONS))
    raw["evaluate"] |= {"every": float(every), "unit": "steps", "test_every": None}
    return raw


def train_rung(folder: RunFolder, name: str, fraction: float, settings: dict[str, Any]) -> str:
    """Train a rung of a run's plan to a fraction of its budget, or continue it; says what was done.

    A training that fails (a loss that is no longer finite) is the rung's result, and it is never chosen.
    """
    rung = next((rung for rung in planned(folder) if rung.name == name), None)
    if rung is None:
        raise UserError(f"{plan_file(folder)} has no rung {name}: plan the ladder with `grow controls --only {KIND}`")
    target = tried_folder(folder, rung)
    if over(target) or judged(folder, target, fraction) is not None:
        return "exists already"
    limit = float(folder.read_summary()["training_flops"])
    pause = math.inf if fraction >= 1 else fraction * limit * _NEARLY
    try:
        return train_beside(
            folder, target, lambda: rung_config(folder, rung), settings, splits=("train", "val"), pause_at=pause
        )
    except Paused:
        return f"set aside at {fraction:.3g} of its budget"
    except TrainingFailed as error:
        if target.read_summary().get("status") != "failed":
            raise
        return f"failed: {error}"


def over(target: RunFolder) -> bool:
    """Whether nothing more comes of a rung's training."""
    return target.read_summary().get("status") in ("finished", "failed")


def judged(folder: RunFolder, target: RunFolder, fraction: float) -> tuple[float, float] | None:
    """(validation score, more is better; FLOPs) of a rung when that fraction of its budget was spent; None if it is not yet.

    The same whether it was set aside then, trained on since, or never set aside.
    """
    summary = target.read_summary()
    status = summary.get("status")
    if status == "failed":
        return -math.inf, float(summary["training_flops"])
    if status == "finished" and fraction >= 1:
        task = task_in(summary)
        value = summary.get(task.column("val"))
        return task.direction * (-math.inf if value is None else float(value)), float(summary["training_flops"])
    if fraction >= 1 or not is_there(target.metrics):
        return None
    metrics = read_metrics(target)
    limit = float(folder.read_summary()["training_flops"])
    there = metrics[metrics["flops"] >= fraction * limit * _NEARLY]
    if there.empty:
        return None
    task = task_in(metrics.columns)
    return task.direction * float(there[task.column("val")].iloc[0]), float(there["flops"].iloc[0])
