"""When losses have come to rest: error rates by simulation, what is no series to test, and the trigger that reads them.

Windows of 20 losses, 200 series of each kind, always the same ones.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from grow_cli.theory.stationarity import Stationarity, stationarity
from grow_cli.triggers.adf import Adf
from grow_cli.triggers.base import Trigger, Verdict

TRIALS, WINDOW = 200, 20
Single = partial(Adf, patience=1)
"""The paper's trigger, a single window."""


@dataclass
class Seen:
    """What a trigger may look at."""

    measured: dict[str, float] = field(default_factory=dict)


@cache
def simulated(kind: str) -> np.ndarray:
    """Losses (trials, window) with a noise of 0.01."""
    noise = 0.01 * np.random.default_rng(0).standard_normal((TRIALS, WINDOW))
    if kind == "walk":
        return 1 + noise.cumsum(1)
    if kind == "noise":
        return 1 + noise
    assert kind == "decay"  # which falls by 0.018 in the last epoch, by nearly two deviations of the noise
    return 0.5 + np.exp(-np.arange(WINDOW) / 10) + noise


@cache
def found_in(kind: str, **choices: Any) -> list[Stationarity]:
    return [stationarity(losses, **choices) for losses in simulated(kind).tolist()]


def rejected(kind: str, **choices: Any) -> float:
    """In how many of the series a unit root is rejected."""
    return sum(found.pvalue < 0.05 for found in found_in(kind, **choices)) / TRIALS


def converged(kind: str, **choices: Any) -> float:
    return sum(found.converged for found in found_in(kind, **choices)) / TRIALS


def test_random_walks_are_hardly_ever_called_stationary_and_still_less_converged() -> None:
    assert rejected("walk") <= 0.12
    assert converged("walk") <= 0.05
    assert converged("walk", require_flat=False) <= 0.05


def test_stationary_noise_is_recognised() -> None:
    assert rejected("noise") >= 0.9


def test_stationary_noise_has_converged_whenever_its_last_loss_is_a_low_one() -> None:
    """The last loss is within a deviation of the least of 20 about every fifth time: training goes on until then."""
    assert 0.1 <= converged("noise") <= 0.35
    low = [found for found in found_in("noise") if found.is_minimum]
    assert sum(found.converged for found in low) >= 0.8 * len(low)


def test_the_papers_two_criteria_call_a_falling_loss_converged_and_the_third_does_not() -> None:
    falling = found_in("decay")
    assert rejected("decay") >= 0.9, "what stops falling is stationary for the test, long before it has stopped"
    assert sum(found.is_minimum for found in falling) >= 0.9 * TRIALS
    assert converged("decay", require_flat=False) >= 0.9
    assert converged("decay", require_flat=False, tolerance=0.0) >= 0.6, "nor does the strict minimum help"
    assert converged("decay") <= 0.05
    assert max(found.slope_pvalue for found in falling) < 0.05


def test_choosing_the_lag_by_aic_is_worse_on_both_counts() -> None:
    aic: dict[str, Any] = {"autolag": "AIC", "maxlag": 8}
    assert rejected("walk", **aic) >= rejected("walk") + 0.08
    assert rejected("noise", **aic) <= rejected("noise") - 0.3


def test_a_chosen_lag_gives_the_p_of_that_lag() -> None:
    chosen = set()
    for losses, found in zip(simulated("walk")[:20].tolist(), found_in("walk", autolag="AIC", maxlag=8), strict=False):
        fixed = [stationarity(losses, maxlag=lag).pvalue for lag in range(9)]
        alike = [lag for lag, pvalue in enumerate(fixed) if pvalue == pytest.approx(found.pvalue, rel=1e-9)]
        assert len(alike) == 1
        chosen.update(alike)
    assert len(chosen) >= 3


def test_the_slopes_p_is_uniform_on_flat_noise() -> None:
    values = np.sort([found.slope_pvalue for found in found_in("noise")])
    assert np.abs(values - (np.arange(TRIALS) + 0.5) / TRIALS).max() < 1.36 / math.sqrt(TRIALS)


