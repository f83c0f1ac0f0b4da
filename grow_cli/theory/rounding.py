"""Bounds on rounding errors of a trajectory: a shorter direction is not significant."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from grow_cli.hardware import numbers


def rounding(snapshot: Tensor) -> float:
    """How far rounding to its dtype may have moved a snapshot (P,): half an ulp of ‖W‖."""
    return roundings([snapshot])[0]


def roundings(snapshots: Sequence[Tensor]) -> list[float]:
    """The same of several, on one device; the host waits for it once."""
    norms = [
        torch.linalg.vector_norm(s.detach(), dtype=torch.float64 if s.dtype == torch.float64 else torch.float32)
        for s in snapshots
    ]
    return [torch.finfo(s.dtype).eps / 2 * norm for s, norm in zip(snapshots, numbers(norms), strict=True)]


def shares_of_rounding(d: Tensor, between: Tensor) -> tuple[float, float]:
    """Length that mean velocity and mean acceleration can have if each snapshot is off by a length of 1.

    Both are sums over snapshots, and the bound is the sum of their weights' sizes.
    """
    velocity, acceleration = 1 / (d * len(d)), torch.zeros_like(d)
    acceleration[0], acceleration[-1] = -1 / (d[0] * between), 1 / (d[-1] * between)
    by_snapshot = torch.nn.functional.pad(torch.stack([velocity, acceleration]), (1, 1)).diff(dim=1)
    first, second = by_snapshot.abs().sum(dim=1).tolist()
    return first, second
