"""Geometry of an optimization trajectory, and extrapolation along it (Alether, Definitions 3-18, Algorithm 1).

Snapshots W_0 ... W_{S-1} of one tensor, flattened to the rows of an (S, P) matrix, have velocities
V_t = W_t - W_{t-1}. Every quantity of the paper is a function of the small Gram matrix K = V Vᵀ (S-1, S-1):

    ‖V_t‖² = K_tt        Δ = Vᵀ1        ⟨V_t, Δ⟩ = (K1)_t        ‖Δ‖² = 1ᵀK1
    K = U Λ Uᵀ   gives the singular values σ_i = √λ_i and the right singular vectors q_i = Vᵀu_i / σ_i

and the new weights are w_new = W_{S-1} + Σ_t c_t V_t with coefficients c that need only K. So the history is
read twice, once for K and once for the weighted sum, and no P-sized singular vector is ever formed.

The paper samples evenly. Where snapshots lie d_t apart (Remark 20), V_t is a displacement and V_t / d_t a velocity:
means, modes and steps are those of V_t / d_t, whose Gram matrix is K_st / (d_s d_t). τ, κ and ρ measure the path
itself and stay functions of K.

    metrics = trajectory_metrics(history)
    new = extrapolate(history, rank=10).weights
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from grow_cli.errors import check
from grow_cli.theory.modes import Basis, directions_in, modes_above, participating, round_off
from grow_cli.theory.rounding import rounding

Escape = Literal["orthogonal", "modes", "none"]
EscapeAlong = Literal["orthogonal", "modes"]
StepScale = Literal["absolute", "velocity"]


@dataclass(frozen=True)
class TrajectoryMetrics:
    """How straight a trajectory is. All three are dimensionless."""

    tau: float
    """Temporal stretch factor: path length over displacement (Def. 5); 1 on a straight line, √(S-1) for noise."""
    kappa: float
    """Effective curvature: movement across Δ over movement along it (Def. 7)."""
    rho: float
    """Spectral tortuosity, Tr Σ_real / Tr Σ_ideal (Def. 10). Not bounded by 1: Remark 5 is false, an evenly
    sampled straight line has (S+1) / (3(S-1))."""


@dataclass(frozen=True, eq=False)
class Coefficients(TrajectoryMetrics):
    """The extrapolation in the basis of the velocities: w_new = W_{S-1} + Σ_t c_t V_t."""

    c: Tensor
    """(S-1,) float64, on the CPU."""
    beta: float
    """Length of the step along the projected mean velocity (Def. 15), `step_scale` included; likewise below."""
    gamma: float
    """Length of the step along the projected mean acceleration (Def. 16)."""
    eta: float
    """Length of the step along the escape direction (Def. 17), after `eta_max`."""
    escape: Escape
    """Which direction η multiplies, reported even where η is 0: the `orthogonal` part of the mean velocity, the
    next singular `modes` (Def. 14), or `none` where the velocities have no more than `rank` modes."""
    singular_values: Tensor
    """(r,) float64, on the CPU: σ_1 ≥ ... ≥ σ_r of V, those above round-off."""
    snr: float
    """‖V̄_U‖ / ‖V̄_⊥‖ (Remark 16); inf where nothing of the mean velocity lies outside the subspace."""
    rank: int
    """k, as it was asked for or chosen."""


@dataclass(frozen=True, eq=False)
class Extrapolation(Coefficients):
    """`Coefficients` and the weights they lead to."""

    weights: Tensor
    """(P,), of the history's dtype and on its device."""


def trajectory_metrics(history: Tensor, eps: float = 1e-8) -> TrajectoryMetrics:
    """τ, κ and ρ of the snapshots in the rows of `history` (S, P); see `metrics_from_gram`."""
    return metrics_from_gram(gram(history), eps)


