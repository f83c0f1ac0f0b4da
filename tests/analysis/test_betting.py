"""The e-value that may be looked at after every seed: its level under optional stopping, and what it saves."""

from __future__ import annotations

from itertools import product

import bench_compare
import numpy as np
import pytest

from grow_cli.analysis.betting import anytime_pvalues, evidence, log_wealth
from grow_cli.analysis.stopping import decide
from grow_cli.analysis.verdicts import ALPHA

COMPARISONS = 10_000
LIMIT = ALPHA + 3 * (ALPHA * (1 - ALPHA) / COMPARISONS) ** 0.5


def _nulls(n: int, seed: int) -> dict[str, np.ndarray]:
    """Differences that lie symmetrically about 0: (10000, n) of each kind."""
    rng = np.random.default_rng(seed)
    shape = (COMPARISONS, n)
    return {
        "normal": rng.normal(size=shape),
        "heavy tails": rng.standard_t(2, size=shape),
        "rounded, with ties and zeros": np.round(rng.normal(size=shape)),
        "two values": rng.choice([-1.0, 1.0], size=shape),
        "spread that grows": rng.normal(size=shape) * np.arange(1, n + 1) ** 2,
        "rare outliers": rng.normal(size=shape) * np.where(rng.uniform(size=shape) < 0.05, 50.0, 1.0),
    }


def _ever(*pvalues: np.ndarray | None) -> float:
    """How often any of these was at most 0.05 at any time: stopping at the best moment."""
    return float(np.any([p.min(-1) <= ALPHA for p in pvalues if p is not None], axis=0).mean())


def test_whatever_the_sizes_are_betting_on_fair_signs_wins_nothing_on_average() -> None:
    """Exactly: the mean over all assignments of signs is 1 after every difference."""
    sizes = np.array([0.3, 2.0, 0.1, 7.0, 1.0, 1.0, 0.0, 4.0])
    signs = np.array(list(product([-1.0, 1.0], repeat=len(sizes))))
    assert np.exp(log_wealth(signs * sizes)).mean(0) == pytest.approx(np.ones(len(sizes)))


def test_a_mean_below_zero_loses_and_a_scale_changes_nothing() -> None:
    d = np.random.default_rng(0).normal(size=(COMPARISONS, 10))
    assert np.exp(log_wealth(d - 0.3)).mean(0).max() < 1
    assert np.allclose(log_wealth(1000 * d), log_wealth(d))


@pytest.mark.parametrize("kind", _nulls(1, 0))
def test_stopping_at_the_best_moment_finds_a_difference_in_at_most_five_percent_of_ten_thousand_nulls(
    kind: str,
) -> None:
    above, below, _ = anytime_pvalues(_nulls(30, 1)[kind])
    assert _ever(above, below) <= LIMIT


@pytest.mark.parametrize("mean", [1.0, -1.0, 2.5])
def test_at_and_beyond_the_edge_of_what_is_equal_any_wrong_word_has_five_percent(mean: float) -> None:
    d = np.random.default_rng(2).normal(mean, 1.0, size=(COMPARISONS, 30))
    above, below, equal = anytime_pvalues(d, 1.0)
    assert _ever(below if mean > 0 else above, equal) <= LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("kind", _nulls(1, 0))
@pytest.mark.parametrize("delta", [None, 0.3, 1.0])
def test_five_hundred_looks_keep_the_level(kind: str, delta: float | None) -> None:
    d = _nulls(500, 3)[kind]
    above, below, _ = anytime_pvalues(d, delta)
    assert _ever(above, below) <= LIMIT
    if delta is not None:
        _, wrong, equal = anytime_pvalues(d + delta, delta)
        assert _ever(wrong, equal) <= LIMIT


