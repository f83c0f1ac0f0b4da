"""Testing seed by seed: an e-value that may be looked at after every seed. Pure functions of numbers.

A gambler begins with 1 and bets, before the sign of each paired difference is known, that it is positive. If the differences
lie symmetrically about 0 or below, no way of betting wins on average, so the wealth E is a test martingale (a supermartingale)
and exceeds 1/α *ever* with a chance of at most α (Ville 1939): one may stop when one likes. With x = the difference and s its
root mean square so far, this one included, a bet of strength c multiplies the wealth by

    2 / (1 + exp(−2 c x / s)),

the likelihood ratio of a sign for normal differences of mean c·s, which is exp(λx) / cosh(λx) (de la Peña 1999). A sign is fair
whatever the size |x| is, so the bet may use it; the factor rises with x, so a mean below 0 only loses. `BETS` are played side by
side with equal shares, since the effect is not known. No pair more than doubles the wealth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BETS = (0.5, 1.0, 2.0, 4.0)
"""Strengths in deviations: from effects that take 40 seeds to those that take the least that is possible."""


def log_wealth(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., n) → (..., n): log E after each difference, for a mean above 0 against one of 0 or below."""
    x = np.asarray(differences, dtype=float)
    size = np.sqrt(np.cumsum(x * x, axis=-1) / np.arange(1, x.shape[-1] + 1))
    z = np.divide(x, size, out=np.zeros_like(x), where=size > 0)
    wealths = [np.cumsum(math.log(2) - np.logaddexp(0.0, -2 * c * z), axis=-1) for c in BETS]
    return np.asarray(np.logaddexp.reduce(wealths, axis=0) - math.log(len(BETS)))


def _pvalues(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / the most that the wealth has been: a p-value at whatever time one stops."""
    return np.minimum(1.0, np.exp(-np.maximum.accumulate(log_wealth(differences), axis=-1)))


def anytime_pvalues(
    differences: NDArray[np.float64], delta: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    """(..., n) differences → after each of them the p-values of: above 0, below 0, within ±`delta` (None without it).

    The first two are halves of a two-sided test, hence doubled. With `delta`, "above 0" must also refute that the mean is −δ or
    less: then at most one of the three can be wrong, and it has one p-value, which `verdicts.corrected` counts on.
    """
    d = np.asarray(differences, dtype=float)
    above, below = np.minimum(1.0, 2 * _pvalues(d)), np.minimum(1.0, 2 * _pvalues(-d))
    if delta is None:
        return above, below, None
    above_low, below_high = _pvalues(d + delta), _pvalues(delta - d)
    return np.maximum(above, above_low), np.maximum(below, below_high), np.maximum(above_low, below_high)


def evidence(differences: Sequence[float] | NDArray[np.float64]) -> float:
    """The two-sided e-value now: that of the gamblers on either sign, with half of the stake each."""
    d = np.asarray(differences, dtype=float)
    return float(0.5 * (np.exp(log_wealth(d)[-1]) + np.exp(log_wealth(-d)[-1]))) if len(d) else 1.0
