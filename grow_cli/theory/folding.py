"""Folding a net's surface at a mistake (Fold, sections 2 and 3): where, in which direction, and what keeps the fold there.

A unit σ(w·φ(x) + b) folds along the hyperplane w·φ(x) + b = 0, whatever its outgoing weights are (Theorem 3).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Outputs = Callable[[Tensor], Tensor]
"""(n, d) → (n, c)."""


def boundary_point(logits: Outputs, x: Tensor, predicted: int, true: int, *, tolerance: float = 1e-4) -> Tensor:
    """The point (d,) nearest to x (d,) that two classes are equally likely at: x_fold of a classifier (Algorithm 1).

    Within x's linear region the boundary is a plane, and its point nearest to x is x − d ∇d/‖∇d‖² with d = f_predicted −
    f_true. Where that leaves the region, a boundary point is searched by such steps, and else along many rays; from there the
    planes met are kept, what is nearest to x on the far side of all of them is tried next, and where the way there crosses the
    boundary, the crossing is nearer still. At the end rays within that distance are tried once more. It is a local search: of
    a boundary that bends back and forth it may miss a nearer piece.

    :param logits: differentiable, (n, d) → (n, c)
    :param tolerance: of |d| at the point returned, where d is of the order of 1 around x; a part of that order where it is less,
        so that logits times 1e-6 have the same point
    :raise ValueError: if x is not classified as `predicted` rather than `true`, or no boundary is reached
    """
    search = _Search(logits, x.detach(), predicted, true, tolerance)
    value, slope = search.lead(search.start)
    # ten times: the order at a point that was found from elsewhere may be less than it was there
    tolerance = min(tolerance, 10 * search.measure(value, slope))
    if not float(value) >= 0:
        raise ValueError(f"class {true} is ahead of class {predicted} there: x is no such mistake")
    if value < tolerance:
        return search.start
    first = float(value / slope.norm()) if float(slope.norm()) else float(search.start.norm().clamp_min(1.0))
    found = search.by_newton()
    if found is None:
        found = search.along_rays([first * 2.0**k for k in range(-3, 11)])
    if found is None:
        raise ValueError(f"the boundary between the classes {predicted} and {true} is not reached from x")
    for _ in range(8):
        found = search.refined(found)
        radius = float((found - search.start).norm())
        nearer = search.along_rays([radius * part for part in (0.25, 0.5, 0.75, 0.9, 0.99)])
        if nearer is None:
            break
        found = nearer
    return found


class _Search:
    """For the nearest zero of d = f_predicted − f_true around a point where it is positive."""

    def __init__(self, logits: Outputs, start: Tensor, predicted: int, true: int, tolerance: float) -> None:
        self.start = start
        self._logits, self._classes, self._tolerance = logits, (predicted, true), tolerance

    def measure(self, value: Tensor, slope: Tensor) -> float:
        """Set the tolerance by the order of d around the start, where it and its slope are these; rounding bounds it below."""
        order = float(torch.maximum(value.abs(), slope.norm() * self.start.norm()))
        with torch.no_grad():
            largest = float(self._logits(self.start[None]).abs().max())
        least = 4 * torch.finfo(self.start.dtype).eps * largest
        self._tolerance = min(self._tolerance, max(self._tolerance * order, least))
        return self._tolerance

    def leads(self, points: Tensor) -> Tensor:
        """d (n,) at points (n, d)."""
        with torch.no_grad():
            outputs = self._logits(points)
        return outputs[:, self._classes[0]] - outputs[:, self._classes[1]]

    def lead(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """d () and ∇d (d,)."""

        def ahead(at: Tensor) -> Tensor:
            outputs = self._logits(at[None])[0]
            return outputs[self._classes[0]] - outputs[self._classes[1]]

        return _with_slope(ahead, point)

    def by_newton(self) -> Tensor | None:
        """A boundary point, by steps to the plane of the linear region that each leads to."""
        point = self.start
        for _ in range(30):
            value, slope = self.lead(point)
            if abs(value) < self._tolerance:
                return point
            if value < 0:
                return self.crossing(point)
            size = slope.square().sum()
            if float(size) == 0:
                return None
            point = point - (1 + 1e-6) * value / size * slope  # a little beyond: rounding must not end before it
        return None

    def crossing(self, beyond: Tensor) -> Tensor | None:
        """The first zero on the straight way from the start to a point where d is not positive."""
        low, high = 0.0, 1.0
        for _ in range(9):
            parts = torch.linspace(low, high, 33, dtype=self.start.dtype, device=self.start.device)
            values = self.leads(self.start + parts[:, None] * (beyond - self.start))
            values[-1] = values[-1].clamp(max=0)
            crossed = int((values <= 0).nonzero()[0])
            nearest = crossed - 1 if crossed and values[crossed - 1] < -values[crossed] else crossed
            if abs(values[nearest]) < self._tolerance / 2:
                return self.start + parts[nearest] * (beyond - self.start)
            low, high = float(parts[max(0, crossed - 1)]), float(parts[crossed])
        return None

    def along_rays(self, radii: list[float]) -> Tensor | None:
        """A boundary point on one of many rays from the start, the nearest at these radii; None if none crosses there."""
        generator = torch.Generator().manual_seed(0)
        normal = torch.randn(256, len(self.start), generator=generator, dtype=torch.float64).to(self.start)
        directions = torch.cat([normal, -normal]) / normal.norm(dim=1).repeat(2)[:, None]
        for radius in sorted(radii):
            points = self.start + radius * directions
            beyond = (self.leads(points) < 0).nonzero().flatten()
            if len(beyond):
                return self.crossing(points[beyond[0]])
        return None

    def refined(self, best: Tensor) -> Tensor:
        """A boundary point without a nearer one around it."""
        for _ in range(50):
            planes = [self._plane(best)]
            nearer = None
            while len(planes) <= 12:
                aim = self.start + _shortest_step(planes)
                if (aim - self.start).norm() >= (best - self.start).norm() * (1 - 1e-6):
                    break
                value = self.leads(aim[None])[0]
                if abs(value) < self._tolerance:
                    nearer = aim
                elif value < 0:
                    nearer = self.crossing(aim)
                if value < self._tolerance:
                    break
                planes.append(self._plane(aim))
            if nearer is None:
                break
            best = nearer
        return best

    def _plane(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """(n, h) of the zeros n·y + h = 0 of d as it is around the point; y from the start, n of length 1."""
        value, slope = self.lead(point)
        size = slope.norm().clamp_min(1e-300 if slope.dtype == torch.float64 else 1e-30)
        return slope / size, (value - slope @ (point - self.start)) / size


def _with_slope(of: Callable[[Tensor], Tensor], point: Tensor) -> tuple[Tensor, Tensor]:
    """A function's value () at a point (d,), and its gradient (d,) there; 0 where it does not depend on the point."""
    with torch.enable_grad():
        leaf = point.detach().requires_grad_()
        value = of(leaf)
        (slope,) = torch.autograd.grad(value, leaf, allow_unused=True) if value.requires_grad else (None,)
    return value.detach(), torch.zeros_like(point) if slope is None else slope