def test_the_slopes_p_is_that_of_the_regression_written_out() -> None:
    from scipy.stats import linregress

    for losses, found in zip(simulated("walk")[:20], found_in("walk"), strict=False):
        literal = linregress(np.arange(WINDOW), losses, alternative="less").pvalue
        assert found.slope_pvalue == pytest.approx(literal, rel=1e-6, abs=1e-12)


def literal_dickey_fuller(losses: np.ndarray) -> float:
    """The statistic without lags: of y in Δy = a + γ y + ε."""
    before, change = losses[:-1], losses[1:] - losses[:-1]
    design = np.stack([np.ones_like(before), before], 1)
    inverse = np.linalg.inv(design.T @ design)
    a, gamma = inverse @ design.T @ change
    residual = change - a - gamma * before
    return float(gamma / math.sqrt(residual @ residual / (len(change) - 2) * inverse[1, 1]))


def test_the_tests_p_is_mackinnons_of_the_statistic_written_out() -> None:
    from statsmodels.tsa.adfvalues import mackinnonp

    for kind in ("walk", "noise"):
        for losses, found in zip(simulated(kind)[:20], found_in(kind), strict=False):
            literal = mackinnonp(literal_dickey_fuller(losses), regression="c", N=1)
            assert found.pvalue == pytest.approx(float(literal), rel=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 50.0])
def test_nothing_depends_on_the_scale_of_the_losses(factor: float) -> None:
    for kind in ("walk", "noise", "decay"):
        for losses, found in zip(simulated(kind)[:20], found_in(kind), strict=False):
            scaled = stationarity((factor * losses).tolist())
            assert scaled.pvalue == pytest.approx(found.pvalue, rel=1e-6)
            assert scaled.slope_pvalue == pytest.approx(found.slope_pvalue, rel=1e-6)
            assert (scaled.is_minimum, scaled.converged) == (found.is_minimum, found.converged)


@pytest.mark.parametrize("value", [0.0, 0.1, 2.3, 1e-12, 1e6])
def test_a_constant_loss_has_converged(value: float) -> None:
    found = stationarity([value] * WINDOW)
    assert found == Stationarity(0.0, 1.0, True, True)
    assert stationarity([value] * WINDOW, tolerance=0.0, maxlag=8, autolag="AIC").converged


def test_losses_that_fall_and_those_that_rise_without_noise_have_not_converged() -> None:
    for rate in (1.0, 0.1, 0.01):
        falling = [math.exp(-rate * i) for i in range(WINDOW)]
        assert not stationarity(falling).converged
        assert stationarity(falling).is_minimum
        assert not stationarity(falling[::-1]).converged
        line = [3 - 0.1 * rate * i for i in range(WINDOW)]
        assert not stationarity(line).converged
        assert stationarity(line).slope_pvalue < 1e-6
        assert stationarity(line[::-1]).slope_pvalue > 1 - 1e-6


def test_before_the_window_is_full_nothing_is_said() -> None:
    for n in range(WINDOW):
        found = stationarity([1.0] * n)
        assert math.isnan(found.pvalue)
        assert math.isnan(found.slope_pvalue)
        assert not found.is_minimum
        assert not found.converged
    assert stationarity([1.0] * WINDOW).converged


def test_only_the_window_is_read() -> None:
    losses = simulated("noise")[0].tolist()
    found = stationarity(losses)
    assert stationarity([math.nan, math.inf, 100.0, -100.0, *losses]) == found
    assert stationarity(losses, 10) == stationarity(losses[10:], 10)
    assert stationarity(losses, 10) != stationarity(losses[:10], 10)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 7, WINDOW - 1])
def test_a_loss_that_is_not_finite_is_no_convergence_but_an_error(bad: float, place: int) -> None:
    losses = [1.0] * WINDOW
    losses[place] = bad
    with pytest.raises(ValueError, match="a loss is not finite: training has failed"):
        stationarity(losses)


