"""A neuron for a mistake: where it folds, in which direction, and its initial weights (Fold, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from grow_cli.hardware import fetched, sent
from grow_cli.models.base import rebuild
from grow_cli.models.modules.sites import WidthSite
from grow_cli.surgery.measure import evaluation_mode
from grow_cli.theory.folding import alignment, ascend_in_ball, boundary_point, surface_point

if TYPE_CHECKING:
    from grow_cli.moment import Moment


_HALVINGS = 10


@dataclass(frozen=True)
class Placed:
    """A unit σ(w·φ(x) + b), and where it was meant to be."""

    weight: Tensor
    """w (d,)."""
    bias: Tensor
    """b ()."""
    outgoing: Tensor
    """(outputs,)."""
    x_fold: Tensor
    """(...) shaped like a sample."""
    details: dict[str, Any]


class Placement:
    """Places neurons in one net, on a copy of it in float64 on the CPU: a point on a boundary needs the digits."""

    def __init__(self, now: Moment, site_index: int, samples: int) -> None:
        net = rebuild(now.model.architecture())
        state = now.model.state_dict()
        net.load_state_dict(dict(zip(state, fetched(list(state.values())), strict=True)))
        self.net = net.cpu().double().eval().requires_grad_(False)
        self.site = net.width_sites()[site_index]
        self._now = now
        self._classes = now.data.spec.task == "classification"
        index = sent(torch.randperm(len(now.data.train))[:samples], now.data.train.y.device)
        drawn = now.data.prepare(now.data.train.x.index_select(0, index))
        x, y = fetched([drawn, now.data.train.y.index_select(0, index)])
        x = x.double()
        self._features, self._x, self._y = features(self.net, self.site, x), x, y if self._classes else y.double()
        weight = self.site.consumer.weight
        self.uniform = weight.mean().expand(weight.shape[0]).clone()
        """mean(W_B)·1 (outputs,): no direction of the outputs is preferred."""
        self._length = float(weight.norm(dim=0).mean())
        self.radius = float(self.site.producer.weight.flatten(1).norm(dim=1).mean())
        """The mean norm of the present units' weights, which the new one's may not exceed."""

    def fold(self, x: Tensor, true: Tensor, predicted: Any, others: Tensor, *, outgoing: str, steps: int) -> Placed:
        """For a mistake x (...) with its target () in a cluster (k, ...); ValueError where there is no boundary to fold at.

        :param predicted: the class that the net gives it; of a regression it is not read
        """
        shape = x.shape
        x, true = x.cpu().double().flatten(), true.cpu()

        def outputs(points: Tensor) -> Tensor:
            return self.net(points.reshape(-1, *shape))

        lead_there = None
        if self._classes:
            x_fold = boundary_point(outputs, x, predicted, int(true))
            lead = outputs(x_fold[None])[0]
            lead_there = abs(float(lead[predicted] - lead[int(true)]))
        else:
            x_fold = surface_point(outputs, x, true.double())
        mistake, fold = x.reshape(1, *shape), x_fold.reshape(1, *shape)
        phi = features(self.net, self.site, torch.cat([mistake, fold, others.cpu().double()]))
        phi_mistake, phi_fold, phi_others = phi[0], phi[1], phi[2:]
        target = true[None] if self._classes else true.double()[None]
        objective = self._objective(mistake, target, x, x_fold, phi_fold)
        start = self._across(phi_mistake - phi_fold, phi_others - phi_fold)
        weight = ascend_in_ball(lambda w: torch.stack(objective(w)).sum(), start, radius=self.radius, steps=steps)
        (aligned, norm), at_start = (term.item() for term in objective(weight)), sum(t.item() for t in objective(start))
        details = {
            "distance": float((x_fold - x).norm()),
            "lead_at_fold": lead_there,
            "alignment": aligned,
            "gradient_norm": norm,
            "objective_gained": aligned + norm - at_start,
        }
        bias = -(weight @ phi_fold)
        out = self.uniform if outgoing == "uniform" else self._descending(weight, bias)
        return Placed(weight, bias, out, x_fold.reshape(shape), details)

    def _across(self, to_mistake: Tensor, to_others: Tensor) -> Tensor:
        """Where the ascent begins: any hyperplane through fold *and* mistake, active where more of the cluster's mistakes are.

        With cross-entropy and equal outgoing weights the objective says nothing: a loss's derivatives with respect to the
        logits add up to zero, so that neither ∂L/∂x nor ∂L/∂w depends on w. What then tells is Def. 5, whose term is zero for
        a hyperplane through both points. It crosses the boundary, which the unit can bend there; along the boundary, as
        Theorem 5's direction x_fold − x_mistake has it, the unit could only steepen what is on one side. Towards the middle of
        the cluster, seen from a single instance, lies all the rest of the data: such a unit would be linear.

        :param to_mistake: φ(x_mistake) − φ(x_fold) (d,)
        :param to_others: φ of the cluster's mistakes less φ(x_fold) (k, d)
        """
        size = to_mistake.norm()
        along = to_mistake / size if float(size) > 0 else torch.zeros_like(to_mistake)
        across = torch.randn(len(along), dtype=along.dtype)
        across = across - (across @ along) * along
        if float(across.norm()) <= 1e-6:  # a line has no other direction
            across = to_mistake if float(size) > 0 else torch.ones_like(along)
        else:
            across = across * torch.where((to_others @ across).mean() < 0, -1.0, 1.0)
        return across * (self.radius / across.norm())

    def _descending(self, w: Tensor, bias: Tensor) -> Tensor:
        """Outgoing weights (outputs,) against their gradient, halved from the present ones' mean length to the least loss.

        Where no length lowers the loss, the uniform ones.
        """
        zero = torch.zeros_like(self.uniform).requires_grad_()
        with torch.enable_grad(), self._with_unit(w, bias, zero):
            least = self._now.loss(self.net(self._x), self._y)
            (slope,) = torch.autograd.grad(least, zero)
        best, least = self.uniform, least.detach()
        for halving in range(_HALVINGS if float(slope.norm()) else 0):
            tried = slope * (-self._length / slope.norm() / 2**halving)
            with torch.no_grad(), self._with_unit(w, bias, tried):
                loss = self._now.loss(self.net(self._x), self._y)
            if loss < least:
                best, least = tried, loss
        return best

    def _objective(
        self, mistake: Tensor, target: Tensor, x: Tensor, x_fold: Tensor, phi_fold: Tensor
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """w (d,) → cos(∂L/∂x, x_fold − x_mistake), and the mean norm of a sample's ∂L/∂w."""

        def terms(w: Tensor) -> tuple[Tensor, Tensor]:
            bias = -(w @ phi_fold)
            with torch.enable_grad():
                leaf = mistake.clone().requires_grad_()
                with self._with_unit(w, bias, self.uniform):
                    loss = self._now.loss(self.net(leaf), target)
                (slope,) = torch.autograd.grad(loss, leaf, create_graph=True)
                aligned = alignment(slope.flatten(), x, x_fold)
                with self._with_unit(w, bias, self.uniform) as heights:
                    loss = self._now.loss(self.net(self._x), self._y) * len(self._x)
                (own,) = torch.autograd.grad(loss, heights[0], create_graph=True)
                norm = (own.abs() * self._features.norm(dim=1)).mean()
            return aligned, norm

        return terms

    @contextmanager
    def _with_unit(self, w: Tensor, bias: Tensor, outgoing: Tensor) -> Iterator[list[Tensor]]:
        """The net with the unit; yields the unit's pre-activations (n,) of each pass."""
        heights: list[Tensor] = []

        def read(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            height = arguments[0] @ w + bias
            heights.append(height if height.requires_grad or not torch.is_grad_enabled() else height.requires_grad_())

        def add(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
            unit = heights[-1][:, None]
            for part in self.site.between:
                unit = part(unit)
            return output + unit * outgoing

        with self.site.producer.register_forward_pre_hook(read), self.site.consumer.register_forward_hook(add):
            yield heights


def features(model: nn.Module, site: WidthSite, x: Tensor) -> Tensor:
    """φ(x) (n, d): what the site's producer reads, in evaluation mode; differentiable."""
    seen: list[Tensor] = []
    hook = site.producer.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    with hook, evaluation_mode(model), torch.enable_grad():
        model(x)
    return seen[0]
