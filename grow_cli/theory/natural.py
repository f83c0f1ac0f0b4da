"""The natural gradient by conjugate gradients on products with the Fisher matrix (SENN, section 3.3 and appendix C).

F = E[JᵀHJ] is never formed. Both halves of a product with it are read off the graph of one forward pass: Jᵀu is the
backward pass, and Jv its derivative with respect to u, as the backward pass is linear in it. So a product costs two passes
whatever the batch, no sample is treated by itself, and dropout's and batch norm's draws stay those of the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Product = Callable[[Tensor], Tensor]


class Jacobian:
    """J of a batch's outputs (n, ...) with respect to some parameters, laid end to end as a vector (P,)."""

    def __init__(self, outputs: Tensor, parameters: Sequence[Tensor]) -> None:
        self.outputs, self.parameters = outputs, list(parameters)
        self._cotangent = torch.zeros_like(outputs, requires_grad=True)
        self._pulled = torch.autograd.grad(
            outputs, self.parameters, self._cotangent, create_graph=True, materialize_grads=True
        )
        self._sizes = [p.numel() for p in self.parameters]
        # the outputs may not depend on a parameter, or not move with it at all
        self._live = [i for i, pulled in enumerate(self._pulled) if pulled.requires_grad]

    def times(self, v: Tensor) -> Tensor:
        """J v, shaped like the outputs."""
        if not self._live:
            return torch.zeros_like(self.outputs)
        parts = [part.view_as(p) for part, p in zip(v.split(self._sizes), self.parameters, strict=True)]
        (pushed,) = torch.autograd.grad(
            [self._pulled[i] for i in self._live],
            self._cotangent,
            [parts[i] for i in self._live],
            retain_graph=True,
            materialize_grads=True,
        )
        return pushed

    def transposed_times(self, u: Tensor) -> Tensor:
        """Jᵀ u (P,), for u shaped like the outputs."""
        pulled = torch.autograd.grad(self.outputs, self.parameters, u, retain_graph=True, materialize_grads=True)
        return flat(pulled)


def twice_differentiable() -> AbstractContextManager[None]:
    """For the forward pass whose graph a `Jacobian` reads: fused attention has no second derivative."""
    return sdpa_kernel(SDPBackend.MATH)


def fisher_product(jacobian: Jacobian, damping: float, metric: Callable[[Tensor], Tensor] | None = None) -> Product:
    """v ↦ (E[JᵀHJ] + damping·I) v, the mean over the batch's samples.

    :param metric: u ↦ Hu on the outputs, sample by sample; None: the identity, SENN's euclidean metric
    """
    n = len(jacobian.outputs)

    def product(v: Tensor) -> Tensor:
        pushed = jacobian.times(v)
        return jacobian.transposed_times(pushed if metric is None else metric(pushed)) / n + damping * v

    return product


def softmax_metric(logits: Tensor) -> Callable[[Tensor], Tensor]:
    """H = diag(p) − ppᵀ of each sample, the Fisher matrix of its class probabilities p."""
    p = logits.detach().softmax(1)

    def metric(u: Tensor) -> Tensor:
        weighted = p * u
        return weighted - p * weighted.sum(1, keepdim=True)

    return metric


@dataclass(frozen=True)
class Solution:
    """The solution of a linear system."""

    x: Tensor
    products: int
    """Matrix products it took."""


def conjugate_gradients(
    product: Product, b: Tensor, *, start: Tensor | None = None, iterations: int = 100, tolerance: float = 1e-4
) -> Solution:
    """x with ‖b − Ax‖ ≤ tolerance · ‖b‖, or the best after `iterations`, for symmetric positive definite A.

    Nothing is read back from an accelerator: once the tolerance is reached x stands still, and only a CPU also stops.

    :param product: v ↦ Av, (P,) → (P,)
    :param start: first guess; it costs a product, and is taken only if it is nearer than zero
    """
    host = b.device.type == "cpu"
    x, r, products = torch.zeros_like(b), b, 0
    goal = tolerance**2 * b.dot(b)
    if start is not None:
        left = b - product(start)
        nearer = left.dot(left) < b.dot(b)
        x, r, products = torch.where(nearer, start, x), torch.where(nearer, left, b), 1
    direction, size = r, r.dot(r)
    going = size > goal
    for _ in range(iterations):
        if host and not going:
            break
        moved = product(direction)
        products += 1
        curvature = direction.dot(moved)
        going = going & (curvature > 0)  # not so only in the last bits, or where something is not finite
        length = size / curvature
        x = torch.where(going, x + length * direction, x)
        r = torch.where(going, r - length * moved, r)
        new = r.dot(r)
        direction = torch.where(going, r + new / size * direction, direction)
        size = torch.where(going, new, size)
        going = going & (size > goal)
    return Solution(x, products)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Laid end to end (P,)."""
    return torch.cat([t.reshape(-1) for t in tensors])
