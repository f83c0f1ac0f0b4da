"""Whether two ways are equal within δ, and how many seeds it takes to detect a difference of δ. Pure functions of numbers.

Equality is shown by two one-sided t-tests (TOST; Schuirmann 1987): that the mean difference is above −δ, and that it is
below δ. Powers are exact for normal differences: noncentral t, and an integral over the measured deviation for TOST.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

POWER = 0.8
"""The chance of finding what is there, by which a number of seeds is said to be enough."""
MOST_SEEDS = 10_000
"""Beyond it nobody trains."""
_QUANTILES = (np.arange(400) + 0.5) / 400


def tost(differences: Sequence[float] | NDArray[np.float64], delta: float) -> float:
    """p-value that the mean lies outside ±`delta`; NaN where the differences do not spread."""
    from scipy import stats

    d = np.asarray(differences, dtype=float)
    if len(d) < 2 or np.ptp(d) == 0:
        return math.nan
    above = stats.ttest_1samp(d, -delta, alternative="greater").pvalue
    below = stats.ttest_1samp(d, delta, alternative="less").pvalue
    return float(max(above, below))


def t_power(difference: float, deviation: float, n: int, level: float = 0.05) -> float:
    """The chance that a two-sided paired t-test of n pairs finds a mean difference; `deviation`: of the differences."""
    from scipy import stats

    away, bound = abs(difference) / deviation * math.sqrt(n), stats.t.isf(level / 2, n - 1)
    return float(stats.nct.sf(bound, n - 1, away) + stats.nct.sf(bound, n - 1, -away))


def tost_power(delta: float, deviation: float, n: int, level: float = 0.05, difference: float = 0.0) -> float:
    """The chance that TOST of n pairs shows equality within `delta` where the true mean is `difference`."""
    from scipy import stats

    spread = np.sqrt(stats.chi2.ppf(_QUANTILES, n - 1) / (n - 1))  # measured ÷ true deviation, evenly over its chances
    needed, scale = stats.t.isf(level, n - 1) * spread, math.sqrt(n) / deviation
    high, low = (delta - difference) * scale - needed, (-delta - difference) * scale + needed
    return float(np.maximum(stats.norm.cdf(high) - stats.norm.cdf(low), 0).mean())


def seeds_to_find(difference: float, deviation: float, level: float = 0.05) -> int | None:
    """The least number of pairs whose t-test has `POWER`; None beyond `MOST_SEEDS`."""
    return _least(lambda n: t_power(difference, deviation, n, level), deviation / abs(difference))


def seeds_to_equate(delta: float, deviation: float, level: float = 0.05) -> int | None:
    """The least number of pairs whose TOST has `POWER` where there is no difference; None beyond `MOST_SEEDS`."""
    return _least(lambda n: tost_power(delta, deviation, n, level), deviation / delta)


def findable(deviation: float, n: int, level: float = 0.05) -> float:
    """The difference that n pairs find with `POWER`."""
    from scipy import optimize

    return deviation * float(optimize.brentq(lambda x: t_power(x, 1.0, n, level) - POWER, 1e-6, 1e4))


def deviation_interval(deviation: float, n: int) -> tuple[float, float]:
    """What the true deviation may be (95 %), where n normal differences measured this one."""
    from scipy import stats

    high, low = stats.chi2.ppf([0.025, 0.975], n - 1)
    return deviation * math.sqrt((n - 1) / low), deviation * math.sqrt((n - 1) / high)


def _least(power: Callable[[int], float], ratio: float) -> int | None:
    """The least n with `POWER`, which rises with n; the search begins where it is for known deviations: about 8 ratio²."""
    low, high, step = 1, max(2, round(min(8 * ratio**2, MOST_SEEDS))), 2
    while power(high) < POWER:
        if high >= MOST_SEEDS:
            return None
        low, high, step = high, min(high + step, MOST_SEEDS), 4 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high
