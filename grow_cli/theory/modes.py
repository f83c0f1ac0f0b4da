"""The singular modes of a trajectory's velocities and its mean directions in them (Alether, Def. 3, 4, 11, 12)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from grow_cli.theory.rounding import shares_of_rounding


@dataclass(frozen=True, eq=False)
class Basis:
    """The velocities' singular modes: coordinates b (r,) stand for Σ b_i σ_i q_i = Σ_t (U b)_t V_t / d_t."""

    eigenvalues: Tensor
    """(r,): σ_i², descending."""
    U: Tensor
    """(S-1, r)."""

    def length(self, b: Tensor) -> Tensor:
        """The length of the vector that the coordinates stand for (a number)."""
        return (self.eigenvalues * b.square()).sum().sqrt()


def modes_above(K: Tensor, floor: float) -> Basis:
    """Eigenvalues (r,), descending, and eigenvectors (S-1, r) of K (S-1, S-1), with fixed signs.

    Those are left out whose roots, the singular values, do not exceed round-off and the floor.
    """
    eigenvalues, U = torch.linalg.eigh(K)
    eigenvalues, U = eigenvalues.flip(0), U.flip(1)
    numerical_rank = int((eigenvalues > max(round_off(K), floor**2)).sum())
    eigenvalues, U = eigenvalues[:numerical_rank], U[:, :numerical_rank]
    # ⟨q_i, V_t⟩ = σ_i U_ti: the last entry that is not negligible becomes positive.
    latest_first = U.flip(0)
    last = (latest_first.abs() > 1e-6).int().argmax(dim=0, keepdim=True)
    return Basis(eigenvalues, U * latest_first.gather(0, last).sign())


def participating(eigenvalues: Tensor) -> int:
    """k by the participation ratio of σ² (r,), (Σσ²)² / Σσ⁴, rounded up: how many modes the motion is spread over (7.2.2).

    1 where one mode has all of it, or where there is none; r where all have as much.
    """
    total = eigenvalues.square().sum()
    return 1 if total == 0 else max(1, math.ceil((eigenvalues.sum().square() / total).item() - 1e-9))


def directions_in(basis: Basis, d: Tensor, rank: int, resolution: float) -> tuple[Tensor, Tensor, Tensor]:
    """V̄_U, Ā_U and V̄_⊥ (Def. 12), in coordinates; each is zero where it is no longer than rounding can make it."""
    mean_velocity = basis.U.mean(dim=0)  # Def. 3: Vᵀ1 / (S-1)
    # Def. 4, telescoped: (V_{S-1} - V_1) / (S-2), the time from the middle of the first interval to that of the last
    between = d.sum() - (d[0] + d[-1]) / 2
    mean_acceleration = (basis.U[-1] - basis.U[0]) / between
    velocity_noise, acceleration_noise = (resolution * share for share in shares_of_rounding(d, between))
    inside = torch.arange(len(basis.eigenvalues)) < rank

    def above(b: Tensor, noise: float) -> Tensor:
        return b if basis.length(b) > noise else torch.zeros_like(b)

    round_off = 1e-10 * basis.length(mean_velocity).item()
    return (
        above(mean_velocity * inside, velocity_noise),
        above(mean_acceleration * inside, acceleration_noise),
        above(mean_velocity * ~inside, max(round_off, velocity_noise)),
    )


def round_off(K: Tensor) -> float:
    """What rounding in float64 can leave in an eigenvalue of K, or in 1ᵀK1, that is exactly zero.

    Entries of K are differences of squared distances of up to (S-1) Tr K; hence the square.
    """
    return 4 * len(K) ** 2 * torch.finfo(torch.float64).eps * K.trace().item()
