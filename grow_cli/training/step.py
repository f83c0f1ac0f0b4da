"""One optimizer step, everything on the device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from grow_cli.training.state import Run


def loss_function(task: str, label_smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy or mean squared error, averaged over the batch."""
    if task == "classification":
        return nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    return nn.MSELoss()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bf16 autocast where asked for; nothing otherwise."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def make_step(run: Run) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The step on the present model and its trainable parameters; made anew after growth.

    Nothing in it reads a value back from the device: the loss is returned as a tensor, without the method's term.
    """
    config, model, loss_of, optimizer = run.config, run.model, run.loss, run.optimizer
    bf16 = config.precision == "bf16"

    def forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        outputs = model(x)
        return loss_of(outputs, y), outputs

    def autocast_forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(run.device, config.precision):
            outputs = model(x).float()
        return loss_of(outputs, y), outputs

    compute = autocast_forward if bf16 else forward
    if config.compile:
        torch._dynamo.reset()
        compute = torch.compile(compute)
    clip = config.clip_norm
    parameters = [p for p in model.parameters() if p.requires_grad]
    regularizer = run.regularizer
    zero_grad, optimize, clip_gradient = optimizer.zero_grad, optimizer.step, nn.utils.clip_grad_norm_

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        loss, outputs = compute(x, y)
        term = regularizer(run)
        (loss if term is None else loss + term).backward()
        if clip is not None:
            clip_gradient(parameters, clip)
        optimize()
        zero_grad()
        return loss.detach(), outputs.detach()

    return step
