"""The expressivity bottleneck of a layer and the neurons that relieve it best (TINY, section 3; appendix C and D).

Names instead of the papers' layer indices, which differ between main text and appendix: B_in are the inputs of the
*producer* (the linear map that gets new rows), B_out those of the *consumer* (that gets new columns), both with the
homogeneous coordinate 1 where there is a bias; V_goal = −∂L/∂a, a being the consumer's pre-activations and L the sum of
the samples' losses. All is solved in float64, and every threshold is relative: neither the number of neurons nor their
directions depend on the scale of the loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Neurons:
    """New neurons, the best one first; x ↦ Σ_k ω_k α_kᵀx is what they add to the consumer's pre-activations."""

    alpha: Tensor
    """(k, p) fan-in, the bias last where the inputs carry a 1."""
    omega: Tensor
    """(m, k) fan-out."""
    eigenvalues: Tensor
    """(k,) λ, descending: λ_k² is what neuron k takes away from the bottleneck, and from the loss at first order."""


def best_update(b_out: Tensor, v_goal: Tensor, rtol: float = 1e-10) -> Tensor:
    """δW* = V_goalᵀ B_out (B_outᵀ B_out)⁺ (Prop. 3.1): the move of the present weights nearest to the desired one.

    :param b_out: (n, q) the consumer's inputs
    :param v_goal: (n, m) desired moves of its pre-activations
    :param rtol: directions of B_outᵀB_out with an eigenvalue below `rtol` times the largest count as absent
    :return: (m, q) float64
    """
    left, singular, right = _svd(b_out, rtol)
    return (v_goal.double().T @ left / singular) @ right.T


def new_neurons(b_in: Tensor, v_projected: Tensor, max_neurons: int | None = None, rtol: float = 1e-10) -> Neurons:
    """The neurons of Prop. 3.2: (α_k, ω_k) = (√λ_k S^(-1/2) u_k, √λ_k v_k), S^(-1/2) N = Σ λ_k u_k v_kᵀ.

    With S = B_inᵀB_in/n and N = B_inᵀV/n. They minimise ‖V − B_in αᵀωᵀ‖² over all sets of k neurons, α in the span of
    the data, and lower ‖V‖²/n by Σλ_k². Scaled by √γ each they lower the mean loss by σ'(0)γΣλ_k² + o(γ) if V is V_goal
    itself, or if what they reach is orthogonal to B_out, which the paper supposes (C.2). Otherwise the overlap
    ⟨δW* B_out, B_in αᵀωᵀ⟩/n comes on top, and may outweigh the rest: the sum holds once δW* has been made.

    :param b_in: (n, p) the producer's inputs
    :param v_projected: (n, m) V_goal less what `best_update` reaches
    :param max_neurons: how many of the best at most; None: as many as the rank of N
    :param rtol: directions with an eigenvalue of S, and neurons with a λ², below `rtol` times the largest count as absent
    """
    n = len(b_in)
    left, singular, right = _svd(b_in, rtol)
    whitening = right * (n**0.5 / singular)
    return _neurons(whitening, left.T @ v_projected.double() / n**0.5, max_neurons, rtol)


def whitening_of(gram: Tensor, rtol: float) -> Tensor:
    """R (p, r) with RᵀSR = I and RRᵀ = S⁺, for a sum of outer products S (p, p) in float64.

    Cholesky where S is safely of full rank, which costs a tenth of the eigendecomposition that is needed otherwise.
    """
    factor, failed = torch.linalg.cholesky_ex(gram)
    if not failed:
        identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
        # 1/‖L⁻¹‖² is a lower bound of the smallest eigenvalue, the trace an upper bound of the largest
        if rtol * gram.trace() * inverse.square().sum() < 1:
            return inverse.T
    values, vectors = torch.linalg.eigh(gram)
    kept = values > rtol * values[-1].clamp(min=0)
    return vectors[:, kept] / values[kept].sqrt()


def best_update_of(gram: Tensor, cross: Tensor, rtol: float) -> Tensor:
    """`best_update` (m, q) from the sums B_outᵀB_out (q, q) and B_outᵀV_goal (q, m)."""
    whitening = whitening_of(gram, rtol)
    return (whitening @ (whitening.T @ cross)).T


def new_neurons_of(whitening: Tensor, cross: Tensor, max_neurons: int | None = None, rtol: float = 1e-10) -> Neurons:
    """`new_neurons` from `whitening_of` S (p, r) and N (p, m), both means over the same number of rows."""
    return _neurons(whitening, whitening.T @ cross, max_neurons, rtol)


def spurious(rank: int, covariance: Tensor, rows: int, generator: torch.Generator) -> float:
    """The largest λ of Gaussian goals with this covariance, which nothing connects to the inputs (D.3).

    Whatever the inputs, their S^(-1/2) N is distributed as Z Σ^(1/2)/√rows, Z (rank, m) standard normal: no data is needed.

    :param rank: that of S
    :param covariance: (m, m) Σ of V_goal
    :param rows: samples
    """
    draws = torch.randn(rank, len(covariance), dtype=torch.float64, generator=generator).to(covariance)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt()
    return largest_singular_value(draws @ root) / rows**0.5


def largest_singular_value(a: Tensor) -> float:
    """‖a‖₂ of a (p, m). With `out=`, torch computes no vectors, even where its operators are watched."""
    return float(torch.linalg.svdvals(a, out=a.new_empty(0)).max())


def _svd(b: Tensor, rtol: float) -> tuple[Tensor, Tensor, Tensor]:
    """B = left diag(singular) rightᵀ, (n, r), (r,), (p, r): of B itself, as its Gram matrix would square the condition."""
    q, r = torch.linalg.qr(b.double())
    left, singular, right = torch.linalg.svd(r, full_matrices=False)
    kept = singular > rtol**0.5 * singular.max() if len(singular) else singular > 0
    return q @ left[:, kept], singular[kept], right[kept].T


def _neurons(whitening: Tensor, target: Tensor, max_neurons: int | None, rtol: float) -> Neurons:
    """From S^(-1/2) N (r, m), in the coordinates of `whitening` (p, r)."""
    u, eigenvalues, v = torch.linalg.svd(target, full_matrices=False)
    k = int((eigenvalues > rtol**0.5 * eigenvalues[:1]).sum())
    k = k if max_neurons is None else min(k, max_neurons)
    u, eigenvalues, v = u[:, :k], eigenvalues[:k], v[:k]
    # an SVD's signs are arbitrary: the same everywhere, so that runs agree
    signs = v.gather(1, v.abs().argmax(1, keepdim=True)).sign() if k else v.new_ones(0, 1)
    roots = eigenvalues.sqrt()
    return Neurons((whitening @ (u * signs.T * roots)).T, (v * signs).T * roots, eigenvalues)
