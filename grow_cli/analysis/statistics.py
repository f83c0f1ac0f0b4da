"""Statistics of the comparison: paired tests, intervals, areas under curves, fronts. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grow_cli.analysis.signed_rank import wilcoxon
from grow_cli.analysis.verdicts import corrected

_RESAMPLES = 10_000
# Samples whose bootstraps are drawn at once: 13 MB for ten values each.
_TOGETHER = 16
LEVEL = 0.95


@dataclass(frozen=True)
class Paired:
    """Two ways over the seeds that they share."""

    n: int
    difference: float
    """Mean of first − second."""
    low: float
    high: float
    """Interval of the mean difference at `LEVEL` that belongs to the t-test; NaN where the differences do not spread."""
    bootstrap_low: float
    bootstrap_high: float
    """Bootstrapped; NaN below three pairs."""
    t_pvalue: float
    """Two-sided paired t-test; NaN where the differences do not spread."""
    wilcoxon_pvalue: float
    """Two-sided signed-rank test, exact, ties and all."""
    deviation: float
    """Standard deviation of the differences."""


def differences(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """Seed → first − second, in the order of the seeds that both have."""
    seeds = sorted(set(first) & set(second))
    # 0.98 − 0.97 and 0.97 − 0.96 are tied, which floating point hides
    return dict(zip(seeds, np.round([first[s] - second[s] for s in seeds], 12).tolist(), strict=True))


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Paired | None:
    """Compare two ways, seed → score, over the seeds that both have; None if they share fewer than two."""
    d = np.array(list(differences(first, second).values()))
    return None if len(d) < 2 else _paired(d, interval(d))


def all_paired(pairs: Sequence[tuple[Mapping[int, float], Mapping[int, float]]]) -> list[Paired | None]:
    """The same for many at once, a third of the time of each alone."""
    rows = [np.array(list(differences(first, second).values())) for first, second in pairs]
    bounds = intervals(rows)
    return [None if len(d) < 2 else _paired(d, ends) for d, ends in zip(rows, bounds, strict=True)]


def _paired(d: NDArray[np.float64], bootstrapped: tuple[float, float]) -> Paired:
    from scipy import stats

    low = high = math.nan
    spread = float(d.std(ddof=1)) if np.ptp(d) > 0 else 0.0  # not the dust of equal numbers
    t = math.nan if d.any() else 1.0
    if np.ptp(d) > 0:
        test = stats.ttest_1samp(d, 0)
        t, (low, high) = float(test.pvalue), map(float, test.confidence_interval(LEVEL))
    return Paired(len(d), float(d.mean()), low, high, *bootstrapped, t, wilcoxon(d), spread)


def _bootstrap(samples: NDArray[np.float64]) -> tuple[Any, Any]:
    """Interval (BCa) of the mean of each row (..., n). Its draws are the same every time."""
    from scipy import stats

    found = stats.bootstrap(
        (samples,),
        np.mean,
        axis=-1,
        confidence_level=LEVEL,
        n_resamples=_RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return found.low, found.high


def interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Bootstrap interval of the mean at `LEVEL`; NaN below three values."""
    x = np.asarray(values, dtype=float)
    if len(x) < 3:
        return math.nan, math.nan
    if np.ptp(x) == 0:
        return float(x[0]), float(x[0])
    low, high = _bootstrap(x)
    return float(low), float(high)


def intervals(many: Sequence[NDArray[np.float64]]) -> list[tuple[float, float]]:
    """`interval` of each, those of one length together; equal to it but for the rounding of sums."""
    found = {i: interval(x) for i, x in enumerate(many) if len(x) < 3 or np.ptp(x) == 0}
    for n in {len(x) for i, x in enumerate(many) if i not in found}:
        alike = [i for i, x in enumerate(many) if len(x) == n and i not in found]
        for start in range(0, len(alike), _TOGETHER):
            chunk = alike[start : start + _TOGETHER]
            ends = _bootstrap(
                np.stack([many[i] for i in chunk] * (2 if len(chunk) == 1 else 1))
            )  # one alone is summed otherwise
            found |= {i: (float(a), float(b)) for i, a, b in zip(chunk, *ends, strict=False)}
    return [found[i] for i in range(len(many))]


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down correction: that of questions which exclude no other. (statsmodels' takes seconds to import.)"""
    return [found for found, _ in corrected([(p, None) for p in pvalues])]


def anytime(cost: Sequence[float], score: Sequence[float], start: float) -> tuple[list[float], list[float]]:
    """The best score so far against cost, as steps: `start` from cost 0, each score from its cost on.

    Costs need not be ordered (a growth that is taken back makes a net smaller).
    """
    pairs = sorted((c, s) for c, s in zip(cost, score, strict=True) if not (math.isnan(c) or math.isnan(s)))
    xs, ys = [0.0], [start]
    for c, s in pairs:
        xs.append(float(c))
        ys.append(max(ys[-1], float(s)))
    return xs, ys


def area(xs: Sequence[float], ys: Sequence[float], budget: float) -> float:
    """Mean of a curve of steps (each y holds from its x to the next) over costs from 0 to `budget`, the last kept to the end."""
    x = np.minimum(np.append(np.asarray(xs, dtype=float), budget), budget)
    return float((np.diff(x) * np.asarray(ys, dtype=float)).sum() / budget) if budget > 0 else math.nan


def front(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
    """Which points are on the Pareto front: none other costs no more and scores no less, and betters one of both."""
    points = list(zip(costs, scores, strict=True))
    return [
        not any((c2 <= c and s2 >= s) and (c2 < c or s2 > s) for j, (c2, s2) in enumerate(points) if j != i)
        for i, (c, s) in enumerate(points)
    ]
