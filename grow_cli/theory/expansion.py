"""The natural expansion score, and how much new units would raise it (SENN, sections 3.2 to 3.6, appendix A).

A linear map reads activations a (n, p) and its outputs have gradients g (n, m), a sample's own. With the metric S (m, m)
on those outputs and A = E[a aᵀ] the map's Fisher matrix is about S ⊗ A, so that η = gᵀF⁻¹g is Tr[S⁻¹ E[g aᵀ] A⁻¹ E[a gᵀ]]:
the part of the desired move that the map's weights can make. Activations carry a column of ones where there is a bias.
All is solved in float64; directions that are absent from the activations, or from the metric, are left out relative to
the largest, so that neither dead inputs nor redundant units need any damping.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from grow_cli.hardware import sent
from grow_cli.theory.bottleneck import whitening_of

_RTOL = 1e-10


class LayerScore:
    """A linear map's score, and what proposals would add to it: what does not depend on them is computed once.

    :param activations: a_c (n, p), what the map reads at present, a column of ones included where it has a bias
    :param gradients: g (n, m) of each sample's loss with respect to the map's outputs
    :param metric: S (m, m), symmetric and positive semi-definite
    :raise ValueError: if shapes do not fit, or the metric has no inverse where the gradients need one

    Activations and metric are solved where they lie, which may be the CPU, with the gradients on a GPU.
    """

    def __init__(self, activations: Tensor, gradients: Tensor, metric: Tensor) -> None:
        basis = _spanned(activations)
        n, measured = len(basis), _measured(activations, gradients, metric)
        self._basis = sent(basis, measured.device)
        self.rank = self._basis.shape[1]
        """Of the present activations, on these samples."""
        reached = self._basis.T @ measured / n
        self.score = float(reached.square().sum())
        """η_c."""
        self.residual = measured - self._basis @ reached
        """g_r S^(-1/2) (n, r): what the present weights cannot reach (Lemma 4), its squares being the metric's lengths."""

    def unreached(self, gradients: Tensor) -> Tensor:
        """g_r = g − E[g a_cᵀ] A_c⁻¹ a_c (n, m) of any gradients (Lemma 4)."""
        g = double(gradients)
        return g - self._basis @ (self._basis.T @ g / len(g))

    def residual_of(self, gradients: Tensor, metric: Tensor) -> Tensor:
        """`residual` of other gradients, of which something has been taken away already."""
        return self.unreached(_measured(self._basis, gradients, metric))

    def gains(self, proposed: Tensor) -> Tensor:
        """Δη (b,) float64 of proposed activations (b, n, q), exactly (Cor. 3.1)."""
        rows = _checked(proposed, len(self._basis))
        own = rows
        for _ in range(2):  # once leaves an error of the size of what was taken away
            own = own - self._basis @ (self._basis.T @ own) / len(self._basis)
        # a direction is new if it is not small against the unit's own size
        new = own.norm(dim=-2, keepdim=True) > _RTOL**0.5 * rows.norm(dim=-2, keepdim=True)
        return explained(torch.where(new, own, 0.0), self.residual)

    def bounds(self, proposed: Tensor) -> Tensor:
        """Δη' ≤ Δη (b,) float64 of proposed activations (b, n, q) (Thm. 2)."""
        return explained(_checked(proposed, len(self._basis)), self.residual)


def explained(proposed: Tensor, residual: Tensor) -> Tensor:
    """Tr[Gᵀ A_p⁻¹ G] (b,) with G = E[a_p g_rᵀ S^(-1/2)]: what proposals (b, n, q) explain of residual gradients (n, r)."""
    left, singular, _ = torch.linalg.svd(double(proposed), full_matrices=False)
    kept = singular > _RTOL**0.5 * singular[:, :1]
    return ((left.mT @ residual).square().sum(-1) * kept).sum(-1) / len(residual)


def explained_elsewhere(proposed: Tensor, residual: Tensor, other: Tensor, other_residual: Tensor) -> Tensor:
    """As `explained`, for weights K = A_p⁻¹G fitted on one sample and compared with another: Tr[2KᵀG' − KᵀA_p'K] (b,).

    No fixed K explains more than the best one, so that this is Δη' or less on the average, whatever the samples' numbers;
    what chance explains on the first sample costs as much on the other, and noise alone comes out below zero.

    :param proposed: (b, n, q), with residual (n, r)
    :param other: the same proposals (b, n', q), with other_residual (n', r) in the coordinates of the same metric
    """
    proposed, other = double(proposed), double(other)
    left, singular, right = torch.linalg.svd(proposed, full_matrices=False)
    inverse = torch.where(singular > _RTOL**0.5 * singular[:, :1], 1 / singular, 0.0)
    weights = right.mT @ (inverse[:, :, None] * (left.mT @ residual))
    made = other @ weights
    return (2 * made * other_residual - made.square()).sum((1, 2)) / len(other_residual)


def expansion_score(activations: Tensor, gradients: Tensor, metric: Tensor) -> float:
    """η = Tr[S⁻¹ E[g aᵀ] A⁻¹ E[a gᵀ]] (SENN, Def. 1 with the factors of section 3.6).

    :param activations: a (n, p)
    :param gradients: g (n, m)
    :param metric: S (m, m), symmetric and positive semi-definite
    :raise ValueError: if shapes do not fit, or the metric has no inverse where the gradients need one
    """
    return LayerScore(activations, gradients, metric).score


