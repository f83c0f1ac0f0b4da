"""Whether a trajectory still moves in a direction: its displacement compared with a random walk, and a test of its drift.

With K the Gram matrix of the velocities, VR = 1ᵀK1 / Tr K = ‖Δ‖² / Σ‖V_t‖² is S - 1 on a straight line, 1 for a random
walk and below 1 where the weights are confined. For steps of equal length τ = √((S-1) / VR) and κ = √(τ²-1), so that
Alether's two readings are this one number. Its numerator is Tr K plus the inner products of different velocities. Those
of adjacent velocities also contain the noise of the snapshots; the mean of the others estimates the squared drift ‖E
V_t‖², and is negative if the weights are pulled back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from grow_cli.errors import check

_FEWEST = 5
"""Velocities: with fewer, leaving one out leaves too few pairs that are no neighbours."""


@dataclass(frozen=True)
class Drift:
    """What a window of velocities says; drift and its bound are in units of the mean squared velocity Tr K / (S-1)."""

    variance_ratio: float
    """VR: S - 1 straight, 1 a random walk, below 1 confined; NaN where nothing moved."""
    drift: float
    """Mean of K_st over |s - t| ≥ 2; NaN where nothing moved."""
    upper: float
    """Upper bound of a one-sided jackknife interval of it: at most 0 where no drift is left."""


def drift_of(K: Tensor, level: float = 0.05) -> Drift:
    """From the Gram matrix of the velocities (S-1, S-1).

    The mean over pairs is a U-statistic, and its jackknife leaves out a velocity with all its pairs. On a driftless walk
    that overstates the variance up to twofold, so that the level is kept with room.

    :raise ValueError: if K is of fewer than 5 velocities, or level is not between 0 and 1
    """
    from scipy.stats import t

    check(0 < level < 1, f"level is {level}: give a probability between 0 and 1")
    count = len(K)
    check(count >= _FEWEST, f"K is of {count} velocities: give {_FEWEST} or more")
    K = K.detach().to("cpu", torch.float64)
    scale = K.diagonal().mean().item()
    if scale <= 0:
        return Drift(math.nan, math.nan, math.nan)
    K = K / scale
    index = torch.arange(count)
    apart = ((index[:, None] - index).abs() >= 2).double()
    of_one, pairs = (K * apart).sum(dim=1), apart.sum(dim=1)
    mean = (of_one.sum() / pairs.sum()).item()
    without = (of_one.sum() - 2 * of_one) / (pairs.sum() - 2 * pairs)
    error = math.sqrt((count - 1) / count * (without - without.mean()).square().sum().item())
    return Drift(K.sum().item() / count, mean, mean + float(t.ppf(1 - level, count - 1)) * error)
