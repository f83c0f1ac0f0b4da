"""The layers that nets are made of and that growth inserts: plain ones, and blocks of a residual stream.

All start with torch's own initialization, U(±1/√fan_in) for weights and biases: static nets with it reach the
accuracies that grown ones are compared with, and a user's own torch net would have it as well.
"""

from __future__ import annotations

from collections import OrderedDict
from math import gcd
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grow_cli.models.modules.activations import Rational, make_activation

LinearMap = nn.Linear | nn.Conv2d


def replace_tensor(module: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """Put a tensor of another shape in the place of a module's parameter or buffer, which is returned as it then stands there.

    What the module says of its own size follows.
    """
    old = getattr(module, name)
    if isinstance(old, nn.Parameter):
        tensor = nn.Parameter(tensor, requires_grad=old.requires_grad)
    setattr(module, name, tensor)
    if isinstance(module, nn.Conv2d):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        module.num_features = len(tensor)
    return tensor


class Growable(nn.Module):
    """What can be inserted in a stack."""

    @property
    def units(self) -> int:
        """Its hidden width."""
        raise NotImplementedError

    def activations(self, x: Tensor) -> list[Tensor]:
        """From the layer's input: what is read by the linear map after its units, a tensor per map."""
        raise NotImplementedError

    def identity_(self) -> None:
        """Set the parameters so that the input is passed on unchanged, as far as norm and activation allow."""
        raise NotImplementedError


class Layer(nn.Sequential, Growable):
    """Linear map → norm → activation → dropout, the absent ones left out."""

    linear: LinearMap
    activation: nn.Module

    def __init__(self, linear: LinearMap, norm: nn.Module, activation: nn.Module, dropout: float) -> None:
        steps: OrderedDict[str, nn.Module] = OrderedDict(linear=linear)
        if not isinstance(norm, nn.Identity):
            steps["norm"] = norm
        steps["activation"] = activation
        if dropout:
            steps["dropout"] = nn.Dropout(dropout)
        super().__init__(steps)

    @property
    def between(self) -> tuple[nn.Module, ...]:
        """What follows the linear map."""
        return tuple(self)[1:]

    @property
    def units(self) -> int:
        return self.linear.weight.shape[0]

    def activations(self, x: Tensor) -> list[Tensor]:
        return [self(x)]

    def identity_(self) -> None:
        if isinstance(self.linear, nn.Conv2d):
            nn.init.dirac_(self.linear.weight)
        else:
            nn.init.eye_(self.linear.weight)
        if self.linear.bias is not None:
            nn.init.zeros_(self.linear.bias)
        if isinstance(self.activation, Rational):
            nn.init.ones_(self.activation.alpha)
            nn.init.zeros_(self.activation.beta)
            nn.init.zeros_(self.activation.gamma)


def linear_layer(
    inputs: int, units: int, *, activation: str, norm: str = "none", bias: bool = True, dropout: float = 0.0
) -> Layer:
    """(n, inputs) → (n, units)."""
    linear = nn.Linear(inputs, units, bias=bias)
    return Layer(linear, make_norm(norm, units), make_activation(activation, units), dropout)


def conv_layer(inputs: int, units: int, *, kernel: int, activation: str, norm: str = "none") -> Layer:
    """(n, inputs, height, width) → (n, units, height, width)."""
    linear = same_conv(inputs, units, kernel)
    activated = make_activation(activation, units, spatial_dims=2)
    return Layer(linear, make_norm(norm, units, spatial_dims=2), activated, 0.0)


def same_conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """A convolution padded with zeros to keep the image's size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def make_norm(name: str, units: int, *, spatial_dims: int = 0) -> nn.Module:
    """`batch`, `layer`, `group` (8 groups, or the largest divisor of 8 that divides the units) or `none`."""
    if name == "batch":
        return nn.BatchNorm2d(units) if spatial_dims else nn.BatchNorm1d(units)
    if name == "layer":
        return nn.LayerNorm(units)
    if name == "group":
        return nn.GroupNorm(gcd(8, units), units)
    return nn.Identity()


class Block(Growable):
    """x + f(x): one hidden dimension that can be widened, and linear maps that write to the stream."""

    producer: LinearMap
    activation: nn.Module
    consumer: LinearMap

    def between(self) -> tuple[nn.Module, ...]:
        """From the producer's output to the consumer's input."""
        return (self.activation,)

    def outputs(self) -> list[LinearMap]:
        """The linear maps whose outputs are added to the stream."""
        return [self.consumer]

    @property
    def units(self) -> int:
        return self.producer.weight.shape[0]

    def identity_(self) -> None:
        for linear in self.outputs():
            nn.init.zeros_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.consumer(self.activations(x)[0])


class MLPBlock(Block):
    """x + W2 act(W1 norm(x)), on (n, width)."""

    def __init__(self, width: int, hidden: int, *, activation: str, norm: str) -> None:
        super().__init__()
        self.norm = make_norm(norm, width)
        self.producer = nn.Linear(width, hidden)
        self.activation = make_activation(activation, hidden)
        self.consumer = nn.Linear(hidden, width)

    def activations(self, x: Tensor) -> list[Tensor]:
        return [self.activation(self.producer(self.norm(x)))]


class ConvBlock(Block):
    """x + conv(act(norm(conv(act(norm(x)))))), on (n, width, height, width of the image)."""

    def __init__(self, width: int, hidden: int, *, kernel: int, activation: str, norm: str) -> None:
        super().__init__()
        self.norm_in = make_norm(norm, width, spatial_dims=2)
        self.activation_in = make_activation(activation, width, spatial_dims=2)
        self.producer = same_conv(width, hidden, kernel)
        self.norm = make_norm(norm, hidden, spatial_dims=2)
        self.activation = make_activation(activation, hidden, spatial_dims=2)
        self.consumer = same_conv(hidden, width, kernel)

    def between(self) -> tuple[nn.Module, ...]:
        return (self.norm, self.activation)

    def activations(self, x: Tensor) -> list[Tensor]:
        return [self.activation(self.norm(self.producer(self.activation_in(self.norm_in(x)))))]


class TransformerBlock(Block):
    """Pre-norm attention, then a pre-norm MLP, each added to the stream of (n, tokens, dim).

    :param size: numbers per head; the heads together need not be as wide as the stream
    :param causal: a token attends to none after it
    :param rotary: the number of positions by which queries and keys are rotated; 0: no rotation
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        *,
        size: int,
        activation: str,
        dropout: float,
        causal: bool = False,
        rotary: int = 0,
    ) -> None:
        super().__init__()
        self.head_size, self.causal, self.rotary = size, causal, rotary
        if rotary:
            cos, sin = angles(rotary, size)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)
        self.attention_norm = nn.LayerNorm(dim)
        # apart rather than as one stacked matrix: methods treat each as a tensor of its own
        self.query, self.key = nn.Linear(dim, heads * size), nn.Linear(dim, heads * size)
        self.value, self.out = nn.Linear(dim, heads * size), nn.Linear(heads * size, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.producer = nn.Linear(dim, hidden)
        self.activation = make_activation(activation, hidden)
        self.consumer = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    @property
    def heads(self) -> int:
        """How many there are now."""
        return self.query.weight.shape[0] // self.head_size

    def outputs(self) -> list[LinearMap]:
        return [self.out, self.consumer]

    def _attend(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        x = self.attention_norm(x)
        query, key, value = (
            linear(x).view(n, tokens, -1, self.head_size).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        if self.rotary:
            query, key = self._turned(query, tokens), self._turned(key, tokens)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return mixed.transpose(1, 2).reshape(n, tokens, -1)

    def _turned(self, x: Tensor, tokens: int) -> Tensor:
        """(n, heads, tokens, d): the pairs (x_i, x_{i + d/2}) turned by their token's angles."""
        cos, sin = cast(Tensor, self.cos)[:tokens], cast(Tensor, self.sin)[:tokens]
        first, second = x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    def _hidden(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.activation(self.producer(self.mlp_norm(x))))

    def activations(self, x: Tensor) -> list[Tensor]:
        mixed = self._attend(x)
        return [mixed, self._hidden(x + self.dropout(self.out(mixed)))]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.out(self._attend(x)))
        return x + self.dropout(self.consumer(self._hidden(x)))


def angles(tokens: int, d: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (tokens, d/2) of position · 10000^(−2i/d) (Su et al., 2021)."""
    rates = 10000 ** (-torch.arange(0, d, 2, dtype=torch.float32) / d)
    turned = torch.arange(tokens, dtype=torch.float32)[:, None] * rates
    return turned.cos(), turned.sin()
