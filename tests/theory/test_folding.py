"""Points to fold at are on the boundary or the surface and no nearer one is found by brute force; regularizer and ascent.

Both searches are local at heart, so that "nearest" is a claim about most nets: how many, and what holds for every one of
them, is said by each test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from grow_cli.theory.folding import alignment, ascend_in_ball, boundary_point, fold_regularization, surface_point

DOUBLE = torch.float64
Outputs = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ReLUNet:
    """Weights and biases of each layer, in float64."""

    layers: list[tuple[Tensor, Tensor]]

    def __call__(self, x: Tensor) -> Tensor:
        for weight, bias in self.layers[:-1]:
            x = (x @ weight.to(x).T + bias.to(x)).relu()
        weight, bias = self.layers[-1]
        return x @ weight.to(x).T + bias.to(x)

    def pattern(self, x: Tensor) -> Tensor:
        """Which hidden units are active (n, units): the same in all of a linear region."""
        active = []
        for weight, bias in self.layers[:-1]:
            x = x @ weight.T + bias
            active.append(x > 0)
            x = x.relu()
        return torch.cat(active, 1)


@dataclass(frozen=True)
class Case:
    """A random net, an input, and the point found; None where the search says that it reaches none."""

    net: ReLUNet
    x: Tensor
    predicted: int
    true: int
    point: Tensor | None

    def leads(self, points: Tensor) -> Tensor:
        """d = f_predicted − f_true (n,)."""
        outputs = self.net(points)
        return outputs[:, self.predicted] - outputs[:, self.true]

    @property
    def distance(self) -> float:
        """Of the point from x."""
        assert self.point is not None
        return float((self.point - self.x).norm())

    def projection(self) -> tuple[Tensor, Tensor]:
        """x's point on the boundary plane of its linear region, x − d ∇d/‖∇d‖², and ∇d."""
        leaf = self.x.clone().requires_grad_()
        lead = self.leads(leaf[None])[0]
        (slope,) = torch.autograd.grad(lead, leaf)
        return self.x - lead.detach() * slope / slope.square().sum(), slope

    def in_region(self, points: Tensor) -> Tensor:
        """Which points (n, d) share x's linear region."""
        return (self.net.pattern(points) == self.net.pattern(self.x[None])).all(1)


def net(seed: int, inputs: int, hidden: tuple[int, ...], outputs: int) -> tuple[ReLUNet, Tensor]:
    """A random net, and a random input (d,)."""
    g = torch.Generator().manual_seed(seed)
    sizes, layers = (inputs, *hidden, outputs), []
    for reads, puts in pairwise(sizes):
        weight = torch.randn(puts, reads, generator=g, dtype=DOUBLE) * math.sqrt(2 / reads)
        layers.append((weight, 0.5 * torch.randn(puts, generator=g, dtype=DOUBLE)))
    return ReLUNet(layers), torch.randn(inputs, generator=g, dtype=DOUBLE)


@cache
def cases(inputs: int, hidden: tuple[int, ...], count: int) -> list[Case]:
    """From the likeliest of three classes to the second or the third."""
    found = []
    for seed in range(count):
        f, x = net(seed, inputs, hidden, 3)
        order = f(x[None])[0].argsort(descending=True).tolist()
        predicted, true = order[0], order[1 + seed % 2]
        try:
            point = boundary_point(f, x, predicted, true)
        except ValueError:
            point = None
        found.append(Case(f, x, predicted, true, point))
    return found


def in_the_plane() -> list[Case]:
    return [case for hidden in ((8,), (16,), (8, 8), (12, 12)) for case in cases(2, hidden, 30)]


def in_many_dimensions() -> list[Case]:
    shapes = ((20, (30,), 20), (20, (16, 16), 20), (784, (20,), 6), (784, (32, 32), 4))
    return [case for inputs, hidden, count in shapes for case in cases(inputs, hidden, count)]


def reached(found: list[Case]) -> list[Case]:
    return [case for case in found if case.point is not None]


