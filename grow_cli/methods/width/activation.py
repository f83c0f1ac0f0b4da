"""Properties of an activation at zero, where new units start."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from grow_cli.models.modules.network import GrowableModel
from grow_cli.models.modules.sites import WidthSite

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
    bend: float
    """How far it is at ±1 from the lines that it leaves 0 along."""

    @property
    def creased(self) -> bool:
        """Whether its slope jumps at 0."""
        return abs(self.right - self.left) > 0.05 * max(abs(self.right), abs(self.left))


def at_zero(model: GrowableModel) -> list[AtZero]:
    """The slopes at zero of each kind of activation at the width sites, without those that start as the identity."""
    found: dict[str, AtZero] = {}
    for site in model.width_sites():
        kind = type(site.activation).__name__
        if kind not in found and not any(True for _ in site.activation.parameters()):
            found[kind] = _measured(kind, site)
    return list(found.values())


def slopes_at_zero(site: WidthSite) -> AtZero:
    """The slopes at zero of the activation that new units at a site start with: one with parameters starts as the identity."""
    if any(True for _ in site.activation.parameters()):
        return AtZero(type(site.activation).__name__, site.name, 0.0, 1.0, 1.0, 1.0, 0.0)
    return _measured(type(site.activation).__name__, site)


def _measured(kind: str, site: WidthSite) -> AtZero:
    """On the CPU, wherever the net is: it has no parameters."""
    with torch.enable_grad():
        points = torch.tensor([0.0, _NEAR, -_NEAR, 1.0, -1.0], requires_grad=True)
        values = site.activation(points)
        (slopes,) = torch.autograd.grad(values.sum(), points)
    value, right, left, far, other = values.tolist()
    right, left = (right - value) / _NEAR, (value - left) / _NEAR
    bend = max(abs(far - value - right), abs(value - other - left))
    return AtZero(kind, site.name, value, right, left, float(slopes[0]), bend)
