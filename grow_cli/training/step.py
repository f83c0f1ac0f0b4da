"""One step, everything on the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from grow_cli.optimizers.modules.lbfgs import ScaleFreeLBFGS
from grow_cli.optimizers.modules.natural import NaturalGradient
from grow_cli.surgery.flops import step_flops_per_sample
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


def not_coarser(outputs: Tensor) -> Tensor:
    """Outputs as float32 where they are coarser, as autocast's are."""
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def fastest_layout(session: Session) -> torch.memory_format:
    """Channels last where tensor cores convolve images: a convolution gives its outputs as it got its inputs."""
    cores = session.device.type == "cuda" and session.config.precision in ("bf16", "tf32")
    return torch.channels_last if cores and session.config.model.channels_last else torch.contiguous_format


def make_forward(session: Session, *, compiled: bool = False) -> Step:
    """The forward pass on the present model, in the precision that the config asks for."""
    device, precision, model, loss_of = session.device, session.config.precision, session.model, session.loss
    layout = fastest_layout(session)

    def forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(device, precision):
            outputs = not_coarser(model(x.contiguous(memory_format=layout)))
        return loss_of(outputs, y), outputs

    def twice_differentiable_forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with twice_differentiable():
            return forward(x, y)

    compute = twice_differentiable_forward if isinstance(session.optimizer, NaturalGradient) else forward
    if compiled:
        torch._dynamo.reset()
        _time_compiling(session)
        compute = torch.compile(compute)
    return compute


def _time_compiling(session: Session) -> None:
    """Note what torch spends on compiling from here on, whenever it does: backward passes follow with the first step."""
    begun, progress = 0.0, session.progress

    def start(*_: object) -> None:
        nonlocal begun
        begun = time.perf_counter()

    def end(*_: object) -> None:
        progress.compile_seconds += time.perf_counter() - begun

    torch._dynamo.on_compile_start(start)  # until the next reset, which forgets them
    torch._dynamo.on_compile_end(end)


def make_step(session: Session, *, compiled: bool = False) -> Step:
    """The step on the current model and its trainable parameters; built again after growth.

    Nothing in it reads a value back from the device: the loss is returned as a tensor, without the method's term.
    """
    if isinstance(session.optimizer, ScaleFreeLBFGS):
        return _make_searching_step(session, session.optimizer)
    compute, optimizer = make_forward(session, compiled=compiled), session.optimizer
    clip, regularizer, now = session.config.clip_norm, session.method.regularizer, session.moment()
    trained = session.method.trained(session.model)
    parameters = [p for p in session.model.parameters() if p.requires_grad]
    zero_grad, optimize, clip_gradient = optimizer.zero_grad, optimizer.step, nn.utils.clip_grad_norm_
    # the natural gradient goes through the outputs' graph again
    watch = optimizer.watch if isinstance(optimizer, NaturalGradient) else None

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        loss, outputs = compute(x, y)
        term = regularizer(now)
        (loss if term is None else loss + term).backward(retain_graph=watch is not None, inputs=trained)
        if watch is not None:
            watch(outputs)
        if clip is not None:
            clip_gradient(parameters, clip)
        optimize()
        zero_grad()
        return loss.detach(), outputs.detach()

    return step


def _make_searching_step(session: Session, optimizer: ScaleFreeLBFGS) -> Step:
    """The step of a line search, which reads the loss as often as it needs to."""
    compute, regularizer, now = make_forward(session), session.method.regularizer, session.moment()
    trained = session.method.trained(session.model)

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        before: list[tuple[Tensor, Tensor]] = []

        def evaluate() -> Tensor:
            optimizer.zero_grad()
            loss, outputs = compute(x, y)
            term = regularizer(now)
            total = loss if term is None else loss + term
            total.backward(inputs=trained)
            if not before:
                before.append((loss.detach(), outputs.detach()))
            return total

        optimizer.step(evaluate)
        optimizer.zero_grad()
        return before[0]

    return step


def extra_so_far(session: Session) -> int:
    """What the optimizer did beyond a forward and a backward pass each step: products with the Fisher matrix, or evaluations."""
    optimizer = session.optimizer
    if isinstance(optimizer, ScaleFreeLBFGS):
        return optimizer.evaluations
    return optimizer.products if isinstance(optimizer, NaturalGradient) else 0


def pass_flops(session: Session) -> int:
    """The FLOPs of one sample's forward and backward pass; the method may train only a part of the net."""
    trained = session.method.trained(session.model)
    if trained is None:
        return 3 * session.flops
    return step_flops_per_sample(session.model, session.data.spec.input_shape, trained)


def extra_flops(session: Session, since: int) -> int:
    """The FLOPs of one sample that the optimizer added since `since`: a product with the Fisher matrix is four passes."""
    each = pass_flops(session) if isinstance(session.optimizer, ScaleFreeLBFGS) else 4 * session.flops
    return each * (extra_so_far(session) - since)


def make_measuring_step(session: Session, *, compiled: bool = False) -> Step:
    """The step of a run that is not trained by gradient: what `make_step`'s returns, and no parameter moves."""
    compute = make_forward(session, compiled=compiled)

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return compute(x, y)

    return step