@pytest.mark.parametrize("window", [-1, 0, 1, 3])
def test_a_window_too_short_for_the_test_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match=f"window={window}: a test for a unit root needs 4 losses or more"):
        stationarity([1.0] * WINDOW, window)


def test_the_shortest_window_allowed_can_be_tested() -> None:
    assert 0 < stationarity([1.0, 0.9, 1.1, 0.95], 4).pvalue < 1


def test_the_last_loss_is_a_minimum_within_the_tolerance_in_deviations_of_the_window() -> None:
    for losses in simulated("noise")[:20].tolist():
        above = (losses[-1] - min(losses)) / float(np.std(losses))
        if above > 0:
            assert stationarity(losses, tolerance=above * 1.001).is_minimum
            assert not stationarity(losses, tolerance=above * 0.999).is_minimum


def test_a_last_loss_that_rises_is_no_minimum() -> None:
    for kind in ("walk", "noise", "decay"):
        for losses in simulated(kind)[:10].tolist():
            found = stationarity([*losses[:-1], max(losses) + 0.01])
            assert not found.is_minimum
            assert not found.converged


def test_a_tolerance_of_zero_demands_the_strict_minimum() -> None:
    for losses, found in zip(simulated("noise").tolist(), found_in("noise", tolerance=0.0), strict=True):
        assert found.is_minimum == (losses[-1] == min(losses))
        assert found.is_minimum or not found.converged
    assert 0 < converged("noise", tolerance=0.0) < converged("noise")


def test_the_level_is_that_of_both_tests() -> None:
    rested = [
        (losses, f) for losses, f in zip(simulated("noise").tolist(), found_in("noise"), strict=True) if f.converged
    ]
    assert len(rested) >= 20
    for losses, found in rested:
        assert found.pvalue < 0.05 <= found.slope_pvalue
        assert not stationarity(losses, level=found.pvalue * 0.99).converged
        assert stationarity(losses, level=found.slope_pvalue * 0.99).converged
        above = min(1.0, found.slope_pvalue * 1.01)
        assert not stationarity(losses, level=above).converged
        assert stationarity(losses, level=above, require_flat=False).converged