def first_crossing(case: Case, radii: Tensor, rays: int = 360) -> float:
    """The first of the radii at which one of many rays in the plane has left the predicted class."""
    angle = torch.arange(rays, dtype=DOUBLE) * (2 * math.pi / rays)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    points = case.x + radii[:, None, None] * circle
    crossed = (case.leads(points.reshape(-1, 2)) <= 0).reshape(len(radii), rays).any(1).nonzero()
    return float(radii[crossed[0]]) if len(crossed) else math.inf


@pytest.mark.slow
def test_two_classes_are_equally_likely_at_the_point_found() -> None:
    plane, many = reached(in_the_plane()), reached(in_many_dimensions())
    assert len(plane) >= 90
    assert len(many) >= 48
    for case in plane + many:
        assert case.point is not None
        assert case.point.shape == case.x.shape
        assert abs(float(case.leads(case.point[None]))) < 1e-4


def test_where_the_step_to_the_plane_stays_in_the_linear_region_its_end_is_the_point() -> None:
    """Unless another region has a boundary nearer by: of 1 case in 20 at most."""
    ended = elsewhere = 0
    for case in reached(in_the_plane()) + reached(in_many_dimensions()):
        projected, _ = case.projection()
        if not case.in_region(projected[None]).all():
            continue
        away = float((projected - case.x).norm())
        assert case.distance <= away * (1 + 2e-6)
        if case.distance < away * (1 - 2e-6):
            elsewhere += 1
        else:
            torch.testing.assert_close(case.point, projected, rtol=0, atol=2e-6 * away)
            ended += 1
    assert ended >= 25
    assert elsewhere <= (ended + elsewhere) / 20


def test_the_linear_region_of_x_has_no_nearer_boundary() -> None:
    """In the plane, where that boundary is a segment: in 95 % of the nets none at all, and in none by more than 2 %."""
    short_of = []
    for case in reached(in_the_plane()):
        projected, slope = case.projection()
        along = torch.stack([-slope[1], slope[0]]) / slope.norm()
        segment = projected + torch.linspace(-1, 1, 2001, dtype=DOUBLE)[:, None] * case.distance * along
        segment = segment[case.in_region(segment)]
        if len(segment):
            assert float(case.leads(segment).abs().max()) < 1e-9
            short_of.append(case.distance / float((segment - case.x).norm(dim=1).min()))
    assert len(short_of) >= 20
    assert sum(ratio <= 1 + 1e-5 for ratio in short_of) >= 0.95 * len(short_of)
    assert max(short_of) < 1.02


def test_no_ray_from_x_meets_a_boundary_much_nearer() -> None:
    """By 5 % or more in 5 % of the nets at most, and in none by more than a half."""
    found = reached(in_the_plane())
    shares = torch.linspace(0, 1, 61, dtype=DOUBLE)[1:]
    short_of = [case.distance / min(case.distance, first_crossing(case, shares * case.distance)) for case in found]
    assert sum(ratio < 1.05 for ratio in short_of) >= 0.95 * len(short_of)
    assert max(short_of) < 1.5


def test_where_no_boundary_is_reached_no_ray_meets_one() -> None:
    missing = [case for case in in_the_plane() if case.point is None]
    assert len(missing) >= 5
    for case in missing:
        radii = torch.logspace(-2, 2, 60, dtype=DOUBLE)
        assert first_crossing(case, radii) == math.inf


def test_in_many_dimensions_a_boundary_is_always_reached() -> None:
    assert len(reached(in_many_dimensions())) == len(in_many_dimensions())


@pytest.mark.parametrize("dimension", [2, 50, 784])
def test_a_boundary_beyond_a_flat_region_is_found(dimension: int) -> None:
    towards = torch.zeros(dimension, dtype=DOUBLE)
    towards[:2] = torch.tensor([0.6, -0.8])

    def plateau(points: Tensor) -> Tensor:
        return torch.stack([1 - (points @ towards - 1).relu(), torch.zeros_like(points[:, 0])], 1)

    start = torch.zeros(dimension, dtype=DOUBLE)
    torch.testing.assert_close(boundary_point(plateau, start, 0, 1), 2 * towards, rtol=0, atol=2e-4)


