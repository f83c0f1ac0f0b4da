"""Activations by name, SENN's rational one and GradMax's ReLU among them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grow_cli.models.base import TORCH_ACTIVATIONS


class ReLURight(nn.Module):
    """ReLU whose derivative at zero is that from the right, 1 (torch's is 0).

    GradMax's new units start with zero incoming weights: with torch's derivative they would get no gradient.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x < 0, 0, x)  # NaN stays NaN


class Sine(nn.Module):
    """sin x, which repeats itself as fast as its input's weights say."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


class Rational(nn.Module):
    """σ(x) = αx + (β + γx)/(1 + x²), three parameters per unit; (1, 0, 0) is the identity (SENN, section 3.1).

    `normalize` divides by √(α² + β² + γ²), without which training from unit-normal parameters blows up; the
    paper is silent, the authors' code does it. Starts unit-normal, as SENN's nets and proposals do.
    """

    def __init__(self, units: int, *, spatial_dims: int = 0, normalize: bool = True) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.randn(units))
        self.beta = nn.Parameter(torch.randn(units))
        self.gamma = nn.Parameter(torch.randn(units))
        self.spatial_dims, self.normalize = spatial_dims, normalize

    def forward(self, x: Tensor) -> Tensor:
        """(n, ..., units), or (n, units, height, width) with `spatial_dims=2`."""
        theta = torch.stack([self.alpha, self.beta, self.gamma])
        if self.normalize:
            theta = theta / theta.norm(dim=0)
        alpha, beta, gamma = theta.view(3, -1, *(1,) * self.spatial_dims)
        return alpha * x + (beta + gamma * x) / (1 + x * x)


_OWN: dict[str, type[nn.Module]] = {"relu_right": ReLURight, "sine": Sine}


def make_activation(name: str, units: int, *, spatial_dims: int = 0) -> nn.Module:
    """The module of an activation's name, for `units` units whose images have `spatial_dims` dimensions."""
    if name in ("rational", "rational_raw"):
        return Rational(units, spatial_dims=spatial_dims, normalize=name == "rational")
    if name in _OWN:
        return _OWN[name]()
    module: nn.Module = getattr(nn, TORCH_ACTIVATIONS[name])()
    return module


def can_be_identity(activation: str, *, inputs_nonnegative: bool) -> bool:
    """Whether the activation has parameters, or its inputs a sign, with which it passes them on unchanged."""
    if activation in ("relu", "relu_right"):
        return inputs_nonnegative
    return activation in ("identity", "rational", "rational_raw")
