"""TOST and power against closed forms, statsmodels and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from grow_cli.analysis import equivalence
from grow_cli.analysis.equivalence import seeds_to_equate, seeds_to_find, t_power, tost, tost_power

REPETITIONS = 10_000
TOLERANCE = 3 * (0.05 * 0.95 / REPETITIONS) ** 0.5


def _tost(d: np.ndarray, delta: float) -> np.ndarray:
    """(repetitions, n) → (repetitions,), all at once."""
    above = stats.ttest_1samp(d, -delta, axis=1, alternative="greater").pvalue
    return np.maximum(above, stats.ttest_1samp(d, delta, axis=1, alternative="less").pvalue)


def test_tost_is_that_of_statsmodels() -> None:
    from statsmodels.stats.weightstats import ttost_paired

    rng = np.random.default_rng(0)
    for n in (2, 5, 30):
        first, second = rng.normal(size=n), rng.normal(size=n)
        assert tost(first - second, 0.7) == pytest.approx(ttost_paired(first, second, -0.7, 0.7)[0], rel=1e-9)
    assert math.isnan(tost([0.1, 0.1, 0.1], 0.2)), "no spread, no test"
    assert math.isnan(tost([0.1], 0.2))


@pytest.mark.parametrize("n", [5, 12])
def test_tost_has_the_size_and_the_power_of_the_closed_form(n: int) -> None:
    noise = np.random.default_rng(n).normal(size=(REPETITIONS, n))
    for difference in (0.0, 0.5, 1.0, -1.0):
        found = float((_tost(noise + difference, 1.0) <= 0.05).mean())
        assert found == pytest.approx(tost_power(1.0, 1.0, n, difference=difference), abs=0.015)
        if abs(difference) >= 1:
            assert found <= 0.05 + TOLERANCE, "no more than its level at the edge of what is equal"
    assert tost_power(1.0, 1.0, 200, difference=1.0) == pytest.approx(0.05, abs=1e-3)


def test_the_power_of_the_t_test_is_that_of_statsmodels() -> None:
    from statsmodels.stats.power import TTestPower

    for effect, n in ((0.3, 5), (1.0, 10), (0.5, 34)):
        assert t_power(effect, 1.0, n) == pytest.approx(TTestPower().power(effect, n, 0.05), abs=1e-6)
    assert t_power(0.0, 1.0, 7) == pytest.approx(0.05)


@pytest.mark.parametrize("ratio", [pytest.param(0.3, marks=pytest.mark.slow), 0.8, 1.5])
def test_the_power_lines_number_of_seeds_is_that_of_simulated_experiments(ratio: float) -> None:
    """Within 10 %, or one seed where there are fewer than ten."""
    for equate, delta in ((False, ratio), (True, ratio)):
        stated = (seeds_to_equate if equate else seeds_to_find)(delta, 1.0)
        assert stated is not None
        noise = np.random.default_rng(2).normal(size=(REPETITIONS, stated + 10))
        power = []
        for n in range(max(2, stated // 2), stated + 11):
            d = noise[:, :n]
            p = _tost(d, delta) if equate else stats.ttest_1samp(d + delta, 0, axis=1).pvalue
            power.append(float((p <= 0.05).mean()))
        simulated = max(2, stated // 2) + next(i for i, value in enumerate(power) if value >= equivalence.POWER)
        assert abs(stated - simulated) <= max(1, 0.1 * simulated)


def test_more_seeds_find_less_and_none_finds_nothing() -> None:
    assert seeds_to_find(1.0, 1.0) == 10
    assert seeds_to_find(0.001, 1.0) is None
    found = equivalence.findable(1.0, 10)
    assert t_power(found, 1.0, 10) == pytest.approx(0.8, abs=1e-6)
    assert equivalence.findable(1.0, 40) < found / 1.8
    low, high = equivalence.deviation_interval(1.0, 5)
    assert (low, high) == pytest.approx((0.599, 2.874), abs=1e-3), "of five pairs the deviation is hardly known"
