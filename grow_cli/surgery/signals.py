"""What passes a net's width sites on a minibatch: the producer's inputs, the consumer's inputs, and the desired moves.

Autograd runs only from the loss down to the consumers' outputs: no parameter's gradient is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from grow_cli.models.modules.sites import WidthSite
from grow_cli.surgery.measure import evaluation_mode


@dataclass(frozen=True)
class Signals:
    """Of one site on n samples."""

    inputs: Tensor
    """(n, ...) of the producer."""
    middle: Tensor
    """(n, ...) of the consumer."""
    goal: Tensor
    """−∂L/∂a, shaped like the consumer's outputs a; L is the *sum* of the samples' losses."""


def signals(
    model: nn.Module, sites: Sequence[WidthSite], x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> list[Signals]:
    """In evaluation mode, so that samples do not depend on one another; `loss` is the mean over the batch."""
    seen: dict[tuple[int, str], Tensor] = {}

    def keep(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        seen[id(module), "input"] = arguments[0].detach()

    def start(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        keep(module, arguments, output)
        if not output.requires_grad:  # the first consumer: the graph begins here
            output.requires_grad_()
        seen[id(module), "output"] = output

    handles = [site.producer.register_forward_hook(keep) for site in sites]
    handles += [site.consumer.register_forward_hook(start) for site in sites]
    try:
        with evaluation_mode(model), _frozen(model), torch.enable_grad():
            total = loss(model(x), y) * len(y)
            outputs = [seen[id(site.consumer), "output"] for site in sites]
            gradients = torch.autograd.grad(total, outputs)
    finally:
        for handle in handles:
            handle.remove()
    return [
        Signals(seen[id(site.producer), "input"], seen[id(site.consumer), "input"], -gradient)
        for site, gradient in zip(sites, gradients, strict=True)
    ]


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


class Tail:
    """The part of a net behind one of its modules, on one batch, for other outputs of that module.

    What is computed before the module is kept from one pass and not computed again. In evaluation mode.
    """

    def __init__(self, model: nn.Module, module: nn.Module, x: Tensor) -> None:
        self.model, self.module, self.x = model, module, x
        self._kept: dict[nn.Module, list[Tensor]] = {}
        self.inputs: dict[nn.Module, Tensor] = {}
        """What entered each module last, up to the one that is cut at."""
        self.outputs = torch.empty(0)
        """The module's own."""
        reached = False

        def keep(part: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            nonlocal reached
            if reached:
                return
            self.inputs[part] = arguments[0]
            if part is module:
                reached, self.outputs = True, output
            else:
                self._kept.setdefault(part, []).append(output)

        parts = [part for part in model.modules() if not any(part.children())]
        handles = [part.register_forward_hook(keep) for part in parts]
        try:
            with evaluation_mode(model):
                model(x)
        finally:
            for handle in handles:
                handle.remove()

    def __call__(self, outputs: Tensor) -> Tensor:
        """The net's outputs with the module's replaced by these; differentiable where they are."""
        calls = dict.fromkeys(self._kept, 0)

        def replayed(part: nn.Module) -> Callable[..., Any]:
            own = part.forward

            def forward(*arguments: Any) -> Any:
                calls[part] += 1
                kept = self._kept[part]
                return kept[calls[part] - 1] if calls[part] <= len(kept) else own(*arguments)

            return forward

        try:
            for part in self._kept:
                part.forward = replayed(part)
            self.module.forward = lambda *_: outputs
            with evaluation_mode(self.model), torch.set_grad_enabled(outputs.requires_grad):
                return self.model(self.x)
        finally:
            for part in [*self._kept, self.module]:
                del part.__dict__["forward"]
