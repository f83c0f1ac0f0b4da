"""Two searches for good proposals, many at a time: monotone gradient ascent, and Langevin sampling (SENN, appendix C).

Both treat proposals as points (b, P) with independent values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from grow_cli.hardware import numbers

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points (b, P) → values (b,) and their gradients (b, P)."""

# A proposal's step is divided by the paper's 3 when it fails, and lengthened a little when it does not: the paper's
# "reducing as necessary" alone has to begin with a step that suits the flattest place of all.
_SHRINK, _LENGTHEN = 3.0, 1.2


@dataclass(frozen=True)
class Found:
    """Where a search ended."""

    points: Tensor
    """(b, P)."""
    values: Tensor
    """(b,)."""
    acceptance: float
    """Part of the steps that were taken."""


def ascend(evaluate: Evaluate, start: Tensor, *, steps: int, rate: float) -> Found:
    """Gradient ascent, in which a step is taken only if it improves its own proposal's value.

    :param rate: the first step, as a multiple of the gradient
    """
    points = start
    values, gradients = _finite(*evaluate(points))
    rates = torch.full_like(values, rate)
    taken: list[Tensor] = []
    for _ in range(steps):
        tried = points + rates[:, None] * gradients
        new, slopes = _finite(*evaluate(tried))
        better = new > values
        points = torch.where(better[:, None], tried, points)
        gradients = torch.where(better[:, None], slopes, gradients)
        values = torch.where(better, new, values)
        rates = torch.where(better, rates * _LENGTHEN, rates / _SHRINK)
        taken.append(better.float().mean())
    # read at the end: a GPU would wait at each step
    return Found(points, values, sum(numbers(taken)) / max(1, steps))


def langevin(evaluate: Evaluate, start: Tensor, *, steps: int, rate: float, temperature: float, scale: Tensor) -> Found:
    """Samples of exp(value/temperature) times a Gaussian prior, by Metropolis-adjusted Langevin steps.

    A step goes *up* the logarithm of that density: with u = point/scale, u' = u + rate ∇_u ln π + √(2 rate) ξ. Every ten
    steps the rate changes by a factor of 3 if the acceptance has left the neighbourhood of 0.6. Draws from torch's global
    stream.

    :param scale: (P,) the prior's standard deviations
    """
    points = start / scale

    def logarithm(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value; ln π up to a constant; its gradient."""
        value, slope = _finite(*evaluate(u * scale))
        return value, value / temperature - u.square().sum(1) / 2, slope * scale / temperature - u

    values, density, drift = logarithm(points)
    taken = 0.0
    accepted: list[Tensor] = []
    for step in range(1, steps + 1):
        noise = torch.randn_like(points)
        tried = points + rate * drift + math.sqrt(2 * rate) * noise
        new, new_density, new_drift = logarithm(tried)
        there = -noise.square().sum(1) / 2
        back = -(points - tried - rate * new_drift).square().sum(1) / (4 * rate)
        odds = new_density - density + back - there
        # anything finite is better than what has no value; nothing without one is taken
        accept = (torch.rand_like(odds).log() < odds) | (torch.isinf(density) & torch.isfinite(new_density))
        points = torch.where(accept[:, None], tried, points)
        drift = torch.where(accept[:, None], new_drift, drift)
        density, values = torch.where(accept, new_density, density), torch.where(accept, new, values)
        accepted.append(accept.float().mean())
        if step % 10 == 0 or step == steps:
            recent = 0.0
            for part in numbers(accepted):
                taken, recent = taken + part, recent + part / 10
            accepted = []
            if step % 10 == 0 and recent < 0.45:
                rate /= 3
            elif step % 10 == 0 and recent > 0.75:
                rate *= 3
    return Found(points * scale, values, taken / max(1, steps))


def _finite(values: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Diverged proposals get no value and no gradient."""
    good = torch.isfinite(values) & torch.isfinite(gradients).all(1)
    return torch.where(good, values, -math.inf), torch.where(good[:, None], gradients, 0.0)
