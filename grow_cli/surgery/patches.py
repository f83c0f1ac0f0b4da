"""A width site as a least-squares problem: the inputs of a new unit, and the desired moves of its outputs.

Every case (linear or convolutional producer, linear or convolutional consumer, pooling and flattening in between) becomes
the same products of matrices over the same columns, one for each sample and *middle position*, a position at which the
consumer reads a unit (TINY, A.6 and C.2):

- P (p, columns): what a new unit sees, the patches of the producer's input, with a 1 where it has a bias. Where pooling
  lies in between, a patch is the mean over the pooling window. For max-pooling, whose derivative at a tie is a choice, that
  is an approximation, which the search for the amplitude judges.
- V_d (m, columns) for each offset d of the consumer's kernel (each position of the image, where it is flattened): the goal
  at the output that reads the position with the weight at d; 0 where there is no such output.

S = Σ w P Pᵀ, w being how often a position is read, and N = Σ P [V_d]ᵀ. With more than one offset S is an upper bound of the
paper's quadratic form (Cauchy–Schwarz over the offsets, which the paper takes for an equality); the first-order part, N, is
exact, and the amplitude is searched for anyway.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grow_cli.errors import UserError
from grow_cli.hardware import sent
from grow_cli.models.modules.layers import LinearMap
from grow_cli.models.modules.sites import WidthSite

# Rows from which a symmetric product is worth being split.
_LARGE = 256

_TRANSPARENT = (nn.Identity, nn.Dropout, nn.BatchNorm1d, nn.BatchNorm2d)


class SitePatches:
    """The matrices of one site. Tensors of a few samples come in, as they pass the net; columns go out."""

    def __init__(self, site: WidthSite) -> None:
        self.site = site
        self.pools: list[nn.Module] = []
        self.flattened = False
        self._counted: dict[tuple[int, int], Tensor] = {}
        for linear in (site.producer, site.consumer):
            _check_convolution(linear, site.name)
        for module in site.between:
            self._pass_through(module)
        self.outputs = site.consumer.weight.shape[0]
        """m: the consumer's outputs."""
        self.fan_in = site.producer.weight[0].numel() + (site.producer.bias is not None)
        """p: what a new unit reads, its bias included."""
        self.fan_out = site.consumer.weight[:, 0].numel() * site.columns_per_unit
        """m · offsets: what reads a new unit."""

    def _pass_through(self, module: nn.Module) -> None:
        if isinstance(module, nn.Sequential):
            for part in module:
                self._pass_through(part)
        elif isinstance(module, nn.MaxPool2d) and module.dilation in (1, (1, 1)):
            self.pools.append(nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode))
        elif isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            self.pools.append(module)
        elif isinstance(module, nn.Flatten):
            self.flattened = True
        elif module is not self.site.activation and not isinstance(module, _TRANSPARENT):
            raise UserError(
                f"the units at {self.site.name!r} pass a {type(module).__name__}, through which their effect cannot be "
                "traced: leave it out, or use another method"
            )

    @property
    def unit_dim(self) -> int:
        """The dimension of the units in the producer's outputs."""
        return 1 if isinstance(self.site.producer, nn.Conv2d) else -1

    @property
    def offsets(self) -> int:
        """Weights with which one output reads one unit."""
        return self.fan_out // self.outputs

    def fan_in_columns(self, x: Tensor) -> Tensor:
        """P (p, n, ...), of the producer's inputs x (n, ...)."""
        columns = patches_of(x, self.site.producer)
        for pool in self.pools:
            columns = pool(columns)
        return columns

    def consumer_columns(self, x: Tensor) -> Tensor:
        """B_out (q, columns), of the consumer's inputs; its columns are those of `goal_columns`."""
        return patches_of(x, self.site.consumer).flatten(1)

    def goal_columns(self, goal: Tensor) -> Tensor:
        """V (m, columns) of a goal shaped like the consumer's outputs."""
        return goal.movedim(1 if isinstance(self.site.consumer, nn.Conv2d) else -1, 0).flatten(1)

    def gram(self, columns: Tensor) -> Tensor:
        """Σ w P Pᵀ (p, p), of `fan_in_columns`."""
        flat = columns.flatten(1)
        if not isinstance(self.site.consumer, nn.Conv2d):
            return outer(flat)
        weights = self._readings(columns.shape[-2], columns.shape[-1])
        if bool((weights == weights[0, 0]).all()):
            return outer(flat) * float(weights[0, 0])
        weights = sent(weights, columns.device).to(columns.dtype)
        return outer(flat, weights.expand(columns.shape[1:]).flatten())

    def cross(self, columns: Tensor, goal: Tensor) -> Tensor:
        """Σ P [V_d]ᵀ (p, m · offsets), the offsets of an output side by side."""
        if self.flattened:
            # (position, p, n) x (position, n, m), each position having weights of its own
            per_position = torch.matmul(columns.flatten(2).movedim(-1, 0), goal)
            return per_position.permute(1, 2, 0).flatten(1)
        if isinstance(self.site.consumer, nn.Conv2d):
            kernel = self.site.consumer.kernel_size
            mirrored = columns.flatten(1) @ self._goal_windows(goal, *columns.shape[-2:]).T
            return mirrored.view(-1, self.outputs, *kernel).flip(2, 3).flatten(1)
        return columns.flatten(1) @ self.goal_columns(goal).T

    @property
    def linear(self) -> bool:
        """Whether both maps are, so that `linear_cross` is there."""
        return isinstance(self.site.producer, nn.Linear) and isinstance(self.site.consumer, nn.Linear)

    def linear_cross(self, inputs: Tensor, goal: Tensor) -> Tensor:
        """The same as `cross`, of the producer's inputs: they need not be copied beside a row of ones."""
        x, goal = inputs.flatten(0, -2), goal.flatten(0, -2)
        products = x.T @ goal
        return products if self.site.producer.bias is None else torch.cat([products, goal.sum(0, keepdim=True)])

    def fan_out_weights(self, omega: Tensor) -> Tensor:
        """ω (m · offsets, k) as the columns that the consumer gets."""
        per_unit = omega.view(self.outputs, self.offsets, -1).transpose(1, 2)
        if isinstance(self.site.consumer, nn.Conv2d):
            return per_unit.reshape(self.outputs, -1, *self.site.consumer.kernel_size)
        return per_unit.reshape(self.outputs, -1)

    def linear_effect(self, preactivations: Tensor, outgoing: Tensor) -> Tensor:
        """What units with these pre-activations add to the consumer's outputs if the activation is the identity."""
        x = preactivations
        for pool in self.pools:
            x = pool(x)
        return read(self.site.consumer, x.flatten(1) if self.flattened else x, outgoing)

    def effect(self, preactivations: Tensor, outgoing: Tensor) -> Tensor:
        """The same with the activation, for units whose norms and own activations let them pass unchanged."""
        x = preactivations
        for module in self.site.between:
            # per-unit norms and activations are made transparent for new units, dropout is off
            x = x if module in self.site.followers or isinstance(module, _TRANSPARENT) else module(x)
        return read(self.site.consumer, x, outgoing)

    def _goal_windows(self, goal: Tensor, height: int, width: int) -> Tensor:
        """[V_d] (m · offsets, columns) over a middle image of height × width, the kernel's offsets from last to first."""
        consumer = cast(nn.Conv2d, self.site.consumer)
        (kh, kw), (sh, sw), (ph, pw) = consumer.kernel_size, consumer.stride, _padding(consumer)
        if (kh, kw, sh, sw, ph, pw) == (1, 1, 1, 1, 0, 0):
            return self.goal_columns(goal)
        n, m, oh, ow = goal.shape
        if sh > 1 or sw > 1:  # outputs lie `stride` positions apart
            spread = goal.new_zeros(n, m, (oh - 1) * sh + 1, (ow - 1) * sw + 1)
            spread[:, :, ::sh, ::sw] = goal
            goal, oh, ow = spread, spread.shape[2], spread.shape[3]
        # position i is read with the weight at d by the output at i + padding − d: element kernel − 1 − d of its window
        low_h, low_w = kh - 1 - ph, kw - 1 - pw
        padded = F.pad(goal, (low_w, width + pw - ow, low_h, height + ph - oh))
        windows = padded.unfold(2, kh, 1).unfold(3, kw, 1)  # (n, m, height, width, kh, kw)
        return windows.permute(1, 4, 5, 0, 2, 3).reshape(m * kh * kw, -1)

    def _readings(self, height: int, width: int) -> Tensor:
        """(height, width), on the CPU: in how many (output, offset) pairs a middle position is read."""
        shape = (height, width)
        if shape not in self._counted:
            consumer = cast(nn.Conv2d, self.site.consumer)
            (kh, kw), (sh, sw), (ph, pw) = consumer.kernel_size, consumer.stride, _padding(consumer)
            ones = torch.ones(1, 1, (height + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1)
            counted = F.conv_transpose2d(ones, torch.ones(1, 1, kh, kw), stride=(sh, sw))[0, 0]
            # rows that no output reaches are absent at the end, those of the padding are there at both ends
            counted = F.pad(counted, (-pw, width + pw - counted.shape[1], -ph, height + ph - counted.shape[0]))
            self._counted[shape] = counted
        return self._counted[shape]


def read(consumer: LinearMap, x: Tensor, weight: Tensor) -> Tensor:
    """The consumer's outputs for other weights, its bias left out."""
    if isinstance(consumer, nn.Conv2d):
        return F.conv2d(x, weight, None, consumer.stride, consumer.padding)
    return F.linear(x, weight)


def affine(linear: LinearMap, x: Tensor, rows: Tensor) -> Tensor:
    """The map with other weights (k, fan-in), the bias in the last column where the map has one."""
    weight = linear.weight
    y = read(linear, x, rows[:, : weight[0].numel()].reshape(-1, *weight.shape[1:]))
    if linear.bias is not None:
        y += rows[:, -1].view(-1, 1, 1) if isinstance(linear, nn.Conv2d) else rows[:, -1]
    return y


def outer(columns: Tensor, weights: Tensor | None = None) -> Tensor:
    """X diag(w) Xᵀ of X (p, columns); where it is large, only the blocks on and above the diagonal are multiplied."""
    p = len(columns)
    weighted = columns if weights is None else columns * weights
    if p < _LARGE:
        return weighted @ columns.T
    result = columns.new_empty(p, p)
    for a, b in pairwise(p * i // 4 for i in range(5)):
        block = weighted[a:b] @ columns[a:].T
        result[a:b, a:] = block
        result[a:, a:b] = block.T
    return result


def patches_of(x: Tensor, linear: LinearMap, *, ones: bool = True) -> Tensor:
    """(q, n, ...) over the map's output positions, with a last row of `ones` if it has a bias.

    `x` may have any number of channels or features.
    """
    ones = ones and linear.bias is not None
    if not isinstance(linear, nn.Conv2d):
        if not ones:
            return x.movedim(-1, 0)
        rows = x.new_empty(*x.shape[:-1], x.shape[-1] + 1)  # as x lies in memory: transposing it would cost more
        rows[..., :-1] = x
        rows[..., -1] = 1
        return rows.movedim(-1, 0)
    (kh, kw), (sh, sw), (ph, pw) = linear.kernel_size, linear.stride, _padding(linear)
    windows = F.pad(x, (pw, pw, ph, ph)).unfold(2, kh, sh).unfold(3, kw, sw)
    view = windows.permute(1, 4, 5, 0, 2, 3)  # (channels, kh, kw, n, height, width)
    features = view.shape[:3].numel()
    columns = x.new_empty(features + ones, *view.shape[3:])
    columns[:features].view(view.shape).copy_(view)
    if ones:
        columns[-1] = 1
    return columns


def _padding(conv: nn.Conv2d) -> tuple[int, int]:
    assert not isinstance(conv.padding, str)
    return cast(tuple[int, int], conv.padding)


def _check_convolution(linear: LinearMap, where: str) -> None:
    if not isinstance(linear, nn.Conv2d):
        return
    for what, found, needed in (
        ("groups", linear.groups, 1),
        ("dilation", tuple(linear.dilation), (1, 1)),
        ("padding_mode", linear.padding_mode, "zeros"),
    ):
        if found != needed:
            raise UserError(
                f"a convolution at {where!r} has {what}={found}, but new channels can be computed only for {what}={needed}: "
                "use such a convolution, or method=static"
            )
    if isinstance(linear.padding, str):
        raise UserError(f"a convolution at {where!r} has padding={linear.padding!r}: give it as a number of pixels")