def extrapolate(history: Tensor, *, resolution: float | None = None, **settings: Any) -> Extrapolation:
    """Algorithm 1 on the snapshots in the rows of `history` (S, P); the settings are those of `coefficients`.

    The resolution's default is the rounding of the history's dtype.
    """
    if resolution is None:
        resolution = rounding(history[-1]) if history.is_floating_point() else 0.0
    plan = coefficients(gram(history), resolution=resolution, **settings)
    return Extrapolation(weights=_weighted_sum(history.detach(), plan.c), **vars(plan))


def gram(history: Tensor) -> Tensor:
    """K = V Vᵀ (S-1, S-1), float64 on the history's device, from snapshots (S, P).

    The Gram matrix follows from the squared distances between snapshots, which `pdist` takes in one sweep of
    each chunk of columns:  2⟨V_s, V_t⟩ = d²(s, t-1) + d²(s-1, t) - d²(s, t) - d²(s-1, t-1).
    Products are float64: float32 ones are faster, but they blur neighbouring singular values, and the
    extrapolated step of a noisy trajectory is then wrong in the fourth digit.
    """
    check(
        history.dim() == 2,
        f"the history has shape {tuple(history.shape)}: give an (S, P) matrix, one row per snapshot",
    )
    check(
        len(history) >= 3,
        f"the history has {len(history)} of the 3 snapshots that an acceleration needs: give 3 or more",
    )
    check(history.is_floating_point(), f"the history is {history.dtype}: convert it to a floating-point dtype")
    history = history.detach()
    snapshots = len(history)
    first, second = torch.triu_indices(snapshots, snapshots, 1, device=history.device)
    pairs = torch.zeros(len(first), dtype=torch.float64, device=history.device)
    columns = chunk_columns(history)
    scratch = torch.empty(snapshots * min(columns, history.shape[1]), dtype=torch.float64, device=history.device)
    for chunk in history.split(columns, dim=1):
        pairs += torch.pdist(scratch[: chunk.numel()].view(chunk.shape).copy_(chunk)).square_()
    squared = pairs.new_zeros(snapshots, snapshots)
    squared[first, second] = pairs
    squared += squared.T.clone()
    return (squared[1:, :-1] + squared[:-1, 1:] - squared[1:, 1:] - squared[:-1, :-1]) / 2


def metrics_from_gram(K: Tensor, eps: float = 1e-8) -> TrajectoryMetrics:
    """τ, κ and ρ from the Gram matrix of the velocities (S-1, S-1).

    Where Δ is zero up to round-off (a closed loop) its direction is undefined: nothing then counts as parallel,
    as in Algorithm 5, and ε stands for ‖Δ‖ in Definition 10, which has none. So a constant history has
    τ = κ = ρ = 0, and a closed loop large but finite values.
    """
    check(eps > 0, f"eps is {eps}: give a positive number, which keeps the ratios finite")
    K = _checked(K)
    lengths = K.diagonal().clamp_min(0).sqrt()
    along = K.sum(dim=1)  # ⟨V_t, Δ⟩
    direct_squared = along.sum().item()
    direct = math.sqrt(direct_squared) if direct_squared > round_off(K) else 0.0
    parallel = along.abs() / direct if direct else torch.zeros_like(along)
    # Rounding can leave a straight line a hair below zero.
    perpendicular = (lengths.square() - parallel.square()).clamp_min(0).sqrt()

    # W_t - W_0 is a running sum of velocities, so Tr Σ_real is a quadratic form in K (Def. 8).
    running = torch.ones(len(K) + 1, len(K), dtype=torch.float64).tril(-1)
    running -= running.mean(dim=0)
    variance = ((running @ K) * running).sum().clamp_min(0).item() / len(running)

    return TrajectoryMetrics(
        tau=lengths.sum().item() / (direct + eps),  # Def. 5
        kappa=perpendicular.sum().item() / (parallel.sum().item() + eps),  # Def. 7
        rho=variance / ((direct or eps) ** 2 / 4),  # Def. 10
    )