def expansion_gain(activations: Tensor, proposed: Tensor, gradients: Tensor, metric: Tensor) -> float | Tensor:
    """Δη of new activations, exactly: Tr[S⁻¹ E[g_r a_pᵀ] Â_p⁻¹ E[a_p g_rᵀ]] (SENN, Cor. 3.1 and Lemma 4).

    Â_p = A_p − C_pc A_c⁻¹ C_cp is what of them the present ones do not already say: a copy of a present unit gains 0.

    :param activations: a_c (n, p), present
    :param proposed: a_p (n, q), or (b, n, q) for b proposals
    :param gradients: g (n, m)
    :param metric: S (m, m), symmetric and positive semi-definite
    :return: a number, or (b,) float64
    :raise ValueError: if shapes do not fit, or the metric has no inverse where the gradients need one
    """
    layer = LayerScore(activations, gradients, metric)
    return layer.gains(proposed) if proposed.ndim == 3 else float(layer.gains(proposed[None])[0])


def expansion_gain_bound(activations: Tensor, proposed: Tensor, gradients: Tensor, metric: Tensor) -> float | Tensor:
    """Δη' = Tr[S⁻¹ E[g_r a_pᵀ] A_p⁻¹ E[a_p g_rᵀ]] ≤ Δη (SENN, Thm. 2): as `expansion_gain`, with A_p for Â_p."""
    layer = LayerScore(activations, gradients, metric)
    return layer.bounds(proposed) if proposed.ndim == 3 else float(layer.bounds(proposed[None])[0])


def double(t: Tensor) -> Tensor:
    """In float64; on the CPU where the device has none."""
    return (t.cpu() if t.device.type == "mps" else t).double()


def metric_root(metric: Tensor) -> Tensor:
    """R (m, r) with RRᵀ = S⁺ and r the rank of S; ValueError if S is no metric."""
    if metric.ndim != 2 or metric.shape[0] != metric.shape[1]:
        raise ValueError(f"the metric has shape {tuple(metric.shape)}: it must be square")
    s = double(metric)
    size = s.abs().max() if s.numel() else s.new_zeros(())
    if not torch.isfinite(size):
        raise ValueError("the metric has entries that are not finite: the net's outputs or its weights have diverged")
    if size == 0:
        raise ValueError(
            "the metric is zero: the net's outputs do not depend on this layer, so no move of it is worth more"
        )
    if (s - s.T).abs().max() > 1e-6 * size:
        raise ValueError("the metric is not symmetric: it must be a second moment of output derivatives, E[JᵀJ]")
    s = (s + s.T) / 2
    lowest = torch.linalg.eigvalsh(s, out=s.new_empty(0))[0]  # without vectors, even where operators are watched
    if lowest < -1e-6 * size:
        raise ValueError(
            f"the metric has the negative eigenvalue {float(lowest):.3g}: it must be positive semi-definite"
        )
    return whitening_of(s, 1e-7)  # estimated in float32


def _spanned(activations: Tensor) -> Tensor:
    """(n, r), an orthogonal basis B of what the activations' columns span, BᵀB = n."""
    if activations.ndim != 2 or len(activations) == 0:
        raise ValueError(
            f"activations have shape {tuple(activations.shape)}: (samples, units) with a sample or more needed"
        )
    a = double(activations)
    if a.shape[1] == 0:
        return a
    left, singular, _ = torch.linalg.svd(a, full_matrices=False)
    return left[:, singular > _RTOL**0.5 * singular[0]] * len(a) ** 0.5


def _measured(activations: Tensor, gradients: Tensor, metric: Tensor) -> Tensor:
    """g S^(-1/2) (n, r), whose squares are lengths in the metric's own sense."""
    n, m = len(activations), len(metric)
    if tuple(gradients.shape) != (n, m):
        raise ValueError(f"gradients have shape {tuple(gradients.shape)}: {(n, m)} is needed")
    here, g = metric_root(metric), double(gradients)
    root = sent(here, g.device)
    measured = g @ root
    if root.shape[1] < m:  # a gradient that the metric does not know has no length
        outside = g - measured @ sent(torch.linalg.pinv(here), g.device)
        if outside.norm() > 1e-3 * g.norm():
            raise ValueError(
                f"the metric is singular (rank {root.shape[1]} of {m}) and the gradients leave its range: it must be the "
                "second moment of the derivatives through which they came"
            )
    return measured


def _checked(proposed: Tensor, n: int) -> Tensor:
    """Float64."""
    if proposed.ndim != 3 or proposed.shape[1] != n:
        raise ValueError(
            f"proposed activations have shape {tuple(proposed.shape)}: (n, q) or (b, n, q) with n={n} needed"
        )
    return double(proposed)


@dataclass(frozen=True)
class Scored:
    """What a proposal would add to the score of its place."""

    gain: float
    """Δη', as a fraction of λ."""
    score: float
    """η_c, as a fraction of λ."""

    @property
    def ratio(self) -> float:
        """Δη'/η_c."""
        return self.gain / max(self.score, 1e-12)  # a net at rest has the score 0, and JSON no infinity

    def qualifies(self, tau: float, alpha: float) -> bool:
        """Whether it is to be added: the thresholds of SENN, section 3.4."""
        return self.ratio > tau - 1 and self.gain > alpha