def test_no_warning_reaches_the_caller() -> None:
    series: list[Sequence[float]] = [simulated("walk")[0].tolist(), [1.0] * WINDOW, [1.0, 2.0] * 10]
    series += [[2.0**-i for i in range(WINDOW)], [64.0 - i for i in range(WINDOW)], [1.0] * (WINDOW - 1) + [0.5]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for losses in series:
            stationarity(losses)
            stationarity(losses, autolag="AIC", maxlag=8)
        stationarity([1.0, 0.9, 1.1, 0.95], 4)
    assert caught == []


def ask(trigger: Trigger, losses: Sequence[float]) -> list[Verdict]:
    seen: Any = Seen()
    verdicts = []
    for loss in losses:
        seen.measured["train_loss"] = loss
        verdicts.append(trigger.update(seen))
    return verdicts


def fires(trigger: Trigger, losses: Sequence[float]) -> list[bool]:
    return [verdict.fires for verdict in ask(trigger, losses)]


def test_the_trigger_fires_only_when_its_window_is_full() -> None:
    assert fires(Single(window=8).begin(), [1.0] * 10) == [False] * 7 + [True] * 3
    assert fires(Single().begin(), [1.0] * 21) == [False] * 19 + [True] * 2


def test_the_trigger_reads_what_the_test_says() -> None:
    losses = [*simulated("decay")[0].tolist(), *simulated("noise")[0].tolist()]
    trigger = Single().begin()
    verdicts = ask(trigger, losses)
    assert trigger.readings == tuple(verdicts[0].readings)
    assert trigger.thresholds(None) == {"adf_pvalue": 0.05}
    for n, verdict in enumerate(verdicts, 1):
        if n < WINDOW:
            assert not verdict.fires
            assert all(math.isnan(value) for value in verdict.readings.values())
            continue
        found = stationarity(losses[:n])
        assert list(verdict.readings.values()) == [found.pvalue, found.slope_pvalue, float(found.is_minimum)]
        assert verdict.fires == found.converged


def test_the_trigger_hands_its_options_to_the_test() -> None:
    losses = simulated("decay")[0].tolist()
    assert not fires(Single().begin(), losses)[-1]
    assert fires(Single(require_flat=False).begin(), losses)[-1], "the paper's two criteria"
    rising = [*losses[:-1], losses[-2] + 0.01]
    assert fires(Single(require_flat=False).begin(), rising)[-1]
    assert not fires(Single(require_flat=False, tolerance=0.0).begin(), rising)[-1]
    walk = simulated("walk")[0].tolist()
    read = ask(Single(maxlag=8, autolag="AIC").begin(), walk)[-1].readings["adf_pvalue"]
    assert read == stationarity(walk, maxlag=8, autolag="AIC").pvalue
    assert read != stationarity(walk).pvalue
    index, found = next((i, found) for i, found in enumerate(found_in("noise")) if found.converged)
    rested, below = simulated("noise")[index].tolist(), Single(level=found.pvalue / 2).begin()
    assert fires(Single(level=found.pvalue * 2).begin(), rested)[-1]
    assert not fires(below, rested)[-1]
    assert below.thresholds(None) == {"adf_pvalue": found.pvalue / 2}


def test_the_trigger_forgets_at_reset() -> None:
    trigger = Single(window=8).begin()
    seen: Any = Seen()
    assert fires(trigger, [1.0] * 8)[-1]
    trigger.reset(seen)
    assert fires(trigger, [0.5] * 8) == [False] * 7 + [True], "no loss of before the growth is read"


def test_the_triggers_state_is_no_longer_than_its_window() -> None:
    trigger = Single(window=8).begin()
    losses = simulated("noise")[0].tolist()
    ask(trigger, losses)
    assert trigger.state_dict() == {"losses": losses[-8:]}


@pytest.mark.parametrize("cut", [0, 7, 12, 35])
def test_the_triggers_state_survives_saving_and_loading(cut: int) -> None:
    losses = [*simulated("noise")[1].tolist(), *[0.9] * 20]
    whole, first, second = (Single(window=10).begin() for _ in range(3))
    expected = ask(whole, losses)[cut:]
    ask(first, losses[:cut])
    saved = first.state_dict()
    ask(first, [5.0] * 10)  # a trigger that goes on leaves alone what was saved
    second.load_state_dict(saved)
    resumed = ask(second, losses[cut:])
    assert [verdict.fires for verdict in resumed] == [verdict.fires for verdict in expected]
    assert any(verdict.fires for verdict in resumed)
    for left, right in zip(resumed, expected, strict=True):
        assert left.readings == pytest.approx(right.readings, rel=0, abs=0, nan_ok=True)


def test_an_evaluation_without_training_is_not_counted() -> None:
    gap = math.nan
    losses = [1.0, gap, 1.0, 1.0, gap, gap, *[1.0] * 4, gap, 1.0, gap, 1.0]
    trigger = Single(window=8).begin()
    verdicts = ask(trigger, losses)
    assert [verdict.fires for verdict in verdicts] == [False] * 11 + [True, False, True]
    for loss, verdict in zip(losses, verdicts, strict=True):
        if math.isnan(loss):
            assert set(verdict.readings) == set(trigger.readings)
            assert all(math.isnan(value) for value in verdict.readings.values())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("window", 7),
        ("window", -20),
        ("level", 0.0),
        ("level", 1.0),
        ("level", -0.1),
        ("level", math.nan),
        ("tolerance", -0.5),
        ("tolerance", math.nan),
        ("maxlag", -1),
        ("maxlag", 9),
        ("autolag", "aic"),
        ("autolag", "none"),
    ],
)
def test_a_bad_option_is_named_with_its_value(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^trigger\.{key}={value}: "):
        Adf(**{key: value})


@pytest.mark.parametrize("window", [8, 9, 20, 21])
@pytest.mark.parametrize("autolag", [None, "AIC", "BIC", "t-stat"])
def test_the_largest_lag_that_is_allowed_can_be_tested(window: int, autolag: str | None) -> None:
    most = window // 2 - 2
    trigger = Single(window=window, maxlag=most, autolag=autolag).begin()
    losses = (1 + 0.01 * np.random.default_rng(1).standard_normal(window)).tolist()
    assert 0 <= ask(trigger, losses)[-1].readings["adf_pvalue"] <= 1
    with pytest.raises(ValueError, match=f"must be from 0 to {most} with this window"):
        Single(window=window, maxlag=most + 1, autolag=autolag)


EVALUATIONS = 200


def fired_at(losses: np.ndarray, **choices: Any) -> float:
    """The evaluation at which the trigger fires, asked at each; inf if at none."""
    trigger = Adf(**choices).begin()
    for number, loss in enumerate(losses, 1):
        if ask(trigger, [float(loss)])[0].fires:
            return number
    return math.inf


def asked_at_every_evaluation(kind: str, series: int, **choices: Any) -> list[float]:
    noise = np.random.default_rng(1).standard_normal((series, EVALUATIONS))
    falling = -np.arange(EVALUATIONS) / WINDOW
    losses = 10 + {"noise": noise, "falls": noise + falling, "walk": noise.cumsum(1)}[kind]
    return [fired_at(one, **choices) for one in losses]


def share(kind: str, series: int, **choices: Any) -> float:
    return sum(at < math.inf for at in asked_at_every_evaluation(kind, series, **choices)) / series


def test_asked_at_every_evaluation_a_single_window_calls_any_slowly_falling_loss_converged() -> None:
    """It falls by one deviation of its noise a window."""
    assert share("falls", 10, patience=1) == 1


def test_three_windows_that_do_not_overlap_keep_the_level_over_a_whole_run() -> None:
    assert share("falls", 3, patience=3) == 0
    assert share("walk", 2, patience=3) == 0
    assert max(asked_at_every_evaluation("noise", 5, patience=3)) < 100, "and find what has come to rest"


@pytest.mark.slow
def test_the_level_of_three_windows_over_a_run_is_five_percent_by_simulation() -> None:
    assert share("walk", 200, patience=1) > 0.3
    assert share("walk", 200, patience=3) <= 0.05
    assert share("falls", 200, patience=3) <= 0.05
    assert share("noise", 200, patience=3) == 1


def test_patience_joins_windows_that_do_not_overlap() -> None:
    losses = [*simulated("noise")[3].tolist(), *simulated("noise")[4].tolist()]
    both, last, first = stationarity(losses, patience=2), stationarity(losses), stationarity(losses[:WINDOW])
    assert both.pvalue == max(first.pvalue, last.pvalue)
    assert both.slope_pvalue == stationarity(losses, 2 * WINDOW).slope_pvalue
    assert both.is_minimum == last.is_minimum
    assert stationarity(losses, patience=3) == Stationarity(both.pvalue, both.slope_pvalue, both.is_minimum, False), (
        "what there is, is read; it is not enough to have converged"
    )
    assert stationarity([1.0] * 40, patience=2).converged
    assert not stationarity([1.0] * 39, patience=2).converged
    assert fires(Adf(window=8, patience=2).begin(), [1.0] * 17) == [False] * 15 + [True] * 2


def test_adf_has_three_windows_and_fold_the_papers_one() -> None:
    from grow_cli.commands.train import compose

    assert compose(["method=tiny", "trigger=adf"]).trigger.patience == 3
    assert compose(["method=fold"]).trigger.patience == 1
    long = compose(["method=tiny", "trigger=adf", "evaluate.every=0.2"])
    assert long.trigger.check_run(long) == []
    short = compose(["method=tiny", "trigger=adf"])  # 100 epochs, of which 60 grow
    assert "needs 60 evaluations before it can fire" in short.trigger.check_run(short)[0]
