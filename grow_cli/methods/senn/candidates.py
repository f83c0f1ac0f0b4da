"""Many proposals at one site as points of one tensor, and their gains: new units and new layers (SENN).

A point holds the incoming weights of the new units, their biases last, and three numbers for each unit's rational
activation where the net has these. The outputs of all proposals are one product of matrices, and the value's gradient with
respect to them is known in closed form, so autograd only goes from there to the points.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn

from grow_cli.hardware import piece, sent
from grow_cli.methods.width.amplitude import preactivations
from grow_cli.methods.width.units import transparent_norms
from grow_cli.models.modules.activations import Rational
from grow_cli.models.modules.sites import DepthSite, WidthSite
from grow_cli.scoring import Reading
from grow_cli.surgery.flops import alike
from grow_cli.surgery.patches import patches_of
from grow_cli.surgery.proposal import DepthProposal, Proposal, WidthProposal
from grow_cli.theory.expansion import double, explained_elsewhere
from grow_cli.theory.search import Evaluate

# Numbers in the activations of a piece of the proposals: they are read again and again while they are in a CPU's cache.
_PIECE = 2**18


class Candidates(ABC):
    """Proposals (b, P) at a site."""

    units: int
    """q: new units of a proposal."""
    fan_in: int
    """What a unit reads, its bias included."""
    biases: int
    """1 where the units have biases."""

    def __init__(self, activation: nn.Module) -> None:
        self.activation = activation
        self.rational = isinstance(activation, Rational)

    @property
    def size(self) -> int:
        """P."""
        return self.units * (self.fan_in + (3 if self.rational else 0))

    @property
    def scale(self) -> Tensor:
        """(P,) standard deviations from which nets and proposals start: 1/√fan-in, and 1 for biases and activations."""
        incoming = torch.full((self.units, self.fan_in), max(1, self.fan_in - self.biases) ** -0.5)
        if self.biases:
            incoming[:, -1] = 1
        rest = torch.ones(3 * self.units if self.rational else 0)
        return torch.cat([incoming.flatten(), rest])

    def draw(self, count: int, like: Tensor) -> Tensor:
        """(count, P) as the net's own initialization would have them; from torch's global stream."""
        return sent(torch.randn(count, self.size) * self.scale, like.device).to(like.dtype)

    def split(self, points: Tensor) -> tuple[Tensor, Tensor | None]:
        """Incoming weights (b, q, fan-in) and the activations' parameters (b, 3, q)."""
        incoming = points[:, : self.units * self.fan_in].view(-1, self.units, self.fan_in)
        if not self.rational:
            return incoming, None
        return incoming, points[:, self.units * self.fan_in :].view(-1, 3, self.units)

    @abstractmethod
    def inputs(self, source: Tensor) -> Tensor:
        """(fan-in, N) what the units read."""

    @abstractmethod
    def passed_on(self, activations: Tensor, source: Tensor) -> Tensor:
        """From (b · q, N) after the activation to what the consumer reads (b, q', N')."""

    def penalty(self, points: Tensor) -> Tensor | None:
        """(b,) to be taken off the value; None where there is none."""
        return None

    @abstractmethod
    def widened(self, points: Tensor) -> Tensor:
        """The same proposals where what they read has got one more number."""

    @abstractmethod
    def proposal(self, point: Tensor, source: Tensor, details: dict[str, Any]) -> Proposal:
        """A point (P,) as what surgery applies: it leaves the net's function as it is.

        :param source: (n, ...) what new units read, on samples from which norms between them and the consumer get statistics
        """

    def activations(self, points: Tensor, inputs: Tensor, source: Tensor) -> Tensor:
        """(b, q', N') what the consumer would read; differentiable."""
        incoming, theta = self.split(points)
        z = incoming.flatten(0, 1) @ inputs
        if theta is None:
            return self.passed_on(self.activation(z), source)
        assert isinstance(self.activation, Rational)
        if self.activation.normalize:
            theta = theta / theta.norm(dim=1, keepdim=True)
        alpha, beta, gamma = theta.transpose(0, 1).flatten(1).unsqueeze(2)
        return self.passed_on(_Rational.apply(z, alpha, beta, gamma), source)

    def evaluator(self, reading: Reading) -> Evaluate:
        """Value Δη' less the penalty, and its gradient, in the net's own precision.

        With G = E[a_p g_rᵀ]S^(-1/2) and K = A_p⁻¹G the bound is Tr[GᵀK] and its derivative at the activations is
        2(g_r − Kᵀa_p)Kᵀ/N: what is not yet explained, along what explains it.
        """
        source = reading.source
        inputs = self.inputs(source)
        target = reading.residual.to(inputs)
        factor, key, size = reading.unit / len(target), object(), piece(_PIECE, inputs.device)

        def evaluate(points: Tensor) -> tuple[Tensor, Tensor]:
            pieces = min(len(points), -(-len(points) * self.units * inputs.shape[1] // size))
            with alike(key, points.shape):
                values, gradients = zip(
                    *(self._value(part, inputs, source, target, factor) for part in points.tensor_split(pieces)),
                    strict=True,
                )
            return torch.cat(values), torch.cat(gradients)

        return evaluate

    def _value(
        self, points: Tensor, inputs: Tensor, source: Tensor, target: Tensor, factor: float
    ) -> tuple[Tensor, Tensor]:
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            activations = self.activations(points, inputs, source)
            penalty = self.penalty(points)
        with torch.no_grad():
            a = activations.detach()
            moved = (a.flatten(0, 1) @ target).view(*a.shape[:2], -1)
            solved = _solve(a, moved)
            values = factor * (moved * solved).sum((1, 2))
            fitted = solved @ solved.mT
            along = (solved.flatten(0, 1) @ target.T).view_as(a)
            if a.shape[1] == 1:
                along.addcmul_(fitted, a, value=-1)
            else:
                along.baddbmm_(fitted, a, alpha=-1)
            along *= 2 * factor
        if penalty is None:
            (gradients,) = torch.autograd.grad(activations, points, along)
            return values, gradients
        (gradients,) = torch.autograd.grad([activations, penalty], points, [along, torch.full_like(penalty, -1)])
        return values - penalty.detach(), gradients

    @torch.no_grad()
    def gains(self, points: Tensor, reading: Reading, fitted_on: Reading | None = None) -> Tensor:
        """Δη' (b,) in float64, of points that were found elsewhere.

        :param fitted_on: take the weights on the new activations that are best there, instead of the best here
        """
        each = max(1, piece(_PIECE, points.device) // (self.units * len(reading.residual)))
        return torch.cat([self._gains(part, reading, fitted_on) for part in points.split(each)])

    def _gains(self, points: Tensor, reading: Reading, fitted_on: Reading | None) -> Tensor:
        here = self.activations(points, self.inputs(reading.source), reading.source)
        if fitted_on is None:
            return reading.bounds(here)
        there = self.activations(points, self.inputs(fitted_on.source), fitted_on.source)
        return reading.unit * explained_elsewhere(there.mT, fitted_on.residual, here.mT, reading.residual)


class NewUnits(Candidates):
    """One more unit at a width site, read with zero weights at first."""

    def __init__(self, site: WidthSite) -> None:
        super().__init__(site.activation)
        self.site, self.units = site, 1
        self.biases = int(site.producer.bias is not None)
        self.fan_in = site.producer.weight[0].numel() + self.biases
        # new units' norms let them pass
        self.modules = [m for m in site.between if m is not site.activation and m not in site.followers]

    def inputs(self, source: Tensor) -> Tensor:
        return patches_of(source, self.site.producer).flatten(1)

    def passed_on(self, activations: Tensor, source: Tensor) -> Tensor:
        if isinstance(self.site.producer, nn.Conv2d):
            shape = patches_of(source[:, :1], self.site.producer, ones=False).shape[1:]
            return _read_by(self.site, self.modules, activations, shape)
        return activations.unsqueeze(1)

    def widened(self, points: Tensor) -> Tensor:
        split = self.fan_in - 1 - self.biases
        return torch.cat([points[:, :split], points.new_zeros(len(points), 1), points[:, split:]], 1)

    def proposal(self, point: Tensor, source: Tensor, details: dict[str, Any]) -> Proposal:
        site = self.site
        incoming, theta = self.split(point[None])
        followers = transparent_norms(site, preactivations(site, source, incoming[0]))
        if theta is not None:
            followers |= dict(zip(("alpha", "beta", "gamma"), theta[0], strict=True))
        consumer = site.consumer.weight
        return WidthProposal(
            site,
            incoming[0, :, : self.fan_in - self.biases].reshape(1, *site.producer.weight.shape[1:]),
            incoming[0, :, -1] if self.biases else None,
            consumer.new_zeros(consumer.shape[0], site.columns_per_unit, *consumer.shape[2:]),
            details,
            followers,
        )


class NewLayer(Candidates):
    """A layer as wide as what passes there, its weights invertible: the consumer's weights undo them.

    The optimised activations are *not* kept: the layer begins with the identity, as the function is to stay as it is. What
    is kept is the basis in which these activations, once trained, would be worth most.
    """

    penalty_weight = 0.01
    """Of (ln det W)² (appendix C)."""
    singular_floor = 0.001
    """Least singular value, as a part of the largest (of their mean in appendix C, which lets a net in float32 change)."""

    def __init__(self, site: DepthSite, activation: Rational) -> None:
        super().__init__(activation)
        assert site.consumer is not None
        self.site, self.consumer, self.units = site, site.consumer, site.units
        block = site.make_block()
        self.convolutional = any(isinstance(m, nn.Conv2d) for m in block.modules())
        # a convolution's zero padding stands in the way of undoing a bias
        own = any(isinstance(m, nn.Linear) and m.bias is not None for m in block.modules())
        self.biases = int(own and site.consumer.bias is not None and not self.convolutional)
        self.fan_in = self.units + self.biases
        self.modules = list(site.between)

    def draw(self, count: int, like: Tensor) -> Tensor:
        """Orthogonal weights: ln det W is 0 from the start."""
        points = super().draw(count, like)
        incoming, _ = self.split(points)
        drawn = torch.randn(count, self.units, self.units)
        q, _ = torch.linalg.qr(sent(drawn, like.device).to(like.dtype))
        incoming[:, :, : self.units] = q
        return points

    def inputs(self, source: Tensor) -> Tensor:
        columns = source.movedim(1 if self.convolutional else -1, 0).flatten(1)
        return torch.cat([columns, columns.new_ones(1, columns.shape[1])]) if self.biases else columns

    def passed_on(self, activations: Tensor, source: Tensor) -> Tensor:
        if self.convolutional:
            shape = torch.Size([len(source), *source.shape[2:]])
            return _read_by(self.site, self.modules, activations, shape, units=self.units)
        return activations.view(-1, self.units, activations.shape[1])

    def penalty(self, points: Tensor) -> Tensor:
        _, logarithm = torch.linalg.slogdet(self.split(points)[0][:, :, : self.units])
        return self.penalty_weight * logarithm.square()

    def widened(self, points: Tensor) -> Tensor:
        old, count = self.units - 1, len(points)
        fan_in = old + self.biases
        before = points[:, : old * fan_in].view(count, old, fan_in)
        incoming = points.new_zeros(count, self.units, self.fan_in)
        incoming[:, :old, :old] = before[:, :, :old]
        incoming[:, old, old] = 1
        if self.biases:
            incoming[:, :old, -1] = before[:, :, -1]
        theta = points[:, old * fan_in :].view(count, 3, old)
        identity = points.new_zeros(count, 3, 1)
        identity[:, 0] = 1
        return torch.cat([incoming.flatten(1), torch.cat([theta, identity], 2).flatten(1)], 1)

    def proposal(self, point: Tensor, source: Tensor, details: dict[str, Any]) -> Proposal:
        incoming = double(self.split(point[None])[0][0])
        left, singular, right = torch.linalg.svd(incoming[:, : self.units])
        floor = self.singular_floor * torch.maximum(singular.mean(), singular[0])
        # the inverse is that of the weights as they will stand, in the net's precision
        weight = ((left * singular.clamp(min=floor)) @ right).to(point)
        inverse = torch.linalg.inv(double(weight))
        consumer = self.consumer
        seen = double(consumer.weight.detach()).reshape(consumer.weight.shape[0], self.units, -1)
        undone = torch.einsum("mio,ij->mjo", seen, inverse).reshape(consumer.weight.shape)
        replace: dict[nn.Parameter, Tensor] = {cast(nn.Parameter, consumer.weight): undone.to(point)}
        block = self.site.make_block()
        state = {name: torch.zeros_like(t) for name, t in block.state_dict().items()}
        state |= {name: torch.ones_like(t) for name, t in state.items() if name.endswith("alpha")}
        if self.convolutional:
            kernel = state["linear.weight"]
            kernel[:, :, kernel.shape[2] // 2, kernel.shape[3] // 2] = weight
        else:
            state["linear.weight"] = weight
        if self.biases:
            bias = incoming[:, -1].to(point)
            state["linear.bias"] = bias
            consumer_bias = cast(nn.Parameter, consumer.bias)
            taken = undone.reshape(len(undone), -1) @ double(bias)
            replace[consumer_bias] = (double(consumer_bias.detach()) - taken).to(point)
        details = details | {"singular_values": torch.stack([singular.min(), singular.max()]).tolist()}
        return DepthProposal(self.site, state, details, replace)


def _read_by(
    site: WidthSite | DepthSite, modules: list[nn.Module], activations: Tensor, shape: torch.Size, units: int = 1
) -> Tensor:
    """Images (b · q, n · height · width) through what lies between, in evaluation mode, as the consumer's columns
    (b, q', N')."""
    assert site.consumer is not None
    x = activations.view(-1, *shape).transpose(0, 1)
    for module in modules:
        x = module(x)
    columns = patches_of(x, site.consumer, ones=False).flatten(1)
    return columns.view(len(activations) // units, -1, columns.shape[1])


def _solve(a: Tensor, moved: Tensor) -> Tensor:
    """K = A_p⁻¹ G (b, q, r), with a ridge that rounding calls for."""
    if a.shape[1] == 1:
        return moved / a.square().sum(2, keepdim=True).clamp(min=torch.finfo(a.dtype).tiny)
    gram = a @ a.mT
    precision = torch.finfo(a.dtype)
    # rounding is that of the largest eigenvalue, which may be the whole trace
    ridge = (8 * precision.eps * gram.diagonal(dim1=1, dim2=2).sum(1)).clamp(min=precision.tiny)  # of a dead unit too
    gram.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
    factor, failed = torch.linalg.cholesky_ex(gram)
    factor = torch.where((failed == 0)[:, None, None], factor, torch.nan)  # such a proposal has no value
    return torch.cholesky_solve(moved, factor)


class _Rational(torch.autograd.Function):
    """αz + (β + γz)/(1 + z²) row by row, in fewer passes over memory than autograd would take."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, alpha: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
        r = z.square().add_(1).reciprocal_()
        u = torch.addcmul(beta, gamma, z).mul_(r)
        ctx.save_for_backward(z, r, u, alpha, gamma)
        return torch.addcmul(u, alpha, z)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        z, r, u, alpha, gamma = ctx.saved_tensors
        rd = r * d
        sums = [torch.linalg.vecdot(p, q).unsqueeze(1) for p, q in ((z, d), (r, d), (z, rd))]
        # σ'(z) = α + r(γ − 2zu)
        slope = torch.addcmul(gamma, z, u, value=-2).mul_(rd).addcmul_(alpha, d)
        return slope, *sums