def test_the_nearer_of_two_boundaries_is_found_though_the_first_step_leads_to_the_other() -> None:
    """The lead falls slowly to the right, where it ends at 3, and steeply to the left of −1, where it ends at −1.1."""

    def two(points: Tensor) -> Tensor:
        right, left = 3 - points[:, 0], 40 * (points[:, 0] + 1.1)
        return torch.stack([torch.minimum(right, left), torch.zeros_like(right)], 1)

    found = boundary_point(two, torch.zeros(2, dtype=DOUBLE), 0, 1)
    torch.testing.assert_close(found, torch.tensor([-1.1, 0.0], dtype=DOUBLE), rtol=0, atol=1e-4)


def test_the_tolerance_is_that_of_the_lead() -> None:
    for tolerance in (1e-2, 1e-8):
        for case in cases(2, (8,), 30):
            if case.point is not None:
                point = boundary_point(case.net, case.x, case.predicted, case.true, tolerance=tolerance)
                assert abs(float(case.leads(point[None]))) < tolerance


def test_an_input_on_the_boundary_is_its_own_nearest_point() -> None:
    for case in reached(cases(2, (8, 8), 30)):
        assert case.point is not None
        there = case.point if case.leads(case.point[None]) >= 0 else None
        if there is not None:
            assert torch.equal(boundary_point(case.net, there, case.predicted, case.true), there)
    f = ReLUNet([(torch.eye(2, dtype=DOUBLE), torch.zeros(2, dtype=DOUBLE))])
    x = torch.ones(2, dtype=DOUBLE)
    assert torch.equal(boundary_point(f, x, 0, 1), x)


def test_single_precision_gives_nearly_the_same_point() -> None:
    """In the plane; in many dimensions local searches may end at another boundary, at most a fifth farther away."""
    for case in reached(in_the_plane())[::3] + reached(in_many_dimensions())[::2]:
        single = boundary_point(case.net, case.x.float(), case.predicted, case.true)
        assert single.dtype == torch.float32
        assert abs(float(case.leads(single[None].double()))) < 2e-4
        ratio = float((single - case.x).norm()) / case.distance
        assert ratio == pytest.approx(1, abs=1e-3 if len(case.x) == 2 else 0.2)


def test_it_needs_no_gradient_mode_and_leaves_no_gradient() -> None:
    case = reached(cases(2, (8,), 30))[0]
    tensors = [tensor.requires_grad_() for layer in case.net.layers for tensor in layer]
    try:
        with torch.no_grad():
            point = boundary_point(case.net, case.x, case.predicted, case.true)
    finally:
        for tensor in tensors:
            tensor.requires_grad_(False)
    assert torch.equal(point, case.point)
    assert not point.requires_grad
    assert all(tensor.grad is None for tensor in tensors)


def test_what_is_classified_right_is_no_mistake() -> None:
    for case in in_the_plane()[::10]:
        with pytest.raises(
            ValueError, match=f"class {case.predicted} is ahead of class {case.true} there: x is no such"
        ):
            boundary_point(case.net, case.x, case.true, case.predicted)


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_a_lead_that_is_the_same_everywhere_has_no_boundary(slope: float) -> None:
    def constant_lead(points: Tensor) -> Tensor:
        return slope * points.sum(1, keepdim=True) + torch.tensor([0.0, 0.5, 1.5], dtype=points.dtype)

    with pytest.raises(ValueError, match="the boundary between the classes 2 and 1 is not reached from x"):
        boundary_point(constant_lead, torch.ones(3, dtype=DOUBLE), 2, 1)


def test_a_lead_that_only_comes_near_to_zero_has_no_boundary() -> None:
    def valley(points: Tensor) -> Tensor:
        return torch.stack([0.1 + (points[:, 0] - 1).abs(), torch.zeros_like(points[:, 0])], 1)

    with pytest.raises(ValueError, match="is not reached"):
        boundary_point(valley, torch.zeros(2, dtype=DOUBLE), 0, 1)


