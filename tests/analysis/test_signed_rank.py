"""The signed-rank test is exact whatever the number of pairs, ties and zeros."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from grow_cli.analysis.signed_rank import least_pvalue, wilcoxon


def _counted(d: np.ndarray) -> tuple[float, float]:
    """Two-sided and one-sided p-value by listing all assignments of signs."""
    d = d[d != 0]
    ranks = stats.rankdata(np.abs(d))
    signs = 1 - 2 * ((np.arange(2 ** len(d))[:, None] >> np.arange(len(d))) & 1)
    null, found = signs @ ranks, np.sign(d) @ ranks
    return float((np.abs(null) >= abs(found) - 1e-9).mean()), float((null >= found - 1e-9).mean())


def test_the_signed_rank_test_is_exact_above_fourteen_pairs_with_ties_and_zeros() -> None:
    rng = np.random.default_rng(0)
    silent = 0
    for n in (3, 8, 15, 17, 17, 17):
        d = np.round(rng.normal(0.6, 1.0, size=n), 1)
        d[0] = 0.0
        two, one = _counted(d)
        assert wilcoxon(d) == pytest.approx(two, rel=1e-12)
        assert wilcoxon(d, one_sided=True) == pytest.approx(one, rel=1e-12)
        silent += n == 17 and abs(stats.wilcoxon(d[1:]).pvalue - two) > 1e-4
    assert silent == 3, "SciPy's default goes over to a normal curve where there are ties"


@pytest.mark.parametrize("n", [15, 40, 200])
def test_without_ties_it_is_scipys_exact_test(n: int) -> None:
    d = np.random.default_rng(n).normal(0.1, 1.0, size=n)
    assert wilcoxon(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, rel=1e-9)
    greater = stats.wilcoxon(d, method="exact", alternative="greater").pvalue
    assert wilcoxon(d, one_sided=True) == pytest.approx(greater, rel=1e-9)


def test_fewer_than_six_pairs_cannot_be_below_a_twentieth() -> None:
    assert [wilcoxon(np.arange(1.0, n + 1)) for n in (4, 5, 6)] == [0.125, 0.0625, 0.03125]
    assert [least_pvalue(n) for n in (1, 5, 6)] == [1.0, 0.0625, 0.03125]


def test_an_infinite_difference_ranks_above_all_others() -> None:
    assert wilcoxon([np.inf, 1.0, -2.0], one_sided=True) == wilcoxon([9.0, 1.0, -2.0], one_sided=True)
    assert wilcoxon([np.inf, np.inf, -2.0]) == wilcoxon([9.0, 9.0, -2.0])


def test_it_finds_nothing_in_noise_more_often_than_it_says_even_with_ties() -> None:
    rng = np.random.default_rng(1)
    found = [wilcoxon(np.round(rng.normal(size=17), 1)) <= 0.05 for _ in range(2000)]
    assert np.mean(found) <= 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5
