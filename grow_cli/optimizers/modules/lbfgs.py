"""torch's L-BFGS made indifferent to the scale of the loss, and to which parameters there are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

Closure = Callable[[], Tensor]
"""→ the loss (), the gradients left in `.grad`."""

# What scales with the loss in what torch's L-BFGS remembers: gradients and their changes; 1/(yᵀs) and yᵀs/(yᵀy) inversely.
_WITH, _AGAINST = ("prev_flat_grad", "old_dirs", "prev_loss"), ("ro", "H_diag")
_OWN = ("scale", "signature")


class ScaleFreeLBFGS(Optimizer):
    """`torch.optim.LBFGS` with a strong Wolfe line search, on the parameters that get a gradient.

    torch drops a pair whose yᵀs is below 1e-10, an absolute number: near a loss of 1e-10 it would learn no curvature any more. So
    the loss is multiplied, at each step, by the power of two that takes it between 1 and 2, and what is remembered likewise: by a
    power of two nothing is rounded. torch's own tolerances are 0 for the same reason: only the run's budget ends it.

    What is remembered is of all parameters together. It stands in the state of the first one, and is of no use for other ones
    than it was made of: `grow_cli.surgery` lets go of it where the net grows, and so does a step where others get a gradient. It
    also begins anew after a step that found no way down.
    """

    whole_net = True
    """What is remembered is no sum of entries, so that growth cannot carry it."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, iterations: int, history: int) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.first_length, self.iterations, self.history = lr, iterations, history
        self.evaluations = 0
        """Of the loss and its gradient, beyond one for each step, since this was last set to 0."""

    def step(self, closure: Closure) -> Tensor:  # type: ignore[override]
        """`iterations` of L-BFGS; the loss before them. Parameters that the loss gives no gradient stay."""
        loss = closure().detach()
        value = float(loss)
        moved = [(i, p) for i, p in enumerate(self._parameters()) if p.grad is not None]
        if not moved or value == 0 or not math.isfinite(value):
            return loss
        parameters, before = [p for _, p in moved], [p.detach().clone() for _, p in moved]
        memory = self._memory([[i, *p.shape] for i, p in moved], 2.0 ** -math.floor(math.log2(value)))
        inner = LBFGS(
            parameters,
            lr=self.first_length,
            max_iter=self.iterations,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            history_size=self.history,
            line_search_fn="strong_wolfe",
        )
        kept = inner.state[parameters[0]]
        kept.update({name: part for name, part in memory.items() if name not in _OWN})
        inner.step(self._scaled(closure, loss, parameters, memory["scale"]))
        memory.update(kept)
        self._forget_if_stuck(parameters, before)
        return loss

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _memory(self, signature: list[list[int]], scale: float) -> dict[str, Any]:
        """What is remembered, of a loss multiplied by `scale`; empty where it was of other parameters."""
        memory: dict[str, Any] = self.state[self._parameters()[0]]
        if memory.get("signature") != signature:
            memory.clear()
            memory["signature"], memory["scale"] = signature, scale
        ratio = scale / memory["scale"]
        if ratio != 1:
            for names, factor in ((_WITH, ratio), (_AGAINST, 1 / ratio)):
                memory.update({name: _times(memory[name], factor) for name in names if memory.get(name) is not None})
            memory["scale"] = scale
        return memory

    def _scaled(self, closure: Closure, first: Tensor, parameters: list[Tensor], scale: float) -> Closure:
        """The closure of the scaled loss, whose first value and gradients are there already."""
        known: list[Tensor] = [first]

        def scaled() -> Tensor:
            if known:
                loss = known.pop()
            else:
                loss = closure().detach()
                self.evaluations += 1
            for p in parameters:
                if p.grad is not None:
                    p.grad.mul_(scale)
            return loss * scale

        return scaled

    def _forget_if_stuck(self, parameters: list[Tensor], before: list[Tensor]) -> None:
        """Begin anew from steepest descent where nothing moved; and from where it was, where a step ended in no number."""
        finite = all(bool(p.isfinite().all()) for p in parameters)
        if not finite:
            with torch.no_grad():
                for p, old in zip(parameters, before, strict=True):
                    p.copy_(old)
        if not finite or all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True)):
            self.state.clear()


def _times(value: Any, factor: float) -> Any:
    return [part * factor for part in value] if isinstance(value, list) else value * factor
