"""What an activation is like at zero, where new units begin."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from grow_cli.models.modules.network import GrowableModel

_NEAR = 1e-3


@dataclass(frozen=True)
class AtZero:
    """One kind of activation in a net."""

    kind: str
    where: str
    """The first site that has it."""
    value: float
    right: float
    """Slope to the right of 0."""
    left: float
    derivative: float
    """At 0, as autograd has it."""


def at_zero(model: GrowableModel) -> list[AtZero]:
    """Of each activation among the width sites; those with parameters left out, which start as the identity."""
    found: dict[str, AtZero] = {}
    for site in model.width_sites():
        kind = type(site.activation).__name__
        if kind in found or any(True for _ in site.activation.parameters()):
            continue
        like = site.producer.weight
        points = torch.tensor([0.0, _NEAR, -_NEAR], device=like.device, dtype=like.dtype, requires_grad=True)
        values = site.activation(points)
        (slopes,) = torch.autograd.grad(values.sum(), points)
        value, right, left = values.tolist()
        derivative = float(slopes[0])
        found[kind] = AtZero(kind, site.name, value, (right - value) / _NEAR, (value - left) / _NEAR, derivative)
    return list(found.values())