@pytest.mark.parametrize(("d", "c"), [(1, 1), (3, 1), (2, 3), (5, 2)])
def test_on_an_affine_map_the_surface_point_is_the_orthogonal_projection_on_its_graph(d: int, c: int) -> None:
    g = torch.Generator().manual_seed(d)
    for _ in range(5):
        matrix, offset = torch.randn(c, d, generator=g, dtype=DOUBLE), torch.randn(c, generator=g, dtype=DOUBLE)
        x, target = torch.randn(d, generator=g, dtype=DOUBLE), torch.randn(c, generator=g, dtype=DOUBLE)
        point = surface_point(lambda p, a=matrix, b=offset: p @ a.T + b, x, target)
        # the graph is {(p, Ap + b)}: the least-squares solution of [1; A] p = [x; target − b]
        tangents, wanted = torch.cat([torch.eye(d, dtype=DOUBLE), matrix]), torch.cat([x, target - offset])
        torch.testing.assert_close(point, torch.linalg.lstsq(tangents, wanted[:, None]).solution[:, 0])
        assert (tangents.T @ (wanted - tangents @ point)).abs().max() < 1e-10, "it is orthogonal"
        assert (point - x).norm() > 1e-2


@dataclass(frozen=True)
class Regression:
    """A random net of one input, and a target for it that is off by about 2."""

    net: ReLUNet
    x: Tensor
    target: Tensor
    point: Tensor

    def away(self, points: Tensor) -> Tensor:
        """From (x, target) to the surface at points (n, 1)."""
        return ((points - self.x).square().sum(1) + (self.net(points) - self.target).square().sum(1)).sqrt()


