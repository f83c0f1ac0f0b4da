"""One step, everything on the device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from grow_cli.optimizers.modules.natural import NaturalGradient
from grow_cli.theory.natural import twice_differentiable

if TYPE_CHECKING:
    from grow_cli.training.session import Session

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(inputs, targets) → (loss, outputs)."""


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bf16 autocast where asked for; nothing otherwise."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def make_forward(session: Session) -> Step:
    """The forward pass on the present model, compiled and in the precision that the config asks for."""
    config, model, loss_of = session.config, session.model, session.loss
    bf16 = config.precision == "bf16"

    def forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        outputs = model(x)
        return loss_of(outputs, y), outputs

    def autocast_forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(session.device, config.precision):
            outputs = model(x).float()
        return loss_of(outputs, y), outputs

    def twice_differentiable_forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with twice_differentiable():
            return forward(x, y)

    compute = autocast_forward if bf16 else forward
    if isinstance(session.optimizer, NaturalGradient):
        compute = twice_differentiable_forward
    if config.compile:
        torch._dynamo.reset()
        compute = torch.compile(compute)
    return compute


def make_step(session: Session) -> Step:
    """The step on the present model and its trainable parameters; made anew after growth.

    Nothing in it reads a value back from the device: the loss is returned as a tensor, without the method's term.
    """
    compute, optimizer = make_forward(session), session.optimizer
    clip, regularizer, now = session.config.clip_norm, session.method.regularizer, session.moment()
    parameters = [p for p in session.model.parameters() if p.requires_grad]
    zero_grad, optimize, clip_gradient = optimizer.zero_grad, optimizer.step, nn.utils.clip_grad_norm_
    # the natural gradient goes through the outputs' graph again
    watch = optimizer.watch if isinstance(optimizer, NaturalGradient) else None

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        loss, outputs = compute(x, y)
        term = regularizer(now)
        (loss if term is None else loss + term).backward(retain_graph=watch is not None)
        if watch is not None:
            watch(outputs)
        if clip is not None:
            clip_gradient(parameters, clip)
        optimize()
        zero_grad()
        return loss.detach(), outputs.detach()

    return step


def products_so_far(session: Session) -> int:
    """Products with the Fisher matrix that the optimizer has made, if it is one that makes them."""
    return session.optimizer.products if isinstance(session.optimizer, NaturalGradient) else 0


def training_passes(session: Session, steps: int, products: int) -> int:
    """Forward passes that the last so many steps were worth: three each, and four for each product since `products`."""
    return 3 * steps + 4 * (products_so_far(session) - products)


def make_measuring_step(session: Session) -> Step:
    """The step of a run that is not trained by gradient: what `make_step`'s returns, and no parameter moves."""
    compute = make_forward(session)

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return compute(x, y)

    return step
