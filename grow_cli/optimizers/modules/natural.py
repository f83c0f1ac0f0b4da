"""The natural-gradient optimizer (SENN, appendix C)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from grow_cli.surgery.measure import exact_products
from grow_cli.theory.natural import Jacobian, conjugate_gradients, fisher_product, flat, softmax_metric


class NaturalGradient(Optimizer):
    """w ← w − lr · ((F + damping·I)⁻¹ g + weight_decay · w), F = E[JᵀJ] of the step's own minibatch.

    `watch` is shown the outputs before the gradient's backward pass frees their graph. The last direction is where the next
    search begins: it stands in the state beside each parameter, so that growth carries it like any moment.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        damping: float,
        iterations: int,
        tolerance: float,
        warm_start: bool,
        fisher: bool,
    ) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.damping, self.iterations, self.tolerance = damping, iterations, tolerance
        self.warm_start, self.fisher = warm_start, fisher
        self.outputs: Tensor | None = None
        self.products = 0
        """Products with the Fisher matrix since this was last set to 0."""

    def watch(self, outputs: Tensor) -> None:
        """Outputs (n, outputs) of the step's minibatch, their graph retained."""
        self.outputs = outputs

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """From the gradients in `.grad`; parameters without one stay."""
        if self.outputs is None:
            raise RuntimeError("the natural gradient needs the outputs: call watch(outputs) before step()")
        moved = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        parameters = [p for p, _ in moved]
        gradient = flat([p.grad for p in parameters if p.grad is not None])
        with exact_products(gradient.device):  # TF32's error is above the tolerance of conjugate gradients
            direction = self._solve(parameters, gradient)
        self.outputs = None  # lets go of the graph
        for (p, group), part in zip(moved, direction.split([p.numel() for p in parameters]), strict=True):
            step = part.view_as(p)
            if self.warm_start:
                self.state[p]["direction"] = step
            if group["weight_decay"]:
                step = step + group["weight_decay"] * p
            p.sub_(group["lr"] * step)

    def _solve(self, parameters: list[Tensor], gradient: Tensor) -> Tensor:
        assert self.outputs is not None
        start = None
        if self.warm_start and any("direction" in self.state[p] for p in parameters):
            start = flat([self.state[p].get("direction", torch.zeros_like(p)) for p in parameters])
        with torch.enable_grad():
            jacobian = Jacobian(self.outputs, parameters)
        product = fisher_product(jacobian, self.damping, softmax_metric(self.outputs) if self.fisher else None)
        solution = conjugate_gradients(
            product, gradient, start=start, iterations=self.iterations, tolerance=self.tolerance
        )
        self.products += solution.products
        return solution.x
