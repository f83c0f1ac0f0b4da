"""The amplitude of an addition: a search over ε = 2^-k, both signs and ε = 0 (TINY, D.4, Algorithm 2).

Directions are found at first order; their gain at a finite step is measured on a minibatch. A candidate costs only the
part of the net after the consumer, and is tried a few samples at a time, so that its tensors stay in a CPU's cache. A CPU
reads each loss before it tries the next amplitude. A GPU, which waits to be read, tries all of a sign and is read once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from grow_cli.hardware import Readings, piece, waits
from grow_cli.methods.width.activation import slopes_at_zero
from grow_cli.models.modules.sites import WidthSite
from grow_cli.surgery.flops import alike
from grow_cli.surgery.patches import SitePatches, affine
from grow_cli.surgery.signals import Tail

# Numbers in the consumer's outputs of a part of the minibatch, on a CPU.
_PART = 2**20


@dataclass
class Amplitude:
    """What the search found; `epsilon` 0: nothing lowers the loss."""

    epsilon: float
    sign: int
    loss: float
    """On the search's minibatch, with this amplitude."""
    tried: list[tuple[float, float]] = field(default_factory=list)
    """(sign · ε, loss), in the order of trying."""
    predicted: float = 0.0
    """By how much new units lower the loss at first order, with this amplitude."""


class Part:
    """Some samples of the minibatch, as they pass the site."""

    def __init__(self, model: nn.Module, site: WidthSite, x: Tensor, y: Tensor) -> None:
        self.tail, self.y = Tail(model, site.consumer, x), y
        self.outputs = self.tail.outputs
        """Of the consumer, with what has been kept."""
        self.inputs = self.tail.inputs[site.producer]
        """Of the producer."""
        self.middle = self.tail.inputs[site.consumer]
        """Of the consumer."""


def _halvings(found: Amplitude) -> int:
    """k of ε = 2^-k."""
    return round(-math.log2(found.epsilon))


Effect = Callable[[Part], Tensor]
"""What is added to the consumer's outputs."""

Factor = float | Tensor
"""A number; on a GPU a tensor (), which is not read."""


def plus(outputs: Tensor, effect: Tensor, factor: Factor) -> Tensor:
    """outputs + factor · effect."""
    return outputs + factor * effect if isinstance(factor, Tensor) else torch.add(outputs, effect, alpha=factor)


