"""Verdicts: the words, the correction over a table, and how often any of them is wrong, by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from grow_cli.analysis.statistics import holm
from grow_cli.analysis.verdicts import ALPHA, corrected, word

DELTA = 1.0
COMPARISONS = 10_000


def _pvalues(d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., n) differences → (...) p-values of the two questions."""
    differs = stats.ttest_1samp(d, 0, axis=-1).pvalue
    above = stats.ttest_1samp(d, -DELTA, axis=-1, alternative="greater").pvalue
    return differs, np.maximum(above, stats.ttest_1samp(d, DELTA, axis=-1, alternative="less").pvalue)


def _wrong(verdict: str, mean: float) -> bool:
    """Whether a verdict says what is not so."""
    equal = "within" in verdict and abs(mean) >= DELTA
    return equal or (verdict.startswith("better") and mean <= 0) or (verdict.startswith("worse") and mean >= 0)


def _rate_of_wrong_tables(
    means: tuple[float, ...], n: int, tables: int, equality: bool, rng: np.random.Generator
) -> float:
    """How often any verdict of a table is wrong, where all pairs share the runs of one side."""
    shared = rng.normal(scale=0.7, size=(tables, 1, n))
    d = np.array(means)[None, :, None] + shared + rng.normal(scale=0.7, size=(tables, len(means), n))
    differs, equal = _pvalues(d)
    wrong = 0
    for table in range(tables):
        family = corrected([(p, e if equality else None) for p, e in zip(differs[table], equal[table], strict=True)])
        verdicts = [word(x.mean() > 0, *p, "1") for x, p in zip(d[table], family, strict=True)]
        wrong += any(_wrong(v, mean) for v, mean in zip(verdicts, means, strict=True))
    return wrong / tables


def _at_most_alpha(rate: float, repetitions: int) -> bool:
    return rate <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / repetitions) ** 0.5


def test_without_delta_the_correction_is_holms() -> None:
    drawn = (np.random.default_rng(0).uniform(size=9) ** 3).tolist()
    found = corrected([(p, None) for p in drawn])
    assert [differs for differs, _ in found] == pytest.approx(holm(drawn))
    assert all(math.isnan(equal) for _, equal in found)


def test_with_delta_both_questions_of_a_pair_share_its_place_by_hand() -> None:
    # two pairs: 0.01 · 2, 0.02 · 2 (the first pair's other question may still be wrong), 0.2 · 1, 0.9 · 1 …
    found = corrected([(0.01, 0.9), (0.2, 0.02)])
    assert found == [(0.02, 0.9), (pytest.approx(0.4), 0.04)]
    # both questions of the first pair are answered: one pair is left
    assert corrected([(0.01, 0.011), (0.04, 0.5)])[1][0] == pytest.approx(0.04)
    untested = corrected([(math.nan, math.nan), (0.03, 0.5)])
    assert untested[1][0] == pytest.approx(0.06), "what could not be tested was a question all the same"
    assert math.isnan(untested[0][0])


def test_the_words() -> None:
    assert word(True, 0.01, math.nan) == "better"
    assert word(False, 0.05, math.nan) == "worse"
    assert word(True, 0.3, 0.2, "0.1 points") == word(True, math.nan, math.nan) == "undecided"
    assert word(True, 0.3, 0.01, "0.1 points") == "equal within 0.1 points"
    assert word(True, 0.01, 0.01, "0.1 points") == "better, but within 0.1 points"


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("mean", [0.0, 0.5, DELTA, -DELTA, 3 * DELTA])
def test_a_single_verdict_is_wrong_in_at_most_five_percent_of_ten_thousand_comparisons(n: int, mean: float) -> None:
    d = np.random.default_rng(n).normal(mean, 1.0, size=(COMPARISONS, n))
    differs, equal = _pvalues(d)
    direction = (differs <= ALPHA) & ((d.mean(1) > 0) != (mean > 0) if mean else True)
    wrong = direction | ((equal <= ALPHA) & (abs(mean) >= DELTA))
    assert _at_most_alpha(float(wrong.mean()), COMPARISONS)


MIXTURES = {
    "all equal": (0.0,) * 4,
    "all at the edge": (DELTA, -DELTA, DELTA, DELTA),
    "some of each": (0.0, 0.0, DELTA, DELTA),
    "true findings beside": (0.0, DELTA, 0.3, 4.0, -4.0, 0.05),
}


@pytest.mark.parametrize("means", MIXTURES.values(), ids=MIXTURES)
def test_any_verdict_of_a_table_is_wrong_in_at_most_five_percent_of_tables(means: tuple[float, ...]) -> None:
    rate = _rate_of_wrong_tables(means, 8, 1500, True, np.random.default_rng(1))
    assert _at_most_alpha(rate, 1500)


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 8, 25])
@pytest.mark.parametrize("equality", [False, True])
@pytest.mark.parametrize("means", MIXTURES.values(), ids=MIXTURES)
def test_ten_thousand_tables_keep_their_level(means: tuple[float, ...], equality: bool, n: int) -> None:
    rate = _rate_of_wrong_tables(means, n, COMPARISONS, equality, np.random.default_rng(n))
    assert _at_most_alpha(rate, COMPARISONS)


def test_separate_corrections_of_the_two_questions_would_be_wrong_too_often() -> None:
    """Why there is one correction: two families at 5 % each are wrong in up to 10 % of tables."""
    rng = np.random.default_rng(3)
    d = rng.normal(size=(4000, 2, 40)) * 0.7 + np.array([0.0, DELTA])[None, :, None]
    differs, equal = _pvalues(d)
    one = 2 * np.minimum(differs[:, 0], equal[:, 1]) <= ALPHA
    apart = (
        np.minimum(differs[:, 0], equal[:, 1]) <= ALPHA
    )  # Holm within each question: the other pair is found for sure
    assert float(apart.mean()) > 0.08
    assert _at_most_alpha(float(one.mean()), 4000)
