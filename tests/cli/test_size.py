"""`grow size`: the size that growing finds, and its verdict beside a ladder of static sizes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from grow_cli.sizes.answer import beside, size_of
from grow_cli.tasks import TASKS

RUN = (
    "method=random_width model=mlp model.hidden=[2,2] growth.neurons=3 trigger=every trigger.every=4 growth.max_units=[8] "
    "stop.epochs=30 evaluate.every=2 subset=400 threads=1 progress=off"
).split()
ACCURACY = TASKS["classification"]


def test_a_size_over_seeds_has_the_t_interval_of_its_logarithms() -> None:
    found = size_of([100, 400])
    assert math.isclose(found.middle, 200)
    # two values: half the interval is t(0.975, 1) times half their distance, in logarithms
    assert math.isclose(math.log(found.high / found.middle), 12.7062 * math.log(2), rel_tol=1e-4)
    assert math.isnan(size_of([100]).low)
    assert "no interval" in size_of([100]).words


@pytest.mark.parametrize(
    ("shift", "noise", "verdict"),
    [
        (0.0, 0.0005, "equal within 0.2 points"),
        (0.03, 0.0005, "better"),
        (-0.03, 0.0005, "worse"),
        (0.0005, 0.03, "undecided"),
    ],
)
def test_the_verdict_is_in_words_and_points(shift: float, noise: float, verdict: str) -> None:
    best = {seed: 0.9 + 0.01 * seed for seed in range(6)}
    grown = {seed: score + shift + noise * (-1) ** seed for seed, score in best.items()}
    found = beside(grown, best, ACCURACY, 0.2)
    assert found.verdict == verdict
    assert math.isclose(found.difference, 100 * shift, abs_tol=1e-9)


def test_of_a_score_that_is_better_when_lower_a_lower_one_is_better() -> None:
    lower = next(task for task in TASKS.values() if task.direction < 0)
    best = {seed: 2.0 + 0.1 * seed for seed in range(6)}
    grown = {seed: score - 0.5 + 0.001 * (-1) ** seed for seed, score in best.items()}
    assert beside(grown, best, lower, 0.02).verdict == "better"


def test_one_seed_decides_nothing() -> None:
    assert beside({0: 0.9}, {0: 0.9}, ACCURACY, 0.2).verdict == "undecided: one seed"


@pytest.mark.slow
def test_the_size_is_held_against_a_ladder_and_the_same_line_trains_nothing_twice(grow: Callable) -> None:
    line = ["size", *RUN, "--seeds", "2", "--ladder", "3", "--against", "sweep", "--out", "o"]
    outcome = grow(*line)
    assert outcome.code == 0, outcome.err
    assert "size: " in outcome.out
    assert "cost of growing: " in outcome.out
    found = json.loads(Path("o/size.json").read_text())
    assert Path("o/size.png").stat().st_size > 1000
    runs = [json.loads(path.read_text()) for path in Path("o/grown").glob("*/summary.json")]
    assert sorted(found["parameters"]) == sorted(run["parameters"] for run in runs)
    assert found["flops"] == sum(run["training_flops"] for run in runs)
    rungs = found["ladder"]["rungs"]
    assert found["ladder_flops"] == sum(sum(rung["training_flops"]) for rung in rungs)
    assert found["halving_flops"] < found["ladder_flops"]
    assert found["cost_of_ladder"] == pytest.approx(found["flops"] / found["ladder_flops"])
    means = {rung["parameters"]: sum(rung["scores"]) / 2 for rung in rungs}
    assert means[found["best"]] == max(means.values())
    tried = list(Path("o/grown").glob("*/controls/.tried/*/summary.json"))
    assert len(tried) == 2 * len(rungs)
    assert not any(key.startswith("test_") for path in tried for key in json.loads(path.read_text()))

    before = {path: path.stat().st_mtime_ns for path in Path("o/grown").rglob("metrics.csv")}
    assert grow(*line).code == 0
    assert {path: path.stat().st_mtime_ns for path in Path("o/grown").rglob("metrics.csv")} == before
    assert json.loads(Path("o/size.json").read_text()) == found

    other = grow(*line[:1], "dataset=moons", *line[1:])
    assert (other.code, "another question" in other.err) == (2, True)


@pytest.mark.slow
def test_a_limit_holds_for_the_grown_net_and_for_the_ladder(grow: Callable) -> None:
    outcome = grow(
        *(
            "size",
            *RUN,
            "--seeds",
            "1",
            "--ladder",
            "4",
            "--against",
            "halving",
            "--max-parameters",
            "450",
            "--max-flops-per-sample",
            "800",
            "--out",
            "o",
        )
    )
    assert outcome.code == 0, outcome.err
    found = json.loads(Path("o/size.json").read_text())
    assert found["parameters"][0] <= 450
    assert found["flops_per_sample"][0] <= 800
    assert all(rung["flops_per_sample"] <= 800 for rung in found["ladder"]["rungs"])
    assert all(rung["parameters"] <= 450 for rung in found["ladder"]["rungs"])
    assert found["verdict"] == "undecided: one seed"
    assert "(one seed: no interval): undecided" in outcome.out
    assert "nan" not in outcome.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--seeds", "0"], "--seeds 0: must be 1 or more"),
        (["--ladder", "1"], "--ladder 1: must be from 2 to 32 sizes"),
        (["--within", "0"], "--within 0: must be a number above 0"),
        (["--max-parameters", "0"], "--max-parameters 0: must be 1 or more"),
        (["growth.max_flops_per_sample=9"], "use --max-flops-per-sample"),
        (["--against", "swep"], "swep"),
        (["seed=3"], "use --seeds"),
        (["run_dir=x"], "use --out"),
        (["method=tiny,senn"], "one way at a time"),
        (["method"], "cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence_before_anything_is_written(
    grow: Callable, tmp_path: Path, words: list[str], says: str
) -> None:
    outcome = grow("size", *words)
    assert outcome.code == 2
    assert says in outcome.err
    assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_runs_in_which_nothing_grew_have_no_size(grow: Callable) -> None:
    outcome = grow("size", "method=static", "stop.epochs=1", "subset=100", "progress=off", "--seeds", "1")
    assert outcome.code == 2
    assert "nothing grew" in outcome.err
    assert list(Path("outputs/size").glob("*/asked.json")), "without --out, below outputs/size"
