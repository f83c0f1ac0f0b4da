"""τ and κ of a driftless random walk, their unit, in closed form for every sampling and smoothing.

The increments ξ_j of a walk in many dimensions are orthogonal and equally long, so that the Gram matrix of its velocities is
its own expectation, and τ and κ are those of that matrix. Evenly spaced snapshots of the walk itself have K = 1, hence
τ = √(S-1) and κ = √(S-2). Snapshots that lie d_t apart have K = diag(d_t). Of the moving average with decay s a snapshot
after m steps is Σ_{i=1..m} (1 - sⁱ) ξ_{m-i+1}, which two snapshots share up to the earlier one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from grow_cli.theory.trajectory import TrajectoryMetrics, metrics_from_gram


def walk_metrics(times: Sequence[int], smoothing: float = 0.0) -> TrajectoryMetrics:
    """τ, κ and ρ of a driftless random walk.

    times: training steps from the history's start to each of the S snapshots, ascending.
    smoothing: s, decay per step of the moving average that the snapshots are taken of; it starts at the walk's start.
    """
    K = walk_gram(times, smoothing)
    return metrics_from_gram(K / K.diagonal().mean(), eps=1e-100)  # a walk is no loop: nothing needs to be kept finite


def walk_gram(times: Sequence[int], smoothing: float = 0.0) -> Tensor:
    """K (S-1, S-1), in units of ‖ξ_j‖², with the arguments of `walk_metrics`."""
    t = torch.tensor(times, dtype=torch.float64)
    if not smoothing:
        return t.diff().diag()
    s, log = smoothing, math.log(smoothing)
    shared, apart = torch.minimum(t[:, None], t), (t[:, None] - t).abs()
    # ⟨w_k, w_m⟩ = Σ_{i=1..m} (1 - sⁱ)(1 - s^{i+k-m}), three geometric sums; expm1 as s may be close to 1
    first = s * -torch.expm1(shared * log) / (1 - s)
    second = s**2 * -torch.expm1(2 * shared * log) / ((1 - s) * (1 + s))
    lag = torch.exp(apart * log)
    snapshots = shared - (1 + lag) * first + lag * second
    return snapshots.diff(dim=0).diff(dim=1)