class Search:
    """At one site, on one minibatch: what is added first shifts the outputs that the next is added to."""

    def __init__(
        self, model: nn.Module, site: WidthSite, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        self.site, self._loss_of, self.samples = site, loss, len(y)
        self._waits, self._readings = waits(x.device), Readings()
        numbers = Tail(model, site.consumer, x[:1]).outputs.numel()
        size = max(1, piece(_PART, x.device) // numbers)
        self.parts = [Part(model, site, *xy) for xy in zip(x.split(size), y.split(size), strict=True)]
        self._loss = self._measure(lambda part: part.tail.result)

    @property
    def loss(self) -> float:
        """Without anything added since the last `keep`."""
        return self._loss()

    def _measure(self, results: Callable[[Part], Tensor]) -> Callable[[], float]:
        """The mean loss of what the net puts out for each part, when it is called."""
        with torch.no_grad():
            losses = [self._loss_of(results(part), part.y) * len(part.y) for part in self.parts]
            total = self._readings.later(torch.stack(losses).sum())

        def mean() -> float:
            value = float(total()) / self.samples
            return value if math.isfinite(value) else math.inf

        return mean

    def later(self, factor: Factor) -> Callable[[], float]:
        """A number, when it is called; on a GPU it is read with whatever else has been computed by then."""
        return self._readings.later(factor) if isinstance(factor, Tensor) else lambda: factor

    def scale(self, effect: Effect) -> Factor:
        """The factor with which an effect on the outputs is as large as the outputs; 1 where these are all zero."""
        squares = [torch.stack([p.outputs.square().sum(), effect(p).square().sum()]) for p in self.parts]
        sizes = torch.stack(squares).sum(0).sqrt()
        if self._waits:
            outputs, own = sizes.unbind()
            return torch.where(outputs == 0, 1.0, torch.where(own > 0, outputs / own, 0.0))
        size, own = sizes.tolist()
        if size == 0:
            return 1.0
        return float(size / own) if own > 0 else 0.0

    def best(self, moved: Callable[[Part, float, int], Tensor], halvings: int, *, both_signs: bool) -> Amplitude:
        """The amplitude with the lowest loss, the outputs then being `moved(part, ε, sign)`.

        From ε = 1 down in steps of a quarter until the loss rises again, then the halvings beside the lowest.
        """
        key, losses = object(), dict[tuple[int, int], Callable[[], float]]()

        def measure(k: int, sign: int) -> None:
            with alike(key):
                losses[k, sign] = self._measure(lambda part: part.tail(moved(part, 2.0**-k, sign)))

        def ahead(ks: range, sign: int) -> None:
            for k in ks if self._waits else ():
                measure(k, sign)

        def attempt(k: int, sign: int) -> float:
            if (k, sign) not in losses:
                measure(k, sign)
            epsilon, value = 2.0**-k, losses[k, sign]()
            found.tried.append((sign * epsilon, value))
            if value < found.loss:
                found.epsilon, found.sign, found.loss = epsilon, sign, value
            return value

        def descend(sign: int) -> None:
            for k in range(0, halvings + 1, 2):
                # past the valley; without one, go on to the smallest step
                if attempt(k, sign) > found.loss and found.epsilon > 0:
                    break
            if found.epsilon > 0:
                near = _halvings(found)
                for k in (near - 1, near + 1):
                    if 0 <= k <= halvings:
                        attempt(k, sign)

        every = range(halvings + 1)
        ahead(every, 1)
        found = Amplitude(0.0, 1, self.loss)
        descend(1)
        if both_signs and found.epsilon > 0:  # the valley of the other sign is nearly at the same place
            near = _halvings(found)
            beside = range(max(0, near - 1), min(halvings, near + 1) + 1)
            ahead(beside, -1)
            for k in beside:
                attempt(k, -1)
        elif both_signs:
            ahead(every, -1)
            descend(-1)
        return found

    def keep(self, effect: Effect, loss: float) -> None:
        """Add for good what lowered the loss."""
        for part in self.parts:
            part.outputs = part.outputs + effect(part)
        self._loss = lambda: loss

    def goal(self, part: Part) -> Tensor:
        """−∂L/∂a at the present outputs a, L being the mean loss of the minibatch."""
        outputs = part.outputs.detach().requires_grad_()
        with torch.enable_grad():
            gain = self._loss_of(part.tail(outputs), part.y) * -(len(part.y) / self.samples)
            (goal,) = torch.autograd.grad(gain, outputs)
        return goal

    def update_effect(self, part: Part, update: Tensor) -> Tensor:
        """What a change δW (m, q) of the consumer's weights, its bias last, adds to its outputs."""
        return affine(self.site.consumer, part.middle, update)


def preactivations(site: WidthSite, x: Tensor, alpha: Tensor) -> Tensor:
    """The pre-activations of units with fan-in α (k, p), its bias last if there is one, on the producer's inputs."""
    return affine(site.producer, x, alpha)


def search_units(
    search: Search, patches: SitePatches, alpha: Tensor, omega: Tensor, halvings: int
) -> tuple[Amplitude, Tensor, Tensor]:
    """The best amplitude of new units, and with it their α (k, p) and ω (m · offsets, k).

    They are scaled so that at first order they move the consumer's pre-activations a by ε‖a‖, each unit's pre-activations
    being as large (root mean square) as its fan-out, as those of Prop. 3.2 are. A unit that alone would raise the loss at
    first order is turned round (ω to −ω); then α and ω of all are tried with both signs, which is the same at first order
    but not at a finite step.

    Where the activation's slopes r and l at 0 differ (SELU, ReLU) there is no σ'(0), and (−α, −ω) is not the same as (α, ω) at
    first order either: near 0, σ(z) is (r + l)/2 · z + (r − l)/2 · |z|. The first part is that of Prop. 3.2, at the mean slope;
    of the second each unit gets the sign with which it lowers the loss.
    """
    z = {part: preactivations(search.site, part.inputs, alpha) for part in search.parts}
    sizes = _root_mean_square(list(z.values()), patches.unit_dim)
    balance = torch.where(sizes > 0, (omega.norm(dim=0) / sizes).sqrt(), 1.0)
    shape = (-1,) + (1,) * (z[search.parts[0]].dim() - 2 if patches.unit_dim == 1 else 0)
    z = {part: balance.view(shape) * values for part, values in z.items()}
    alpha, omega = balance[:, None] * alpha, omega / balance
    outgoing = patches.fan_out_weights(omega)
    root = search.scale(lambda part: patches.linear_effect(z[part], outgoing)) ** 0.5
    slope = slopes_at_zero(search.site)
    slowed, bent = (slope.right + slope.left) / 2, (slope.right - slope.left) / 2
    gains, bends = _first_order_gains(search, patches, z, outgoing, creased=slope.creased)
    turns = _signs(gains)
    bends = bent * turns * bends
    if slope.creased:
        signs = _signs(bends)
        z = {part: signs.view(shape) * values for part, values in z.items()}
        alpha, turns = signs[:, None] * alpha, signs * turns
    omega = turns * omega
    outgoing = patches.fan_out_weights(omega)

    def moved(part: Part, epsilon: float, sign: int) -> Tensor:
        half = sign * epsilon**0.5 * root
        return patches.effect(half * z[part], half * outgoing).add_(part.outputs)

    lowered = {sign: search.later(slowed * gains.abs().sum() + sign * bends.abs().sum()) for sign in (1, -1)}
    size = search.later(root)
    found = search.best(moved, halvings, both_signs=True)
    half = found.sign * found.epsilon**0.5 * size()
    found.predicted = half**2 * lowered[found.sign]()
    return found, half * alpha, half * omega


def _signs(gains: Tensor) -> Tensor:
    return torch.where(gains < 0, -1.0, 1.0).to(gains)


def _root_mean_square(parts: list[Tensor], unit_dim: int) -> Tensor:
    """(k,) over samples and positions."""
    dims = [d for d in range(parts[0].dim()) if d != unit_dim % parts[0].dim()]
    squares = torch.stack([z.square().sum(dims) for z in parts]).sum(0)
    return (squares / (sum(z.numel() for z in parts) / len(squares))).sqrt()


def _first_order_gains(
    search: Search, patches: SitePatches, z: dict[Part, Tensor], outgoing: Tensor, *, creased: bool
) -> tuple[Tensor, Tensor]:
    """(k,) each: how fast each unit alone lowers the mean loss, were its activation the identity, and the absolute value.

    The second is zero unless `creased`.
    """
    sums = torch.zeros(2 if creased else 1, *outgoing.shape, dtype=outgoing.dtype, device=outgoing.device)
    for part in search.parts:
        goal = search.goal(part)
        for gradient, values in zip(sums, (z[part], z[part].abs()) if creased else (z[part],), strict=True):
            weight = outgoing.detach().requires_grad_()
            with torch.enable_grad():
                effect = patches.linear_effect(values, weight)
            gradient += torch.autograd.grad(effect, weight, goal)[0]
    per_unit = (sums * outgoing).transpose(1, 2).flatten(2)
    gains = per_unit.reshape(len(sums), -1, search.site.columns_per_unit * per_unit.shape[2]).sum(2)
    return gains[0], gains[1] if creased else torch.zeros_like(gains[0])