def coefficients(
    K: Tensor,
    *,
    beta0: float = 0.1,
    gamma0: float = 0.15,
    eta0: float = 0.03,
    rank: int | None = 10,
    escape_modes: int = 5,
    tau_crit: float = 2.0,
    kappa_crit: float = 0.5,
    eps: float = 1e-8,
    eta_max: float | None = None,
    step_scale: StepScale = "absolute",
    durations: Sequence[float] | None = None,
    resolution: float | None = None,
    escape_along: EscapeAlong = "orthogonal",
) -> Coefficients:
    """Algorithm 1 from the Gram matrix of the velocities (S-1, S-1): where to put the new weights.

    rank, escape_modes: k (None: `participating`) and ℓ, the number of singular modes projected on and escaped along.
    eta_max: bound on η, which Definition 17 leaves unbounded; None is the paper's.
    step_scale: "absolute" is the paper's, β0, γ0 and η0 are lengths in weight space whatever the tensor's size;
        "velocity" counts them in mean velocity lengths ‖V_t‖ / d_t.
    durations: d_t (S-1), the time from each snapshot to the next; None: evenly spaced, as the paper has it. Each
        V_t / d_t counts alike in the mean velocity, so recent motion, sampled densely, weighs more than its time.
    resolution: length by which rounding may have moved each snapshot, which `rounding` gives; None: 0. A direction and a
        mode that rounding alone can make are none.
    escape_along: "orthogonal" is Algorithm 1, which escapes along V̄_⊥ and takes the next modes where that is nothing;
        "modes" is Definition 18, which always takes the next modes (Def. 14).

    β never exceeds β0, as τ ≥ 1 (Proposition 1): ε alone makes τ smaller, where nothing moves.
    The paper leaves the signs of the q_i open, on which Definition 14's sum depends. Each is oriented along the
    most recent velocity that moved along it. Modes below some 1e-6 of the largest drown in the round-off of K
    and do not count; float32 snapshots seldom hold any that are not rounding themselves.
    """
    _check_settings(rank, escape_modes, step_scale, escape_along, beta0, gamma0, eta0, tau_crit, kappa_crit, eta_max)
    K = _checked(K)
    metrics = metrics_from_gram(K, eps)
    d = _checked_durations(durations, len(K))
    K = K / torch.outer(d, d)  # from here on of velocities V_t / d_t: K_st is an inner product of displacements
    basis = modes_above(K, 2 * (resolution or 0.0) * d.reciprocal().norm().item())  # Def. 11
    rank = rank or participating(basis.eigenvalues)
    forward, bend, left = directions_in(basis, d, rank, resolution or 0.0)
    escape, direction = _escape(basis, left, rank, escape_modes, always_modes=escape_along == "modes", eps=eps)
    snr = (basis.length(forward) / basis.length(left)).item() if left.any() else math.inf
    beta = beta0 / max(1.0, metrics.tau + eps) if forward.any() else 0.0  # Def. 15
    gamma = gamma0 / (1 + metrics.kappa) if bend.any() else 0.0  # Def. 16
    eta = eta0 * max(0.0, metrics.tau - tau_crit) * max(0.0, metrics.kappa - kappa_crit)  # Def. 17
    eta = eta if eta_max is None else min(eta, eta_max)
    scale = K.diagonal().clamp_min(0).sqrt().mean().item() if step_scale == "velocity" else 1.0
    gains = {"beta": scale * beta, "gamma": scale * gamma, "eta": scale * eta}
    directions = zip(gains.values(), (forward, bend, direction), strict=True)
    step = sum((gain * (b / (basis.length(b) + eps)) for gain, b in directions), torch.zeros_like(left))  # Def. 13, 18
    sigma, c = basis.eigenvalues.sqrt(), (basis.U @ step) / d
    return Coefficients(**vars(metrics), **gains, c=c, escape=escape, singular_values=sigma, snr=snr, rank=rank)


