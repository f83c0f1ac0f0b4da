"""Batch normalisation by the whole batch, of which each rank has a part (Ioffe & Szegedy, 1502.03167, over ranks).

torch's SyncBatchNorm runs on GPUs only, and is a module of another class: growth would have to turn nets to and fro.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from grow_cli.training.ranks import Ranks


@contextmanager
def normalised_together(ranks: Ranks) -> Iterator[None]:
    """Inside the block, where each rank sends its part of one batch through the net, statistics are the batch's.

    The backward pass may come later. Whatever else computes with a batch norm, as rank 0 does in growing, is left as it is.
    """
    alone = functional.batch_norm

    def together(
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:  # a frozen one has its running statistics
            return alone(x, running_mean, running_var, weight, bias, training, momentum, eps)
        y, mean, var, count = _Whitened.apply(x, eps, ranks)
        with torch.no_grad():
            if running_mean is not None and running_var is not None:
                running_mean.lerp_(mean.to(running_mean), momentum)
                running_var.lerp_((var * (count / (count - 1))).to(running_var), momentum)
        shape = (1, -1, *[1] * (x.dim() - 2))
        y = y if weight is None else y * weight.view(shape)
        return y if bias is None else y + bias.view(shape)

    functional.batch_norm = together  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.batch_norm = alone


class _Whitened(torch.autograd.Function):
    """(n, C, ...) of this rank → the same at mean 0 and variance 1 over all ranks; mean (C,), variance (C,), count ()."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        over = [0, *range(2, x.dim())]
        values = x.double()  # a difference of large sums
        here = values.new_full((1,), x.numel() / x.shape[1])
        total = ranks.sum_(torch.cat([values.sum(over), values.square().sum(over), here]))
        count = total[-1]
        mean, squares = (total[:-1] / count).chunk(2)
        var = (squares - mean.square()).clamp(min=0)
        scale = (var + eps).rsqrt()
        shape = (1, -1, *[1] * (x.dim() - 2))
        y = ((values - mean.view(shape)) * scale.view(shape)).to(x.dtype)
        ctx.save_for_backward(y, scale, count)
        ctx.ranks, ctx.over, ctx.shape = ranks, over, shape
        ctx.mark_non_differentiable(mean, var, count)
        return y, mean, var, count

    @staticmethod
    def backward(ctx: Any, d: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        y, scale, count = ctx.saved_tensors
        # what the parts of the loss on all ranks lose through the two statistics
        sums = torch.cat([d.double().sum(ctx.over), (d * y).double().sum(ctx.over)])
        by_mean, by_scale = (ctx.ranks.sum_(sums) / count).to(d.dtype).view(2, *ctx.shape)
        return scale.to(d.dtype).view(ctx.shape) * (d - by_mean - y * by_scale), None, None
