"""Scores of several datasets at once (Agarwal et al. 2021, "rliable"). Pure functions of arrays.

A way's scores are a list over datasets of arrays (seeds,). Intervals are stratified bootstraps: seeds are resampled
within each dataset, and the datasets are fixed. They describe other seeds on these datasets, not other datasets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95

Scores = Sequence[NDArray[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """A number and its interval."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., runs) → (...): the mean of the middle half; of a run at its edge the part that lies within."""
    ordered = np.sort(scores, axis=-1)
    n = ordered.shape[-1]
    ends = np.arange(n + 1) / n
    weights = np.clip(np.minimum(ends[1:], 0.75) - np.maximum(ends[:-1], 0.25), 0, None)
    return np.asarray(ordered @ (weights / weights.sum()))


def probability_of_improvement(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., n) and (..., m) of one dataset → (...): how often a run of the first is above one of the second, a tie half."""
    a, b = first[..., :, None], second[..., None, :]
    return np.asarray(((a > b) + 0.5 * (a == b)).mean(axis=(-2, -1)))


def profile(scores: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., runs) → (..., thresholds): the fraction of runs above each."""
    return np.asarray((scores[..., :, None] > thresholds).mean(axis=-2))


def resampled(scores: Scores, draws: Sequence[NDArray[np.int_]]) -> list[NDArray[np.float64]]:
    """The scores of each dataset's resamples (resamples, seeds)."""
    return [of[index] for of, index in zip(scores, draws, strict=True)]


def drawn(seeds: Sequence[int], resamples: int = RESAMPLES) -> list[NDArray[np.int_]]:
    """Indices (resamples, seeds) for each number of seeds; the same every time."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, n, size=(resamples, n)) for n in seeds]


def aggregate(
    scores: Scores, of: Callable[[NDArray[np.float64]], NDArray[np.float64]] = interquartile_mean
) -> Estimate:
    """A statistic of all runs of all datasets, every dataset with the weight of its runs."""
    every = np.concatenate(resampled(scores, drawn([len(s) for s in scores])), axis=-1)
    return _estimate(float(of(np.concatenate(list(scores)))), of(every))


def improvement(first: Scores, second: Scores) -> Estimate:
    """Probability of improvement, averaged over datasets."""
    draws = drawn([len(s) for s in (*first, *second)])
    many = [*resampled(first, draws[: len(first)]), *resampled(second, draws[len(first) :])]
    each = [probability_of_improvement(a, b) for a, b in zip(many[: len(first)], many[len(first) :], strict=True)]
    found = [probability_of_improvement(a, b) for a, b in zip(first, second, strict=True)]
    return _estimate(float(np.mean(found)), np.mean(each, axis=0))


def profile_band(
    scores: Scores, thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(thresholds,) each: the profile with equal weight for every dataset, and its pointwise interval."""
    draws = drawn([len(s) for s in scores], RESAMPLES // 4)
    each = np.mean([profile(many, thresholds) for many in resampled(scores, draws)], axis=0)
    low, high = _interval(each)
    return np.mean([profile(s, thresholds) for s in scores], axis=0), low, high


def _estimate(value: float, resamples: NDArray[np.float64]) -> Estimate:
    low, high = _interval(resamples)
    return Estimate(value, float(low), float(high))


def _interval(resamples: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = np.quantile(resamples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
