"""What looks at the whole batch, of which each rank has a part: batch normalisation's statistics, and dropout's mask.

Batch normalisation is Ioffe & Szegedy's (1502.03167) over ranks. torch's SyncBatchNorm runs on GPUs only, and is a module of
another class: growth would have to turn nets to and fro. Dropout's mask is drawn for the whole batch by each rank, from
generators that are in the same state, and each takes its rows: so it is the mask of one process.
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
def whole_batch(ranks: Ranks, samples: int) -> Iterator[None]:
    """Inside the block, where each rank sends its part of so many samples through the net, statistics and masks are the batch's.

    The backward pass may come later. Whatever else computes with the net, as rank 0 does in growing, is left as it is.
    """
    normalised_alone, dropped_alone = functional.batch_norm, functional.dropout

    def normalised(
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
            return normalised_alone(x, running_mean, running_var, weight, bias, training, momentum, eps)
        y, mean, var, count = _Normalised.apply(x, weight, bias, eps, ranks)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(var * (count / (count - 1)), momentum)
        return y

    def dropped(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training:
            return dropped_alone(x, p, training)
        return x * ranks.part(dropped_alone(x.new_ones(samples, *x.shape[1:]), p))

    functional.batch_norm, functional.dropout = normalised, dropped  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.batch_norm, functional.dropout = normalised_alone, dropped_alone


class _Normalised(torch.autograd.Function):
    """(n, C, ...) of this rank → the same, normalised over all ranks; their mean (C,), variance (C,) and count ().

    By torch's own kernels where they do: those of its evaluation mode take the statistics as given.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        mine = torch.zeros(ranks.world, 2 * channels + 1, dtype=torch.float64)
        mine[ranks.rank, :-1] = torch.cat(torch.batch_norm_update_stats(x, None, None, 0.0))
        mine[ranks.rank, -1] = x.numel() / channels
        # each rank's in a row: a difference of their sums would be one of large numbers
        means, variances, counts = ranks.sum_(mine).split([channels, channels, 1], 1)
        count = counts.sum()
        shares = counts / count
        mean = (shares * means).sum(0)
        var = (shares * (variances + (means - mean).square())).sum(0)
        mean, var = mean.to(x.dtype), var.to(x.dtype)
        y = torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, eps)[0]
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.ranks, ctx.eps = ranks, eps
        ctx.mark_non_differentiable(mean, var, count)
        return y, mean, var, count

    @staticmethod
    def backward(ctx: Any, d: Tensor, *_: Any) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        x, weight, mean, var, count = ctx.saved_tensors
        by_x, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            d, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        # what the parts of the loss on all ranks lose through the two statistics: along x, and alike for all
        along, alike = (ctx.ranks.sum_(torch.cat([by_weight, by_bias])) / count).chunk(2)
        scale = (var + ctx.eps).rsqrt()
        factor = scale if weight is None else scale * weight
        slope = factor * scale * along
        shape = (1, -1, *[1] * (x.dim() - 2))
        by_x.addcmul_(x, slope.view(shape), value=-1).sub_((factor * alike - slope * mean).view(shape))
        return by_x, None if weight is None else by_weight, by_bias if ctx.needs_input_grad[2] else None, None, None