@cache
def regressions(hidden: tuple[int, ...], count: int = 50) -> list[Regression]:
    found = []
    for seed in range(count):
        f, x = net(seed, 1, hidden, 1)
        target = f(x[None])[0] + 2 * torch.randn(1, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
        found.append(Regression(f, x, target, surface_point(f, x, target)))
    return found


@pytest.mark.parametrize("hidden", [(12,), (8, 8)])
def test_the_surface_point_is_nearer_than_x_and_than_its_neighbours(hidden: tuple[int, ...]) -> None:
    moved = 0
    for case in regressions(hidden):
        at_x, found = float(case.away(case.x[None])), float(case.away(case.point[None]))
        assert found <= at_x
        moved += found < at_x
        neighbours = case.point + torch.linspace(-0.01, 0.01, 401, dtype=DOUBLE)[:, None]
        assert found <= float(case.away(neighbours).min()) * (1 + 1e-3)
    assert moved >= 0.9 * len(regressions(hidden))


@pytest.mark.parametrize("hidden", [(12,), (8, 8)])
def test_on_most_nets_no_point_of_the_surface_is_nearer(hidden: tuple[int, ...]) -> None:
    """None by more than a thousandth in 90 %; the others end in a local minimum, none of them half as far again."""
    ratios = []
    for case in regressions(hidden):
        reach = float(case.away(case.x[None]))  # nothing farther in x can be nearer
        grid = case.x + reach * torch.linspace(-1, 1, 10_001, dtype=DOUBLE)[:, None]
        ratios.append(float(case.away(case.point[None])) / float(case.away(grid).min()))
    assert sum(ratio <= 1 + 1e-3 for ratio in ratios) >= 0.9 * len(ratios)
    assert max(ratios) < 1.5


def test_with_several_inputs_and_outputs_the_surface_point_is_never_farther_than_x() -> None:
    for seed in range(20):
        f, x = net(seed, 4, (10,), 2)
        target = f(x[None])[0] + torch.randn(2, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
        point = surface_point(f, x, target)
        away = (point - x).square().sum() + (f(point[None])[0] - target).square().sum()
        assert away < (f(x[None])[0] - target).square().sum()


def test_where_the_surface_is_flat_or_met_the_surface_point_is_x() -> None:
    x = torch.tensor([-1.0, -2.0], dtype=DOUBLE)
    assert torch.equal(surface_point(lambda p: p.relu(), x, torch.ones(2, dtype=DOUBLE)), x)
    constant = torch.zeros(1, 2, dtype=DOUBLE)
    assert torch.equal(surface_point(lambda p: constant.expand(len(p), 2), x, torch.ones(2, dtype=DOUBLE)), x)
    assert torch.equal(surface_point(lambda p: p.sin(), x, x.sin()), x)


def literal_regularization(w: Tensor, b: float, mistake: Tensor, at_fold: Tensor) -> float:
    """Definition 5, number by number."""
    heights = [abs(sum(float(a) * float(p) for a, p in zip(w, point, strict=True)) + b) for point in (mistake, at_fold)]
    return sum(heights) / math.sqrt(sum(float(a) ** 2 for a in w))


def units(seed: int, k: int, d: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    w, mistake, at_fold = (torch.randn(k, d, generator=g, dtype=DOUBLE) for _ in range(3))
    return w, torch.randn(k, generator=g, dtype=DOUBLE), mistake, at_fold


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_definition_5_for_one_unit_and_its_sum_for_several(k: int) -> None:
    w, b, mistake, at_fold = units(k, k)
    literal = [literal_regularization(w[i], float(b[i]), mistake[i], at_fold[i]) for i in range(k)]
    for i in range(k):
        alone = fold_regularization(w[i], b[i], mistake[i], at_fold[i])
        assert alone.shape == ()
        assert float(alone) == pytest.approx(literal[i], rel=1e-12)
    together = fold_regularization(w, b, mistake, at_fold)
    assert together.shape == ()
    assert float(together) == pytest.approx(sum(literal), rel=1e-12)


@pytest.mark.parametrize("factor", [1e-3, 0.5, 100.0])
def test_the_regularizer_does_not_depend_on_the_scale_of_weight_and_bias(factor: float) -> None:
    w, b, mistake, at_fold = units(0, 3)
    plain = fold_regularization(w, b, mistake, at_fold)
    torch.testing.assert_close(fold_regularization(factor * w, factor * b, mistake, at_fold), plain)
    scales = torch.tensor([factor, 1.0, 2.0], dtype=DOUBLE)
    torch.testing.assert_close(fold_regularization(scales[:, None] * w, scales * b, mistake, at_fold), plain)


def test_the_regularizer_is_zero_where_both_points_lie_on_the_hyperplane() -> None:
    w, b, mistake, at_fold = units(1, 4)
    on = [p - ((p * w).sum(1) + b)[:, None] * w / w.square().sum(1, keepdim=True) for p in (mistake, at_fold)]
    assert float(fold_regularization(w, b, *on)) < 1e-12
    assert float(fold_regularization(w, b, on[0], at_fold)) > 0.1
    assert float(fold_regularization(w, b, mistake, on[1])) > 0.1


def test_the_regularizers_gradient_is_finite_and_descends() -> None:
    w, b, mistake, at_fold = units(2, 3)
    w.requires_grad_()
    b.requires_grad_()
    before = fold_regularization(w, b, mistake, at_fold)
    slope_w, slope_b = torch.autograd.grad(before, (w, b))
    assert torch.isfinite(slope_w).all()
    assert torch.isfinite(slope_b).all()
    along = (w.detach() * slope_w).sum(1) + b.detach() * slope_b
    assert along.abs().max() < 1e-12, "no push towards larger or smaller weights"
    after = fold_regularization(w.detach() - 1e-4 * slope_w, b.detach() - 1e-4 * slope_b, mistake, at_fold)
    steepness = float(slope_w.square().sum() + slope_b.square().sum())
    assert float(before.detach() - after) == pytest.approx(1e-4 * steepness, rel=0.01)


def test_the_regularizers_gradient_is_finite_on_the_hyperplane_and_without_weights() -> None:
    for w, b, points in (
        (torch.tensor([1.0, 0.0]), torch.tensor(0.0), torch.tensor([0.0, 3.0])),
        (torch.zeros(2), torch.tensor(1.0), torch.tensor([0.5, 3.0])),
        (torch.zeros(2), torch.tensor(0.0), torch.tensor([0.5, 3.0])),
    ):
        w.requires_grad_()
        b.requires_grad_()
        loss = fold_regularization(w, b, points, points)
        assert torch.isfinite(loss)
        for slope in torch.autograd.grad(loss, (w, b)):
            assert torch.isfinite(slope).all()


def test_the_alignment_is_the_cosine_with_the_way_from_the_mistake_to_the_fold() -> None:
    g = torch.Generator().manual_seed(0)
    gradient, mistake, at_fold = (torch.randn(6, generator=g, dtype=DOUBLE) for _ in range(3))
    way = at_fold - mistake
    literal = float((gradient * way).sum()) / math.sqrt(float(gradient.square().sum()) * float(way.square().sum()))
    assert float(alignment(gradient, mistake, at_fold)) == pytest.approx(literal, rel=1e-12)
    assert float(alignment(5 * way, mistake, at_fold)) == pytest.approx(1, rel=1e-12)
    assert float(alignment(-way, mistake, at_fold)) == pytest.approx(-1, rel=1e-12)
    assert float(alignment(0 * gradient, mistake, at_fold)) == 0
    assert float(alignment(gradient, mistake, mistake)) == 0


def wavy(w: Tensor) -> Tensor:
    """With many maxima, inside the ball and on its surface."""
    return (3 * w).sin().sum() + 0.5 * (w[:-1] * w[1:]).sum()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [0.1, 5.0])
def test_the_ascent_stays_in_the_ball_and_never_goes_down(seed: int, size: float) -> None:
    radius = 1.5
    start = torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    start *= size / start.norm()
    asked: list[Tensor] = []

    def watched(w: Tensor) -> Tensor:
        asked.append(w.detach().clone())
        return wavy(w)

    inside = start * min(1.0, radius / float(start.norm()))
    values = []
    for steps in (0, 1, 2, 5, 20, 100):
        point = ascend_in_ball(watched, start, radius=radius, steps=steps)
        assert float(point.norm()) <= radius * (1 + 1e-12)
        values.append(wavy(point))
    torch.testing.assert_close(values[0], wavy(inside))
    assert all(later >= earlier for earlier, later in pairwise(values))
    assert values[-1] > values[0] + 0.1
    assert max(float(w.norm()) for w in asked) <= radius * (1 + 1e-12), "nor is it asked for outside"


@pytest.mark.parametrize("seed", range(6))
def test_the_ascent_reaches_the_maximum_of_a_linear_objective(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    slope, start = (torch.randn(5, generator=g, dtype=DOUBLE) for _ in range(2))
    for begin in (start, -1e3 * slope, torch.zeros(5, dtype=DOUBLE)):
        point = ascend_in_ball(lambda w: w @ slope, begin, radius=0.7, steps=100)
        assert float(point @ slope) == pytest.approx(0.7 * float(slope.norm()), rel=1e-9)
        torch.testing.assert_close(point, 0.7 * slope / slope.norm(), rtol=0, atol=1e-4)


def test_the_ascent_reaches_a_maximum_inside_the_ball() -> None:
    top = torch.tensor([0.3, -0.2, 0.1], dtype=DOUBLE)
    point = ascend_in_ball(lambda w: -(w - top).square().sum(), torch.ones(3, dtype=DOUBLE), radius=2.0, steps=100)
    torch.testing.assert_close(point, top, rtol=0, atol=1e-4)


def test_on_a_flat_objective_the_ascent_returns_the_start() -> None:
    start, other = torch.tensor([0.6, -0.8], dtype=DOUBLE), torch.tensor(2.0, requires_grad=True)
    objectives: list[Outputs] = [
        lambda w: 0 * w.sum(),
        lambda w: (w - 5).relu().sum(),
        lambda w: torch.tensor(1.0),
        lambda w: other * 3,
    ]
    for objective in objectives:
        assert torch.equal(ascend_in_ball(objective, start, radius=2.0, steps=10), start)
        bounded = ascend_in_ball(objective, start, radius=0.5, steps=10)
        torch.testing.assert_close(bounded, start / 2)
    assert other.grad is None


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3, 1e6])
def test_the_boundary_point_does_not_depend_on_the_scale_of_the_logits(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        weight = torch.randn(3, 4, generator=generator, dtype=DOUBLE)
        x = torch.randn(4, generator=generator, dtype=DOUBLE)
        order = (weight @ x).argsort(descending=True).tolist()
        normal = weight[order[0]] - weight[order[1]]
        nearest = x - (normal @ x) / normal.square().sum() * normal
        found = boundary_point(lambda z, w=weight: scale * (z @ w.T), x, order[0], order[1])
        torch.testing.assert_close(found, nearest, rtol=0, atol=1e-3 * float((nearest - x).norm()) + 2e-4)
