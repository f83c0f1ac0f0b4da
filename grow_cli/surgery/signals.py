"""Signals at a net's width sites on a minibatch: the producer's inputs, the consumer's inputs, and the desired moves.

Autograd runs only from the loss down to the consumers' outputs: no parameter's gradient is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from grow_cli.models.modules.sites import WidthSite
from grow_cli.surgery.measure import evaluation_mode


@dataclass(frozen=True)
class Signals:
    """The signals of one site on n samples."""

    inputs: Tensor
    """(n, ...) of the producer."""
    middle: Tensor
    """(n, ...) of the consumer."""
    goal: Tensor
    """−∂L/∂a, shaped like the consumer's outputs a; L is the *sum* of the samples' losses."""

    def first(self, n: int) -> Signals:
        """The signals of the first n samples."""
        return Signals(self.inputs[:n], self.middle[:n], self.goal[:n])


def signals(
    model: nn.Module, sites: Sequence[WidthSite], x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> list[Signals]:
    """In evaluation mode, so that samples do not depend on one another; `loss` is the mean over the batch."""
    read = [(Tap(site.producer, entering=True), Tap(site.consumer, entering=True)) for site in sites]
    trace = Trace(model, x, [Tap(site.consumer) for site in sites], seen=[tap for pair in read for tap in pair])
    with torch.enable_grad():
        goals = trace.gradients(loss(trace.outputs, y) * -len(y))
    return [
        Signals(trace.seen[inputs], trace.seen[middle], goal)
        for (inputs, middle), goal in zip(read, goals, strict=True)
    ]


@dataclass(frozen=True)
class Tap:
    """A tensor inside a net: what a module puts out, or what enters it."""

    module: nn.Module
    entering: bool = False


class Trace:
    """One pass in evaluation mode, from whose graph gradients at some tensors inside can be asked for.

    Autograd runs from the first tap on, and no parameter's gradient is computed.
    """

    def __init__(self, model: nn.Module, x: Tensor, taps: Sequence[Tap], seen: Sequence[Tap] = ()) -> None:
        self.seen: dict[Tap, Tensor] = {}
        """The tensors that are wanted themselves."""
        self._taps, self._wanted = list(taps), set(seen)
        self._tapped: dict[Tap, Tensor] = {}
        modules = dict.fromkeys(tap.module for tap in (*taps, *seen))
        with ExitStack() as hooks, evaluation_mode(model), _frozen(model), torch.enable_grad():
            for module in modules:
                hooks.enter_context(module.register_forward_pre_hook(self._enter))
                hooks.enter_context(module.register_forward_hook(self._leave))
            self.outputs: Tensor = model(x)

    def _enter(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._pass(Tap(module, entering=True), arguments[0]), *arguments[1:])

    def _leave(self, module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        return self._pass(Tap(module), output)

    def _pass(self, tap: Tap, tensor: Tensor) -> Tensor:
        if tap in self._wanted:
            self.seen[tap] = tensor.detach()
        if tap in self._taps:
            if not tensor.requires_grad:  # the first one: the graph begins here
                tensor = tensor.detach().requires_grad_()
            self._tapped[tap] = tensor
        return tensor

    @property
    def tapped(self) -> list[Tensor]:
        """The tensors at the taps, in their order."""
        return [self._tapped[tap] for tap in self._taps]

    def gradients(self, scalar: Tensor) -> tuple[Tensor, ...]:
        """The gradients, at each tap, of a scalar computed from `outputs`; the graph is freed."""
        return torch.autograd.grad(scalar, self.tapped)

    def pulled_back(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        """Jᵀ cotangent at each tap, sample by sample, J the outputs' derivative there; the graph is kept."""
        return torch.autograd.grad(self.outputs, self.tapped, cotangent, retain_graph=True)


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

        with ExitStack() as hooks, evaluation_mode(model):
            for part in model.modules():
                if not any(part.children()):
                    hooks.enter_context(part.register_forward_hook(keep))
            self.result: Tensor = model(x)

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
