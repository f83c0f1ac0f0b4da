"""How large what is left of a regression is, and how fast it turns (for `method=stages`)."""

from __future__ import annotations

import torch
from torch import Tensor

_PIECE = 2**22  # distances held at once


def magnitudes_of(left: Tensor) -> Tensor | None:
    """The root mean square of each output of what is left, (n, k) → (k,); None where nothing is left at all.

    An output of which nothing is left gets that of all of them together, since a stage that is multiplied by 0 learns nothing.
    """
    squares = left.square().mean(0)
    if not bool(squares.any()):
        return None
    return torch.where(squares > 0, squares, squares.mean()).sqrt()


def frequency_of(x: Tensor, left: Tensor) -> float:
    """√(E‖∇r‖² / E r²) of r = `left` (n, k) at the points x (n, d): ω for sin(ωx + φ), |ω| for sin(ω·x + φ).

    The gradient is that along the way to the nearest other point: (r_i − r_j)²/‖x_i − x_j‖² has the mean ‖∇r‖²/d where that
    way may point anywhere, so that it is taken times d. Points of one place are left out; 1 where all are, or r is constant. What
    turns faster than the points can show is taken for slower, and noise for as fast as they can.
    """
    gaps, there = _nearest(x)
    apart = gaps > 0
    power = left.square().mean()
    if not bool(apart.any()) or not float(power) > 0:
        return 1.0
    slopes = (left - left[there])[apart].square().mean(1) / gaps[apart].square()
    return float((x.shape[1] * slopes.mean() / power).sqrt()) or 1.0


def _nearest(x: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (n,) to the nearest other point of x (n, d), and which that is (n,)."""
    n = len(x)
    if n == 1:
        return x.new_zeros(1), torch.zeros(1, dtype=torch.int64, device=x.device)
    found = []
    size = max(1, _PIECE // n)
    for start in range(0, n, size):
        part = x[start : start + size]
        # not by products, whose rounding would be taken for distance
        distances = torch.cdist(part, x, compute_mode="donot_use_mm_for_euclid_dist")
        own = torch.arange(len(part), device=x.device)
        distances[own, start + own] = torch.inf
        found.append(distances.min(1))
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])