def test_a_table_read_seed_by_seed_keeps_its_level_and_its_verdicts() -> None:
    """All pairs share the runs of one side; two of them are equal, one is at the edge, one is far away."""
    rng, wrong, means = np.random.default_rng(4), 0, (0.0, 0.0, 1.0, 5.0)
    for _ in range(200):
        shared = rng.normal(scale=0.7, size=12)
        d = [dict(enumerate(mean + shared + rng.normal(scale=0.7, size=12))) for mean in means]
        found = [decision.verdict for decision in decide(d, 1.0, "1")]
        bad = [v.startswith(("better", "worse")) for v in found[:2]]
        wrong += any(bad) or "within" in found[2] or found[2].startswith("worse") or found[3].startswith("equal")
    assert wrong / 200 <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / 200) ** 0.5


def test_a_large_effect_is_decided_after_the_fewest_seeds_that_can_and_stays_so() -> None:
    d = {seed: 0.5 + 0.01 * (seed % 3) for seed in range(12)}
    [decision] = decide([d])
    assert (decision.verdict, decision.after, decision.seeds) == ("better", 6, 12)
    assert decision.evalue == pytest.approx(evidence(list(d.values())))
    [worse] = decide([{seed: -x for seed, x in reversed(d.items())}])
    assert (worse.verdict, worse.after) == ("worse", 6), "in the order of the seeds, however they were found"
    [five] = decide([{seed: d[seed] for seed in range(5)}])
    assert (five.verdict, five.after) == ("undecided", None), "five signs alike have a chance of 1 in 16"
    for later in (3.0, -3.0):
        [after] = decide([d | {12: later}])
        assert after.verdict == "better", "what was decided may have stopped the sweep, and stays"


def test_equality_is_decided_too() -> None:
    rng = np.random.default_rng(5)
    d = dict(enumerate(0.02 * rng.normal(size=20)))
    [decision] = decide([d], 0.1, "0.1 points")
    assert decision.verdict == "equal within 0.1 points"
    assert decision.after is not None
    assert decision.after <= 10
    [open_] = decide([d])
    assert open_.verdict == "undecided", "without δ nothing ends a comparison of equals"


def test_a_pair_with_no_shared_seed_yet_is_open_and_counts() -> None:
    far = {seed: 0.5 + 0.001 * seed for seed in range(12)}
    alone, (beside, empty) = decide([far])[0], decide([far, {}])
    assert (empty.verdict, empty.evalue, empty.seeds) == ("undecided", 1.0, 0)
    assert alone.after is not None
    assert beside.after is not None
    assert beside.after > alone.after, "a family of two is more careful"


def test_seeds_are_saved_where_the_effect_is_larger_than_planned_and_not_where_it_is_as_planned() -> None:
    """A number fixed for the least effect that matters (0.5 deviations, 80 %) against stopping, with equal power for it."""
    fixed, cap = bench_compare.fixed_seeds(0.5, 0.8), bench_compare.cap_of(0.5, 0.8, 4000)
    assert (fixed, 55 < cap < 75) == (34, True)
    mean = {
        e: np.minimum(bench_compare.stopping_times(e, cap, 4000), cap).mean() / fixed for e in (0.5, 0.75, 1.0, 1.5)
    }
    assert 1.0 < mean[0.5] < 1.2, "as planned: 10 % more"
    assert mean[1.0] < 0.45
    assert mean[1.5] < 0.3
    assert np.mean(list(mean.values())) < 0.7, "30 % fewer on average over these effects"


@pytest.mark.slow
@pytest.mark.parametrize(("effect", "power"), [(0.5, 0.8), (0.5, 0.95), (1.0, 0.8)])
def test_stopping_gives_up_at_the_first_seed_that_has_the_power_of_the_fixed_number(
    effect: float, power: float
) -> None:
    cap, fixed = bench_compare.cap_of(effect, power, 20_000), bench_compare.fixed_seeds(effect, power)
    rng = np.random.default_rng(9)
    above, _, _ = anytime_pvalues(rng.normal(effect, 1.0, size=(20_000, cap)))
    found, before = ((above[:, n] <= ALPHA).mean() for n in (-1, -2))
    assert before - 0.015 <= bench_compare.t_power(effect, 1.0, fixed, ALPHA) <= found + 0.015
