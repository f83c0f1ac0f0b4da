"""Alether's Definitions 3-18 and Algorithms 1, 4 and 5 as printed: float64, loops, one SVD of all the velocities.

Slow and memory-hungry on purpose: what the Gram-matrix implementation is tested against. A history is a tensor
(S, P) with a flattened snapshot per row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def velocities(history: Tensor) -> Tensor:
    """V_t = W_t - W_{t-1}, in rows t = 1 ... S-1 (Def. 3)."""
    W = history.double()
    return torch.stack([W[t] - W[t - 1] for t in range(1, len(W))])


def mean_velocity(history: Tensor) -> Tensor:
    """V̄ (Def. 3)."""
    V = velocities(history)
    return sum(V, start=torch.zeros_like(V[0])) / len(V)


def mean_acceleration(history: Tensor) -> Tensor:
    """Ā, the mean of A_t = W_{t+1} - 2 W_t + W_{t-1} (Def. 4)."""
    W = history.double()
    A = [W[t + 1] - 2 * W[t] + W[t - 1] for t in range(1, len(W) - 1)]
    return sum(A, start=torch.zeros_like(W[0])) / len(A)


def tsf(history: Tensor, eps: float = 1e-8) -> float:
    """τ (Def. 5, Algorithm 4)."""
    W = history.double()
    path = 0.0
    for t in range(1, len(W)):
        path += (W[t] - W[t - 1]).norm().item()
    return path / ((W[-1] - W[0]).norm().item() + eps)


def parallel_and_perpendicular(history: Tensor) -> tuple[Tensor, Tensor]:
    """V_t^∥ and V_t^⊥ in rows (Def. 6)."""
    W = history.double()
    delta = W[-1] - W[0]
    direction = delta / delta.norm()
    parallel = torch.stack([(v @ direction) * direction for v in velocities(W)])
    return parallel, velocities(W) - parallel


def curvature(history: Tensor, eps: float = 1e-8) -> float:
    """κ (Def. 7)."""
    parallel, perpendicular = parallel_and_perpendicular(history)
    return sum(p.norm().item() for p in perpendicular) / (sum(p.norm().item() for p in parallel) + eps)


def curvature_algorithm_5(history: Tensor, eps: float = 1e-8) -> float:
    """κ by Algorithm 5, which adds ε to ‖Δ‖ as well: they differ by a relative ε / ‖Δ‖."""
    W = history.double()
    delta = W[-1] - W[0]
    direction = delta / (delta.norm() + eps)
    sum_parallel, sum_perp = 0.0, 0.0
    for t in range(1, len(W)):
        v = W[t] - W[t - 1]
        parallel = (v @ direction) * direction
        sum_parallel += parallel.norm().item()
        sum_perp += (v - parallel).norm().item()
    return sum_perp / (sum_parallel + eps)


def covariance(history: Tensor) -> Tensor:
    """Σ_real (P, P) (Def. 8)."""
    W = history.double()
    mean = W.mean(dim=0)
    return sum((torch.outer(w - mean, w - mean) for w in W), start=torch.zeros(W.shape[1], W.shape[1]).double()) / len(
        W
    )


def ideal_covariance(history: Tensor) -> Tensor:
    """Σ_ideal (P, P) (Def. 9)."""
    delta = (history[-1].double() - history[0].double()).flatten()
    return torch.outer(delta, delta) / 4


def spectral_tortuosity(history: Tensor) -> float:
    """ρ (Def. 10), the traces taken without forming the matrices."""
    W = history.double()
    mean = W.mean(dim=0)
    real = sum(((w - mean) ** 2).sum().item() for w in W) / len(W)
    return real / (((W[-1] - W[0]) ** 2).sum().item() / 4)


def modes(history: Tensor) -> tuple[Tensor, Tensor]:
    """σ (r,) and q_1 ... q_r in columns (P, r), those that are not round-off (Def. 11).

    The paper leaves the signs open: each q_i points the way the most recent velocity went that moved along it.
    """
    V = velocities(history)
    _, singular_values, Qt = torch.linalg.svd(V, full_matrices=False)
    r = int((singular_values > max(V.shape) * 2.3e-16 * singular_values[0]).sum())
    Q = Qt[:r].T.clone()
    for i in range(r):
        for v in reversed(V):
            if abs(v @ Q[:, i]) > 1e-6 * singular_values[i]:
                Q[:, i] *= torch.sign(v @ Q[:, i])
                break
    return singular_values[:r], Q


class Result(NamedTuple):
    """What Algorithm 1 finds on its way."""

    displacement: Tensor
    """w_new - w_{S-1} (P,), in float64: adding it to float32 weights would round most of it away."""
    beta: float
    gamma: float
    eta: float
    velocity_direction: Tensor
    acceleration_direction: Tensor
    escape_direction: Tensor


def extrapolate(
    history: Tensor,
    beta0: float = 0.1,
    gamma0: float = 0.15,
    eta0: float = 0.03,
    k: int = 10,
    modes_to_escape: int = 5,
    tau_crit: float = 2.0,
    kappa_crit: float = 0.5,
    eps: float = 1e-8,
) -> Result:
    """Algorithm 1, line by line."""
    tau, kappa = tsf(history, eps), curvature(history, eps)
    sigma, Q = modes(history)
    Qk = Q[:, :k]
    v, a = mean_velocity(history), mean_acceleration(history)
    v_projected, a_projected = Qk @ (Qk.T @ v), Qk @ (Qk.T @ a)
    v_orthogonal = v - v_projected
    if v_orthogonal.norm() < eps:
        escape = torch.zeros_like(v)
        for i in range(k, min(k + modes_to_escape, len(sigma))):
            escape = escape + sigma[i] * Q[:, i]
    else:
        escape = v_orthogonal
    v_hat, a_hat, escape_hat = (x / (x.norm() + eps) for x in (v_projected, a_projected, escape))
    beta = beta0 / (tau + eps)
    gamma = gamma0 / (1 + kappa)
    eta = eta0 * max(0.0, tau - tau_crit) * max(0.0, kappa - kappa_crit)
    displacement = beta * v_hat + gamma * a_hat + eta * escape_hat
    return Result(displacement, beta, gamma, eta, v_hat, a_hat, escape_hat)


def trajectories(snapshots: int = 20, parameters: int = 60, seed: int = 0) -> dict[str, Tensor]:
    """Float64 histories (S, P) of every kind that the algorithms tell apart, by name."""
    random = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    time = torch.arange(snapshots, dtype=torch.float64)[:, None]
    start, heading, walk = (
        noise(1, parameters),
        noise(1, parameters),
        noise(snapshots, parameters).cumsum(dim=0),
    )
    decay = torch.exp(-time * torch.linspace(0.02, 1.0, parameters).double())  # gradient descent on a quadratic
    return {
        "random walk": start + 0.1 * walk,
        "drift and noise": start + 0.1 * heading * time + 0.1 * walk,
        "oscillation": start + 0.02 * heading * time + 0.3 * noise(snapshots, parameters),
        "gradient descent": start + heading * decay + 1e-4 * walk,
        "few parameters": start[:, :4] + 0.1 * walk[:, :4],
        "modes only": start + modes_only(snapshots, parameters),
    }


def modes_only(snapshots: int, parameters: int) -> Tensor:
    """Drift along one axis and ever smaller oscillations along 12 others, which cancel over the window.

    The mean velocity is the first mode: none of it is left outside U_k, while other modes are.
    """
    count = snapshots - 1
    t = torch.arange(count, dtype=torch.float64)
    V = torch.zeros(count, parameters, dtype=torch.float64)
    V[:, 0] = 1.0
    for i in range(1, 13):
        wave = torch.cos(2 * torch.pi * ((i + 1) // 2) * t / count + (torch.pi / 2 if i % 2 else 0.3))
        wave = wave - V[:, :i] @ (V[:, :i].T @ wave / V[:, :i].square().sum(dim=0))  # orthogonal in time
        V[:, i] = 0.97**i * wave / wave.norm() * count**0.5
    return torch.cat([torch.zeros(1, parameters, dtype=torch.float64), V.cumsum(dim=0)])