def _escape(
    basis: Basis, left: Tensor, rank: int, escape_modes: int, *, always_modes: bool, eps: float
) -> tuple[Escape, Tensor]:
    """Which direction η multiplies, in coordinates: what of the mean velocity is left outside the subspace, or modes."""
    mode = torch.arange(len(basis.eigenvalues))
    if len(mode) <= rank:  # P_k is the identity on the velocities' span: nothing is left to escape along
        return "none", torch.zeros_like(left)
    if always_modes or basis.length(left) < eps:  # Def. 14; Algorithm 1, line 14
        return "modes", ((mode >= rank) & (mode < rank + escape_modes)).double()
    return "orthogonal", left  # Eq. 5


def _check_settings(
    rank: int | None, escape_modes: int, step_scale: str, escape_along: str, *gains: float | None
) -> None:
    """ValueError for one that `coefficients` cannot take; the gains are β0, γ0, η0, tau_crit, kappa_crit and eta_max."""
    names = ("beta0", "gamma0", "eta0", "tau_crit", "kappa_crit", "eta_max")
    for name, value in zip(names, gains, strict=True):
        unbounded = name == "eta_max" and value is None
        fits = unbounded or (value is not None and math.isfinite(value) and value >= 0)
        check(fits, f"{name} is {value}: give a finite number, 0 or above")
    check(rank is None or rank >= 1, f"rank is {rank}: project on 1 or more singular modes")
    check(escape_modes >= 1, f"escape_modes is {escape_modes}: escape along 1 or more singular modes")
    check(step_scale in ("absolute", "velocity"), f"step_scale is {step_scale!r}: choose absolute or velocity")
    check(escape_along in ("orthogonal", "modes"), f"escape_along is {escape_along!r}: choose orthogonal or modes")


def chunk_columns(matrix: Tensor) -> int:
    """How many columns of a (rows, P) matrix to work on at a time.

    Few enough to stay in a CPU's cache and, in float64, under a tenth of the matrix; many enough to hide the
    cost of a call.
    """
    most = 2**18 if matrix.is_cuda else 2**16
    return max(4096, min(most, matrix.shape[1] // 64))


def _weighted_sum(history: Tensor, c: Tensor) -> Tensor:
    """W_{S-1} + Σ_t c_t V_t, as a sum over snapshots: V_t = W_t - W_{t-1} is never formed."""
    by_snapshot = torch.zeros(len(history), dtype=torch.float64)
    by_snapshot[1:] += c
    by_snapshot[:-1] -= c
    # The sum is as coarse as the rounding of its terms. While these are small beside the weights, float32 does;
    # a long step out of tiny velocities needs more.
    small = by_snapshot.abs().sum() < 0.5 and history.dtype != torch.float64
    work = torch.float32 if small else torch.float64
    by_snapshot = by_snapshot.to(history.device, work)
    weights = torch.empty_like(history[-1])
    columns = chunk_columns(history)
    for new, chunk in zip(weights.split(columns), history.split(columns, dim=1), strict=True):
        chunk = chunk.to(work)
        new.copy_(torch.mv(chunk.T, by_snapshot).add_(chunk[-1]))
    return weights


def _checked_durations(durations: Sequence[float] | None, count: int) -> Tensor:
    if durations is None:
        return torch.ones(count, dtype=torch.float64)
    fit = len(durations) == count and all(math.isfinite(one) and one > 0 for one in durations)
    check(fit, f"durations are {list(durations)}: give {count} positive numbers, one for each velocity")
    return torch.tensor(durations, dtype=torch.float64)


def _checked(K: Tensor) -> Tensor:
    K = K.detach().to("cpu", torch.float64)
    square = K.dim() == 2 and K.shape[0] == K.shape[1]
    check(
        square and len(K) >= 2,
        f"K has shape {tuple(K.shape)}: give the (S-1, S-1) Gram matrix of S >= 3 snapshots",
    )
    finite = bool(torch.isfinite(K).all())
    check(
        finite,
        "the trajectory is not finite (NaN, inf or overflow): lower the learning rate or restart the history",
    )
    return K
