"""Bounds on rounding errors of a trajectory: a shorter direction is not significant."""

from __future__ import annotations

import torch
from torch import Tensor


def rounding(snapshot: Tensor) -> float:
    """How far rounding to its dtype may have moved a snapshot (P,): half an ulp of ‖W‖."""
    work = torch.float64 if snapshot.dtype == torch.float64 else torch.float32
    norm = torch.linalg.vector_norm(snapshot.detach(), dtype=work).item()
    return torch.finfo(snapshot.dtype).eps / 2 * norm


def shares_of_rounding(d: Tensor, between: Tensor) -> tuple[float, float]:
    """Length that mean velocity and mean acceleration can have if each snapshot is off by a length of 1.

    Both are sums over snapshots, and the bound is the sum of their weights' sizes.
    """
    velocity, acceleration = 1 / (d * len(d)), torch.zeros_like(d)
    acceleration[0], acceleration[-1] = -1 / (d[0] * between), 1 / (d[-1] * between)
    by_snapshot = torch.nn.functional.pad(torch.stack([velocity, acceleration]), (1, 1)).diff(dim=1)
    first, second = by_snapshot.abs().sum(dim=1).tolist()
    return first, second
