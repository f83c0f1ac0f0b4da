"""How strongly to add what was found: the search over ε = 2^-k, both signs and ε = 0 (TINY, D.4, Algorithm 2).

Directions are found at first order; what they are worth at a finite step is measured on a minibatch. Every candidate costs
the part of the net behind the consumer only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from grow_cli.models.modules.sites import WidthSite
from grow_cli.surgery.patches import SitePatches, read
from grow_cli.surgery.signals import Tail


@dataclass
class Amplitude:
    """What the search found; `epsilon` 0: nothing lowers the loss."""

    epsilon: float
    sign: int
    loss: float
    """On the search's minibatch, with this amplitude."""
    tried: list[tuple[float, float]] = field(default_factory=list)
    """(sign · ε, loss), in the order of trying."""


class Search:
    """At one site, on one minibatch: what is added first shifts the outputs that the next is added to."""

    def __init__(
        self, model: nn.Module, site: WidthSite, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        self.site, self._y, self._loss_of = site, y, loss
        self._tail = Tail(model, site.consumer, x)
        self.outputs = self._tail.outputs
        self.inputs = self._tail.inputs[site.producer]
        """Of the producer."""
        self.middle = self._tail.inputs[site.consumer]
        """Of the consumer."""
        self.loss = self._measure(self.outputs)
        """Without anything added since the last `keep`."""
        self.evaluations = 1

    def _measure(self, outputs: Tensor) -> float:
        with torch.no_grad():
            value = float(self._loss_of(self._tail(outputs), self._y))
        return value if math.isfinite(value) else math.inf

    def scale(self, effect: Tensor) -> float:
        """The factor with which an effect on the outputs is as large as the outputs, in root mean square."""
        size, own = torch.stack([self.outputs.norm(), effect.norm()]).tolist()
        return float(size / own) if own > 0 else 0.0

    def best(self, effect: Callable[[float, int], Tensor], halvings: int, *, both_signs: bool) -> Amplitude:
        """The amplitude with the lowest loss, `effect(ε, sign)` being added to the outputs."""
        found = Amplitude(0.0, 1, self.loss)

        def attempt(k: int, sign: int) -> float:
            epsilon = 2.0**-k
            value = self._measure(self.outputs + effect(epsilon, sign))
            self.evaluations += 1
            found.tried.append((sign * epsilon, value))
            if value < found.loss:
                found.epsilon, found.sign, found.loss = epsilon, sign, value
            return value

        def descend(sign: int, ks: range) -> None:
            worse = 0
            for k in ks:
                worse = worse + 1 if attempt(k, sign) > found.loss else 0
                if worse == 2 and found.epsilon > 0:  # past the valley; without one, go on to the smallest step
                    return

        descend(1, range(halvings + 1))
        if both_signs:
            if found.epsilon > 0:  # the valley lies where it does for the other sign, nearly
                k = round(-math.log2(found.epsilon))
                descend(-1, range(max(0, k - 1), min(halvings, k + 1) + 1))
            else:
                descend(-1, range(halvings + 1))
        return found

    def keep(self, effect: Tensor, loss: float) -> None:
        """Add for good what lowered the loss."""
        self.outputs, self.loss = self.outputs + effect, loss

    def goal(self) -> Tensor:
        """−∂L/∂a at the present outputs a, L being the mean loss."""
        outputs = self.outputs.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self._loss_of(self._tail(outputs), self._y), outputs)
        return -gradient

    def update_effect(self, update: Tensor) -> Tensor:
        """What a change δW (m, q) of the consumer's weights, its bias last, adds to its outputs."""
        consumer = self.site.consumer
        weight = consumer.weight
        change = read(consumer, self.middle, update[:, : weight[0].numel()].reshape(weight.shape))
        if consumer.bias is not None:
            change = change + (update[:, -1].view(-1, 1, 1) if change.dim() == 4 else update[:, -1])
        return change


def preactivations(site: WidthSite, x: Tensor, alpha: Tensor) -> Tensor:
    """Of units with fan-in α (k, p), the bias last where the producer has one, on the producer's inputs."""
    weight = site.producer.weight
    incoming = alpha[:, : weight[0].numel()].reshape(-1, *weight.shape[1:])
    z = read(site.producer, x, incoming)
    if site.producer.bias is not None:
        z = z + (alpha[:, -1].view(-1, 1, 1) if z.dim() == 4 else alpha[:, -1])
    return z


def search_units(
    search: Search, patches: SitePatches, alpha: Tensor, omega: Tensor, halvings: int
) -> tuple[Amplitude, Tensor, Tensor]:
    """The best amplitude of new units, and with it their α (k, p) and ω (m · offsets, k).

    They are scaled so that at first order they move the consumer's pre-activations a by ε‖a‖; ε is split evenly between
    fan-in and fan-out. A unit that alone would raise the loss at first order is turned round (ω to −ω); then α and ω of all
    are tried with both signs, which is the same at first order but not at a finite step.
    """
    outgoing = patches.fan_out_weights(omega)
    z = preactivations(search.site, search.inputs, alpha)
    root = search.scale(patches.linear_effect(z, outgoing)) ** 0.5
    turns = _first_order_gains(search, patches, z, outgoing).sign()
    turns[turns == 0] = 1
    z, omega = root * z, turns * omega
    outgoing = root * patches.fan_out_weights(omega)

    def effect(epsilon: float, sign: int) -> Tensor:
        half = sign * epsilon**0.5
        return patches.effect(half * z, half * outgoing)

    found = search.best(effect, halvings, both_signs=True)
    half = found.sign * found.epsilon**0.5 * root
    return found, half * alpha, half * omega


def _first_order_gains(search: Search, patches: SitePatches, z: Tensor, outgoing: Tensor) -> Tensor:
    """(k,) how fast each unit alone lowers the mean loss, per first-order effect."""
    weight = outgoing.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad((search.goal() * patches.linear_effect(z, weight)).sum(), weight)
    per_unit = (gradient * outgoing).transpose(0, 1)
    return per_unit.reshape(len(per_unit) // search.site.columns_per_unit, -1).sum(1)
