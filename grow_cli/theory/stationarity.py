"""Whether a series of losses is stationary (Fold, section 3.1): a test for a unit root, a slope, and the minimum.

Imports statsmodels and scipy when called, as they take a second to import.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

_SHORTEST = 4
"""Losses: below, the test regression has no degree of freedom left."""

# A residual spread of so small a part of the losses themselves is rounding: there is nothing to test.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Stationarity:
    """What the last `window` losses say; NaN where there are too few to say it."""

    pvalue: float
    """Of the Augmented Dickey-Fuller test: small where a unit root is rejected, the series being stationary. The largest of
    the windows'."""
    slope_pvalue: float
    """Of the least-squares slope: small where it is below zero, the losses still falling."""
    is_minimum: bool
    """Whether the last loss is the smallest, within the tolerance."""
    converged: bool


def stationarity(
    losses: Sequence[float],
    window: int = 20,
    *,
    patience: int = 1,
    level: float = 0.05,
    tolerance: float = 1.0,
    require_flat: bool = True,
    maxlag: int = 0,
    autolag: str | None = None,
) -> Stationarity:
    """Whether training has converged: the last loss is the window's minimum, and the window is stationary.

    The paper's two criteria, and a third. A decay that levels off, with noise on it, is stationary for the Dickey-Fuller test
    though the loss is still falling; hence `require_flat`. With 20 losses the usual choice of the lag by AIC rejects a
    random walk 24 % of the time and finds stationary noise 45 % of the time; without lags it is 7 % and 97 %.

    These are figures of one test. Asked at each of 200 evaluations, with a new loss each time, a single window calls every
    series converged at some time that falls by one deviation of its noise a window, and 55 % of the random walks. With
    `patience` windows that do not overlap, each must be stationary and the slope over all of them not fall: with three it is
    0 % and 1 %, and stationary noise is still found, 7 evaluations after there are enough.

    :param losses: oldest first; those before the last `patience * window` are not read
    :param patience: windows that do not overlap; 1 is the paper
    :param level: p below which the unit root is rejected, and below which the slope counts as falling
    :param tolerance: how far above the window's minimum the last loss may be, in the window's standard deviations; 0 is the paper
    :param require_flat: also ask that the slope is not significantly below zero; false is the paper
    :param maxlag: lagged differences in the test regression; with `autolag` the most that are tried
    :param autolag: None, or `AIC`, `BIC`, `t-stat`: how their number is chosen
    :raise ValueError: if a loss in the window is not finite, or the window is too short
    """
    if window < _SHORTEST:
        raise ValueError(f"window={window}: a test for a unit root needs {_SHORTEST} losses or more")
    recent = [float(loss) for loss in losses[-window * patience :]]
    if not all(map(math.isfinite, recent)):
        raise ValueError("a loss is not finite: training has failed, which is no convergence")
    whole = len(recent) // window
    if whole == 0:
        return Stationarity(math.nan, math.nan, False, False)
    recent = recent[-whole * window :]
    windows = [recent[start : start + window] for start in range(0, len(recent), window)]
    last, spread = windows[-1], _spread(windows[-1])
    is_minimum = spread == 0 or last[-1] <= min(last) + tolerance * spread
    slope_pvalue = _falling(recent)
    pvalue = max(_unit_root(one, maxlag, autolag) if _spread(one) else 0.0 for one in windows)
    flat = slope_pvalue >= level or not require_flat
    return Stationarity(pvalue, slope_pvalue, is_minimum, whole == patience and is_minimum and pvalue < level and flat)


def _spread(losses: list[float]) -> float:
    """Standard deviation; 0 where it is rounding."""
    mean = sum(losses) / len(losses)
    spread = math.sqrt(sum((loss - mean) ** 2 for loss in losses) / len(losses))
    return spread if spread > _ROUNDING * abs(mean) else 0.0


def _unit_root(losses: list[float], maxlag: int, autolag: str | None) -> float:
    """The test's p; 1, nothing being shown, where the series leaves no noise to test against (a straight line)."""
    from statsmodels.tsa.stattools import adfuller

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of statsmodels' own plans, and of divisions by a noise of zero
        pvalue = float(adfuller(losses, maxlag=maxlag, autolag=autolag)[1])
    return 1.0 if math.isnan(pvalue) else pvalue


def _falling(losses: list[float]) -> float:
    """One-sided p-value of a least-squares slope of zero or more; 1 if all losses are equal."""
    from scipy.stats import t

    n = len(losses)
    middle, mean = (n - 1) / 2, sum(losses) / n
    squares = sum((i - middle) ** 2 for i in range(n))
    slope = sum((i - middle) * (loss - mean) for i, loss in enumerate(losses)) / squares
    residual = sum((loss - mean - slope * (i - middle)) ** 2 for i, loss in enumerate(losses))
    if abs(slope) * n <= _ROUNDING * abs(mean):
        return 1.0
    error = math.sqrt(residual / (n - 2) / squares)
    return float(t.cdf(slope / error, n - 2)) if error > 0 else float(slope >= 0)
