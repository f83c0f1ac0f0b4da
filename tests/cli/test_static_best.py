"""The control `static-best`: the best static size at the run's FLOPs, chosen on validation, its whole ladder paid for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grow_cli.analysis.runs import read_records
from grow_cli.controls import NotPossible
from grow_cli.records.folder import RunFolder
from grow_cli.sizes.best import search_ladder
from grow_cli.sizes.ladder import BEYOND, between, ladder
from grow_cli.sizes.rungs import judged, plan, tried_folder
from grow_cli.sizes.search import Scores, fractions, search

GROWN = (
    "method=random_width model=mlp model.hidden=[2,2] growth.neurons=3 trigger=every trigger.every=4 growth.max_units=[8] "
    "stop.epochs=30 evaluate.every=2 subset=400 dataset.split_seed=seed threads=1 progress=off"
).split()
ENDS = {"input_shape": [3, 16, 16], "outputs": 10, "task": "classification"}


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _planted(best: int, noise: float) -> Callable[[Sequence[tuple[int, int]], float], Scores]:
    """Validation scores that fall to both sides of the best size; a seed moves all sizes alike, as data do."""
    rng = np.random.default_rng(0)
    shifts = rng.normal(0, 0.05, 100)
    noises = rng.normal(0, noise, (32, 100))

    def train(wanted: Sequence[tuple[int, int]], fraction: float) -> Scores:
        # what is left of the budget is missed by all alike
        return {(r, s): -0.01 * (r - best) ** 2 - (1 - fraction) + shifts[s] + noises[r, s] for r, s in wanted}

    return train


@pytest.mark.parametrize("halving", [False, True])
@pytest.mark.parametrize("best", range(8))
def test_the_planted_best_size_of_a_ladder_is_found(best: int, halving: bool) -> None:
    found = search(8, range(5), _planted(best, 0.002), halving=halving)
    assert found.best == best
    assert found.reached[best] == 1


def test_halving_trains_the_better_half_on_and_costs_less_than_a_third_of_the_ladder() -> None:
    calls: list[tuple[float, set[int]]] = []

    def train(wanted: Sequence[tuple[int, int]], fraction: float) -> Scores:
        calls.append((fraction, {rung for rung, _ in wanted}))
        return _planted(5, 0.0)(wanted, fraction)

    found = search(8, [0, 1], train, halving=True)
    assert [(f, len(rungs)) for f, rungs in calls] == [(1 / 8, 8), (1 / 4, 4), (1 / 2, 2), (1, 1)]
    assert all(later < earlier for (_, earlier), (_, later) in pairwise(calls))
    assert sum(found.reached.values()) == 4 / 8 + 2 / 4 + 1 / 2 + 1  # budgets, of 8


def test_of_equal_sizes_the_smaller_is_chosen_and_one_that_failed_with_a_seed_is_not() -> None:
    scores = {(0, 0): -math.inf, (0, 1): 9.0, (1, 0): 0.1 + 0.2, (1, 1): 0.3, (2, 0): 0.3, (2, 1): 0.1 + 0.2}
    assert search(3, [0, 1], lambda wanted, _: {w: scores[w] for w in wanted}, halving=False).best == 1
    assert fractions(1) == [1.0]
    assert fractions(5) == [1 / 8, 1 / 4, 1 / 2, 1.0]


@pytest.mark.parametrize(
    ("model", "first"),
    [
        ({"name": "mlp", "hidden": [40, 11, 70]}, {"hidden": [4, 4, 4]}),
        (
            {"name": "cnn", "channels": [[8, 10], [24, 24]], "hidden": [9]},
            {"channels": [[2, 2], [2, 2]], "hidden": [2]},
        ),
        ({"name": "residual_mlp", "width": 16, "hidden": [64, 64, 64, 64]}, {"hidden": [64, 64]}),
        ({"name": "mlp", "hidden": [30, 20]}, {"hidden": []}),
    ],
)
def test_a_ladder_is_geometric_in_parameters_from_the_initial_net_to_twice_the_grown_one(
    model: dict[str, Any], first: dict[str, Any]
) -> None:
    rungs = ladder(ENDS | {"model": model}, model | first, 6)
    from grow_cli.models.base import rebuild

    counts = [sum(p.numel() for p in rebuild(ENDS | {"model": m}).parameters()) for m in (model | first, model)]
    sizes = [rung.parameters for rung in rungs]
    assert rungs[0].sizes == first
    assert sizes[0] == counts[0]
    assert sizes[-1] == pytest.approx(BEYOND * counts[1], rel=0.1)
    assert sizes == sorted(set(sizes))
    assert len(sizes) == 6
    ratios = np.diff(np.log(sizes))
    # a layer or a unit cannot be had in part, and only a net that can be made is a rung
    assert ratios.max() < 3.5 * ratios.min() if first["hidden"] else ratios.min() > 0
    for rung in rungs:
        net = rebuild(ENDS | {"model": model | rung.sizes})
        assert sum(p.numel() for p in net.parameters()) == rung.parameters


def test_a_stack_grows_on_in_depth_and_width_as_the_run_did() -> None:
    assert between([4], [8, 8, 8], 0.5) == [6, 6]
    assert between([4], [8, 8, 8], 1.0) == [8, 8, 8]
    assert between([4], [8, 8, 8], 2.0) == [12] * 5
    assert between([64, 64], [64] * 4, 1.5) == [64] * 5
    assert between([], [10, 6], 1.0) == [10, 6]
    assert between([[2, 2], [2, 2]], [[2, 4], [8, 8]], 0.5) == [[2, 3], [5, 5]]
    assert between({"hidden": [10, 20]}, {"hidden": [10, 20]}, 7.0) == {"hidden": [10, 20]}


def test_a_run_whose_net_became_no_larger_has_no_ladder() -> None:
    model = {"name": "mlp", "hidden": [4]}
    with pytest.raises(NotPossible, match="growing further in the same direction"):
        ladder(ENDS | {"model": model}, model, 4)


@pytest.mark.slow
def test_a_ladder_ends_as_a_control_of_equal_cost_whose_cost_is_all_that_was_trained(
    grow: Callable, tmp_path: Path
) -> None:
    assert grow("train", "-m", *GROWN, "seed=0,1", "run_dir=sweep").code == 0
    words = ("controls", "sweep", "--only", "static-best", "--ladder", "3", "progress=off")
    outcome = grow(*words)
    assert outcome.code == 0, outcome.err
    runs = sorted(p for p in (tmp_path / "sweep").iterdir() if (p / "summary.json").is_file())
    ladders = [_json(run / "controls" / "static-best" / "ladder.json") for run in runs]
    assert ladders[0]["chosen"] == ladders[1]["chosen"]
    assert ladders[0]["seeds"] == [0, 1]
    tried = [_json(p) for run in runs for p in (run / "controls" / ".tried").glob("*/summary.json")]
    assert len(tried) == 6
    for run in runs:
        grown, best = _json(run / "summary.json"), _json(run / "controls" / "static-best" / "summary.json")
        own = [_json(p) for p in (run / "controls" / ".tried").glob("*/summary.json")]
        for summary in (*own, best):
            assert summary["training_flops"] == pytest.approx(grown["training_flops"], rel=0.01)
            assert summary["seed"] == grown["seed"]
            assert summary["growth_flops"] == 0
        assert not any(key.startswith("test_") for summary in own for key in summary), "a rung's test is not read"
        assert best["control"] == "static-best"
        assert best["ladder_flops"] == sum(s["training_flops"] for s in own)
        assert 0 <= best["test_accuracy"] <= 1
    assert ladders[0]["cost"]["flops"] == sum(s["training_flops"] for s in tried)
    means = {row["name"]: sum(row["scores"]) / 2 for row in ladders[0]["rungs"]}
    assert means[ladders[0]["chosen"]] == max(means.values())
    # it is a run like any other: measured again it scores the same, and it is compared as a control
    again = json.loads(grow("eval", runs[0] / "controls" / "static-best", "--json").out)
    assert again["test_accuracy"] == _json(runs[0] / "controls" / "static-best" / "summary.json")["test_accuracy"]
    labels = [r.label for r in read_records([tmp_path / "sweep"])]
    assert labels.count("random · static-best") == 2
    assert len(labels) == 4, "rungs are no results"
    # nothing is trained twice, whole or as the longest ladder's part
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "sweep").glob("**/metrics.csv")}
    assert "static-best exists already" in grow(*words).out
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "sweep").glob("**/metrics.csv")}


@pytest.mark.slow
def test_seeds_that_did_not_grow_do_not_take_the_ladder_from_those_that_did(grow: Callable, tmp_path: Path) -> None:
    for name, more in (("grew", []), ("not", ["growth.max_events=0"]), ("neither", ["growth.max_events=0"])):
        assert grow("train", *GROWN, "seed=1", *more, f"run_dir={name}").code == 0
    grew, *others = (RunFolder(tmp_path / name) for name in ("grew", "not", "neither"))
    rungs = plan([grew, *others], 3)
    # the budget is the smallest of them, of which one step of the largest size may be too large a part
    assert rungs == plan([grew], 3)[: len(rungs)]
    assert len(rungs) >= 2
    with pytest.raises(NotPossible):
        plan(others, 3)


@pytest.mark.slow
def test_a_rung_that_halving_set_aside_and_took_up_again_is_the_one_that_was_never_set_aside(
    grow: Callable, tmp_path: Path
) -> None:
    assert grow("train", *GROWN, "run_dir=run").code == 0
    folder = RunFolder(tmp_path / "run")
    rungs = plan([folder], 3)
    from grow_cli.commands.ladders import trainer
    from grow_cli.sizes.rungs import write_plan

    halved = search_ladder([folder], 3, trainer(["progress=off"], 1), halving=True)
    assert halved.rungs == rungs
    flops = {r.name: tried_folder(folder, r).read_summary()["training_flops"] for r in rungs}
    whole = folder.read_summary()["training_flops"]
    assert sorted(f / whole for f in flops.values()) == pytest.approx([0.25, 0.5, 1.0], abs=0.05)  # whole epochs
    assert halved.halving_flops() == sum(flops.values()) == halved.cost()["flops"]
    # to the end, and once more in another folder without a pause
    full = search_ladder([folder], 3, trainer(["progress=off"], 1), halving=False)
    assert full.halving_flops() == full.cost()["flops"]
    first = next(r for r in rungs if flops[r.name] < 0.4 * whole)
    resumed = tried_folder(folder, first)
    (resumed.path).rename(tmp_path / "aside")
    write_plan(folder, {"asked": 3, "rungs": [r.to_json() for r in rungs]})
    trainer(["progress=off"], 1)([(folder, first.name)], 1.0)
    one, other = _json(tmp_path / "aside" / "summary.json"), resumed.read_summary()
    for key in ("val_loss", "train_loss", "val_accuracy", "training_flops", "steps", "best_step"):
        assert one[key] == other[key]
    assert judged(folder, resumed, 0.25) == judged(folder, RunFolder(tmp_path / "aside"), 0.25)


def test_what_cannot_be_a_ladder_is_a_sentence(grow: Callable) -> None:
    assert "--ladder 1: must be from 2 to 32" in grow("controls", "run", "--ladder", "1").err