def _shortest_step(planes: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The shortest step y with n·y + h ≤ 0 for all planes, on one of them at least: by the active set."""
    normals = torch.stack([n for n, _ in planes])
    heights = torch.stack([h for _, h in planes])
    active = [int(heights.argmax())]
    step = torch.zeros_like(normals[0])
    for _ in range(3 * len(planes)):
        chosen = normals[active]
        weights = torch.linalg.pinv(chosen @ chosen.T, hermitian=True) @ heights[active]
        if float(weights.min()) < 0 and len(active) > 1:
            del active[int(weights.argmin())]
            continue
        step = -chosen.T @ weights
        left = normals @ step + heights
        worst = int(left.argmax())
        if worst in active or float(left[worst]) <= 1e-6 * float(heights.abs().max()):
            break
        active.append(worst)
    return step


def surface_point(outputs: Outputs, x: Tensor, target: Tensor, *, steps: int = 50) -> Tensor:
    """The input (d,) of a point on the surface (x, f(x)) with none nearer to (x, target) around it: x_fold of a regression.

    Within a linear region with the derivative J it is exactly x + Jᵀ(1 + JJᵀ)⁻¹(target − f(x)); beyond, Gauss-Newton steps are
    taken as long as they lead nearer. Where f is flat, it is x itself.

    :param outputs: differentiable, (n, d) → (n, c)
    :param x: (d,)
    :param target: (c,)
    """
    start = x.detach()

    def distance(point: Tensor) -> Tensor:
        return (point - start).square().sum() + (outputs(point[None])[0] - target).square().sum()

    point, nearest = start, distance(start)
    for _ in range(steps):
        jacobian = torch.autograd.functional.jacobian(lambda p: outputs(p[None])[0], point)
        missing = target - outputs(point[None])[0].detach() - jacobian @ (start - point)
        metric = torch.eye(len(missing), dtype=x.dtype, device=x.device) + jacobian @ jacobian.T
        aim = start + jacobian.T @ torch.linalg.solve(metric, missing)
        length = 1.0
        while length > 1e-3:  # a full step may leave the linear region
            tried = point + length * (aim - point)
            found = distance(tried)
            if found < nearest:
                break
            length /= 2
        else:
            break
        settled = bool((tried - point).norm() <= 1e-7 * (1 + point.norm()))
        point, nearest = tried.detach(), found.detach()
        if settled:
            break
    return point


def fold_regularization(weight: Tensor, bias: Tensor, x_mistake: Tensor, x_fold: Tensor) -> Tensor:
    """L_fold-reg (): the distances of the mistake and of the point folded at from the fold's hyperplane (Def. 5).

    :param weight: w (d,), or (k, d) of several units, whose terms are added
    :param bias: b (), or (k,)
    :param x_mistake: φ(x_mistake), shaped like w
    :param x_fold: φ(x_fold), likewise
    """
    points = torch.stack([x_mistake, x_fold])
    heights = (points * weight).sum(-1) + bias
    return (heights.abs().sum(0) / weight.norm(dim=-1).clamp_min(1e-12)).sum()


def alignment(gradient: Tensor, x_mistake: Tensor, x_fold: Tensor) -> Tensor:
    """cos(∂L/∂x, x_fold − x_mistake) () (Algorithm 1); 0 where one of them is zero."""
    return torch.nn.functional.cosine_similarity(gradient, x_fold - x_mistake, dim=0)


def ascend_in_ball(objective: Callable[[Tensor], Tensor], start: Tensor, *, radius: float, steps: int) -> Tensor:
    """Monotone gradient ascent of `objective` (d,) → () within ‖w‖ ≤ radius; where it is flat, the start.

    The bound is what gives E‖∂L/∂w‖ a maximum at all: it grows with w.
    """

    def bounded(w: Tensor) -> Tensor:
        return w * (radius / w.norm().clamp_min(max(radius, 1e-30)))

    point = bounded(start.detach())
    value, slope = _with_slope(objective, point)
    length = radius / 4
    for _ in range(steps):
        size = slope.norm()
        if float(size) * radius <= 1e-12 * (1 + abs(float(value))):  # flat but for rounding
            break
        tried = bounded(point + length * slope / size)
        found, ahead = _with_slope(objective, tried)
        if found > value:
            point, value, slope = tried, found, ahead
        else:
            length /= 2
    return point
