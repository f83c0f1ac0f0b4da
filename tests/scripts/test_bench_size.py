"""scripts/bench_size.py: tables, conditions and verdicts, on answers that are planted."""

from __future__ import annotations

import math
from typing import Any

import bench_size
import pytest


def _told(difference: float, verdict: str, *, cost: float = 0.125) -> dict[str, Any]:
    ladder = {"chosen": "20", "rungs": [{"name": "20", "parameters": 20, "scores": [0.9, 0.91]}]}
    return {
        "difference": difference,
        "difference_interval": [difference - 1, difference + 1],
        "verdict": verdict,
        "cost_of_ladder": cost,
        "cost_of_halving": 0.4,
        "within": 0.2,
        "seeds": [0, 1, 2, 3, 4],
        "size": 25.0,
        "best": 20,
        "interval": [20.0, 30.0],
        "scores": [0.9, 0.92],
        "chosen_by": "val_accuracy",
        "ladder": ladder,
    }


EQUAL = _told(0.05, "equal within 0.2 points")
UNDECIDED = _told(0.05, "undecided")
WORSE = _told(-2.0, "worse")
HARMLESS = _told(-0.1, "worse, but within 0.2 points")


def _cells(*cells: Any) -> dict[str, Any]:
    return dict(zip(bench_size.PROBLEMS, cells, strict=False))


@pytest.mark.parametrize(
    ("cells", "word"),
    [
        ([EQUAL] * 4 + [UNDECIDED], "confirmed"),
        ([EQUAL] * 4 + [WORSE], "confirmed"),
        ([HARMLESS] * 4 + [UNDECIDED], "confirmed"),
        ([EQUAL] * 4 + ["does not fit: it needs classes"], "confirmed"),
        ([UNDECIDED] * 5, "undecided"),
        ([UNDECIDED] * 4 + [WORSE], "undecided"),
        ([UNDECIDED] * 3 + [WORSE] * 2, "refuted"),
        ([UNDECIDED] * 3 + ["nothing grew"] * 2, "refuted"),
        ([EQUAL] * 3 + [_told(0.05, "equal within 0.2 points", cost=0.5)] * 2, "refuted"),
    ],
)
def test_a_method_is_judged_by_eight_of_ten_of_the_problems_that_it_fits(cells: list[Any], word: str) -> None:
    assert bench_size.count(_cells(*cells)).word == word


def test_a_mean_within_delta_is_not_taken_for_equality() -> None:
    assert bench_size.on_average(UNDECIDED)
    assert not bench_size.shown(UNDECIDED)
    assert not bench_size.on_average(WORSE)


def test_the_deviation_is_that_of_the_interval() -> None:
    # half of it is t(0.975, 4) / √5 deviations
    assert math.isclose(bench_size.deviation(EQUAL), math.sqrt(5) / 2.7764451, rel_tol=1e-6)


def test_a_problem_that_a_method_does_not_fit_is_a_line_with_the_reason() -> None:
    reason = bench_size.read("houses", "fold")
    assert isinstance(reason, str)
    line = bench_size.row("houses", "fold", reason)
    assert "does not fit: it needs classes" in line
    assert line.count("|") == bench_size.row("digits", "tiny", EQUAL).count("|") == bench_size.HEAD.count("|")


def test_the_generated_tables_are_the_same_each_time() -> None:
    assert bench_size.houses(50).equals(bench_size.houses(50))
    assert bench_size.houses(50).shape == (50, 9)
    assert bench_size.piecewise(50).equals(bench_size.piecewise(50))
