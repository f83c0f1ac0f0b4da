"""The comparison's statistics, by hand-computed cases and by simulated experiments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from grow_cli.analysis.statistics import anytime, area, front, holm, interval, intervals, paired, wilcoxon


def _seeds(values: np.ndarray) -> dict[int, float]:
    return dict(enumerate(values.tolist()))


def _experiments(effect: float, n: int, repetitions: int) -> list[tuple[float, float]]:
    """p-values of simulated experiments: seeds of spread 1 that both ways share, noise of spread 0.5 of each run."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(repetitions):
        seeds = rng.normal(size=n)
        test = paired(
            _seeds(seeds + effect + rng.normal(scale=0.5, size=n)), _seeds(seeds + rng.normal(scale=0.5, size=n))
        )
        assert test is not None
        found.append((test.t_pvalue, test.wilcoxon_pvalue))
    return found


@pytest.fixture(autouse=True)
def _quick_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grow_cli.analysis.statistics._RESAMPLES", 300)


@pytest.fixture
def no_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of simulated experiments are after p-values only."""
    monkeypatch.setattr("grow_cli.analysis.statistics.interval", lambda values: (math.nan, math.nan))


def test_no_effect_is_found_at_the_nominal_rate(no_bootstrap: None) -> None:
    t, rank = (np.mean([p < 0.05 for p in ps]) for ps in zip(*_experiments(0.0, 8, 600), strict=True))
    assert t == pytest.approx(0.05, abs=0.03)
    assert 0.01 < rank <= 0.07  # exact: at most 0.05 in the long run


def test_a_known_effect_is_found(no_bootstrap: None) -> None:
    t, rank = (np.mean([p < 0.05 for p in ps]) for ps in zip(*_experiments(1.0, 10, 200), strict=True))
    power = stats.nct.sf(stats.t.isf(0.025, 9), 9, np.sqrt(10) / np.sqrt(0.5))  # of the paired t-test, by theory
    assert t == pytest.approx(power, abs=0.07)
    assert rank > 0.8


def test_seeds_that_runs_share_do_not_hide_an_effect() -> None:
    """The seeds' own spread is four times the effect: an unpaired test sees nothing."""
    rng = np.random.default_rng(0)
    seeds = rng.normal(size=10)
    first, second = seeds + 0.25, seeds + rng.normal(scale=0.05, size=10)
    assert stats.ttest_ind(first, second).pvalue > 0.3
    test = paired(_seeds(first), _seeds(second))
    assert test is not None
    assert test.t_pvalue < 1e-4
    assert test.wilcoxon_pvalue < 0.01
    assert test.low < test.difference < test.high


def test_pairs_are_the_shared_seeds_whatever_their_order() -> None:
    test = paired({3: 1.0, 1: 2.0, 7: 5.0}, {7: 4.0, 9: 100.0, 1: 1.5})
    assert test is not None
    assert (test.n, test.difference) == (2, 0.75)
    assert paired({1: 1.0, 2: 1.0}, {2: 1.0, 3: 1.0}) is None, "one shared seed is no test"


def test_wilcoxon_is_exact_with_and_without_ties() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        d = rng.normal(size=7)
        assert wilcoxon(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)
    # ranks 1.5, 1.5, 3, signs + + +: of 8 assignments the two with equal signs are as extreme
    assert wilcoxon([0.1, 0.1, 0.2]) == 0.25
    # ranks 1.5, 1.5, 3 with signs + − +: |3| or more in 6 of 8 assignments (sums ±6, ±3 twice each)
    assert wilcoxon([0.1, -0.1, 0.2]) == 0.75
    assert wilcoxon([1.0] * 5) == pytest.approx(2 / 2**5)
    assert wilcoxon([0.0, 0.0]) == 1.0


def test_differences_that_are_equal_but_for_rounding_are_ties() -> None:
    first, second = {0: 0.98, 1: 0.97, 2: 0.96}, {0: 0.97, 1: 0.96, 2: 0.95}
    test = paired(first, second)
    assert test is not None
    assert math.isnan(test.t_pvalue), "without any spread a t-test has nothing to divide by"
    assert test.wilcoxon_pvalue == 0.25
    same = paired(first, first)
    assert same is not None
    assert (same.t_pvalue, same.wilcoxon_pvalue, same.difference) == (1.0, 1.0, 0.0)


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1, and never below the one before
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    from statsmodels.stats.multitest import multipletests

    drawn = np.random.default_rng(5).uniform(size=9) ** 3
    assert holm(drawn.tolist()) == pytest.approx(multipletests(drawn, method="holm")[1])
    corrected = holm([0.5, math.nan, 0.01])
    assert corrected[::2] == pytest.approx([1.0, 0.03]), "a test that could not be made was one all the same"
    assert math.isnan(corrected[1])


@pytest.mark.slow
def test_holm_keeps_the_chance_of_any_false_finding_below_the_level(no_bootstrap: None) -> None:
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(400):
        shared = rng.normal(size=(1, 6))
        runs = shared + rng.normal(scale=0.5, size=(5, 6))
        tests = [paired(_seeds(runs[0]), _seeds(runs[i])) for i in range(1, 5)]
        wrong += min(holm([test.t_pvalue for test in tests if test is not None])) < 0.05
    assert wrong / 400 <= 0.05 + 0.03


@pytest.mark.parametrize(("n", "low", "high"), [(5, 0.76, 0.92), (30, 0.91, 0.98)])
def test_intervals_hold_the_mean_as_often_as_the_notes_say(n: int, low: float, high: float) -> None:
    rng = np.random.default_rng(4)
    held = [lower <= 0 <= upper for lower, upper in (interval(rng.normal(size=n)) for _ in range(300))]
    assert low <= np.mean(held) <= high


def test_intervals_of_many_are_those_of_each() -> None:
    rng = np.random.default_rng(6)
    many = [rng.normal(size=n) for n in (2, 5, 10, 10, 5, 40, 10)] + [np.ones(4)]
    np.testing.assert_allclose(intervals(many), [interval(x) for x in many], rtol=1e-9)
    assert intervals(many[2:3]) == intervals(many)[2:3], "whatever else is in the table"


def test_an_interval_needs_three_values_and_is_a_point_without_spread() -> None:
    assert math.isnan(interval([1.0, 2.0])[0])
    assert interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


def test_the_anytime_curve_never_falls_and_its_area_is_that_of_steps() -> None:
    xs, ys = anytime([10, 20, 30], [0.5, 0.4, 0.9], 0.1)
    assert (xs, ys) == ([0, 10, 20, 30], [0.1, 0.5, 0.5, 0.9])
    assert area(xs, ys, 30) == pytest.approx((10 * 0.1 + 20 * 0.5) / 30)
    assert area(xs, ys, 40) == pytest.approx((10 * 0.1 + 20 * 0.5 + 10 * 0.9) / 40), "what was reached is kept"
    assert area(xs, ys, 15) == pytest.approx((10 * 0.1 + 5 * 0.5) / 15)


def test_anytime_curves_against_parameters_bear_nets_that_shrink() -> None:
    """A growth that was taken back: the score of the larger net counts from its size on only."""
    xs, ys = anytime([100, 200, 100], [0.5, 0.8, 0.6], 0.1)
    assert (xs, ys) == ([0, 100, 100, 200], [0.1, 0.5, 0.6, 0.8])


def test_the_front_holds_what_nothing_betters() -> None:
    assert front([1, 2, 3, 2], [0.5, 0.7, 0.6, 0.7]) == [True, True, False, True]
