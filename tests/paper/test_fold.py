"""Fold's theorems 3 to 5 and Definition 5 on nets that the project's own surgery grows, against literal float64 references.

Theorem 4 speaks of what the grown layer's consumer puts out, which are the net's outputs where the last hidden layer grows.
Theorem 5 takes ∂L/∂f as it is: exact on the fold, or with ∂L/∂f of the grown net. What the unit changes in ∂L/∂f itself comes
on top. And where the last hidden layer grows, cross-entropy sees nothing of a unit with equal outgoing weights.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from growing_nets import spec
from torch import Tensor
from torch.nn import functional as F

from grow_cli.models.mlp import MLPOption
from grow_cli.models.modules.layers import LinearMap
from grow_cli.models.modules.network import GrowableModel
from grow_cli.surgery.apply import apply
from grow_cli.surgery.proposal import WidthProposal
from grow_cli.theory.folding import boundary_point, fold_regularization

SEEDS = range(4)
INPUTS, CLASSES = 3, 4
SHALLOW, DEEP = ((7,), 0), ((9, 6), 1)
"""Hidden units and the layer that grows, the last."""
INNER = ((9, 6), 0)
ROUNDING = 1e-11
"""Of outputs and gradients about 1: sums of seven and of eight numbers are not added up in the same order."""
Loss = Callable[[Tensor], Tensor]
"""(n, c) → ()."""


def net(hidden: tuple[int, ...], seed: int) -> GrowableModel:
    torch.manual_seed(seed)
    model = MLPOption(hidden=list(hidden)).build(spec((INPUTS,), outputs=CLASSES)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def linears(model: GrowableModel) -> list[LinearMap]:
    sites = model.width_sites()
    return [site.producer for site in sites] + [sites[-1].consumer]


def height(model: GrowableModel, layer: int, x: Tensor) -> Tensor:
    """The layer's pre-activations, written by hand; those after the last hidden layer are the outputs."""
    for linear in linears(model)[:layer]:
        x = (x @ linear.weight.T + linear.bias).relu()
    last = linears(model)[layer]
    return x @ last.weight.T + last.bias


def phi(model: GrowableModel, layer: int, x: Tensor) -> Tensor:
    """What the layer reads."""
    return height(model, layer - 1, x).relu() if layer else x


def pulled_back(model: GrowableModel, layer: int, x: Tensor, w: Tensor) -> Tensor:
    """J_φ(x)ᵀ w (n, d), with J_φ the product of the weights and the open gates; of one layer at most."""
    if layer == 0:
        return w.expand(len(x), -1)
    assert layer == 1
    first = linears(model)[0].weight.detach()
    return ((height(model, 0, x) > 0) * w) @ first


@dataclass(frozen=True)
class Fold:
    """A net, a mistake, and the unit that folds at the boundary nearest to it (Definition 3)."""

    before: GrowableModel
    after: GrowableModel
    layer: int
    mistake: Tensor
    predicted: int
    true: int
    x_fold: Tensor
    weight: Tensor
    bias: Tensor
    outgoing: Tensor

    def preactivation(self, x: Tensor) -> Tensor:
        """The unit's, s (n,)."""
        return phi(self.before, self.layer, x) @ self.weight + self.bias

    def on_both_sides(self, seed: int, n: int = 200) -> Tensor:
        """Samples (n, d) around the fold, many of them on each side."""
        g = torch.Generator().manual_seed(100 + seed)
        x = self.x_fold + torch.randn(n, INPUTS, generator=g, dtype=torch.float64)
        reached = self.preactivation(x)
        active = int((reached > 0).sum())
        assert n // 20 < active < n - n // 20
        assert reached.abs().min() > 1e-6, "none so near that rounding decides"
        return x


def fold(case: tuple[tuple[int, ...], int], seed: int, *, outgoing: Tensor | None = None, shift: float = 0.0) -> Fold:
    """Grown at a random mistake, with a random incoming vector; `shift` is added to the bias that folds at x_fold."""
    hidden, layer = case
    before = net(hidden, seed).requires_grad_(False)
    g = torch.Generator().manual_seed(seed)
    for _ in range(100):
        x = torch.randn(INPUTS, generator=g, dtype=torch.float64)
        order = before(x[None])[0].argsort(descending=True).tolist()
        try:
            x_fold = boundary_point(before, x, order[0], order[1])
        except ValueError:
            continue
        if not layer or (height(before, 0, x_fold[None]) > 0).sum() >= 2:  # else hardly anything reaches the unit
            break
    width = linears(before)[layer].weight.shape[1]
    w = torch.randn(width, generator=g, dtype=torch.float64)
    reader = linears(before)[layer + 1].weight.shape[0]
    drawn = torch.randn(reader, generator=g, dtype=torch.float64)
    out = drawn if outgoing is None else outgoing
    b = -(w @ phi(before, layer, x_fold[None])[0]) + shift
    after = deepcopy(before)
    apply(WidthProposal(after.width_sites()[layer], w[None], b[None], out[:, None]), after, None)
    return Fold(before, after.requires_grad_(False), layer, x, order[0], order[1], x_fold, w, b, out)


def slopes(model: GrowableModel, x: Tensor, outgoing: Tensor) -> Tensor:
    """J(x)ᵀ g (n, d) for ∂L/∂f = g (n, c)."""
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf), leaf, outgoing)[0]


def losses(seed: int, n: int) -> dict[str, Loss]:
    """Added up over samples, so that a sample's derivative is its own."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (n,), generator=g)
    values = torch.randn(n, CLASSES, generator=g, dtype=torch.float64)
    return {
        "cross-entropy": lambda f: F.cross_entropy(f, y, reduction="sum"),
        "squared error": lambda f: F.mse_loss(f, values, reduction="sum"),
    }


def by_outputs(loss: Loss, outputs: Tensor) -> Tensor:
    """∂L/∂f (n, c)."""
    leaf = outputs.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def by_inputs(loss: Loss, model: GrowableModel, x: Tensor) -> Tensor:
    """∂L/∂x (n, d)."""
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(loss(model(leaf)), leaf)[0]


def jumps(values: Tensor) -> list[int]:
    """Between which neighbours along a line the rows differ."""
    return ((values[1:] - values[:-1]).abs().amax(1) > 1e-9).nonzero().flatten().tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_theorem_3_the_new_crease_is_the_hyperplane_through_x_fold_and_lies_nowhere_else(seed: int) -> None:
    found = fold(SHALLOW, seed)
    g = torch.Generator().manual_seed(seed)
    t = torch.linspace(-3, 3, 400, dtype=torch.float64)  # without 0
    crossed = 0
    for away in (0.0, 0.0, 1.0, 1.0, 1.0):
        middle = found.x_fold + away * torch.randn(INPUTS, generator=g, dtype=torch.float64)
        direction = torch.randn(INPUTS, generator=g, dtype=torch.float64)
        x = middle + t[:, None] * direction
        where = -(found.weight @ middle + found.bias) / (found.weight @ direction)  # w·x + b = 0
        expected = [int((t < where).sum()) - 1] if abs(where) < 3 else []
        for output in range(CLASSES):
            one = F.one_hot(torch.full((len(x),), output), CLASSES).double()
            added = slopes(found.after, x, one) - slopes(found.before, x, one)
            assert jumps(added) == expected, "of what the unit adds to the gradient"
            assert set(expected) <= set(jumps(slopes(found.after, x, one))), "of the gradient itself"
        crossed += len(expected)
    assert crossed >= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_theorem_3_across_the_crease_the_gradient_jumps_by_w_times_the_outgoing_weight(seed: int) -> None:
    found = fold(SHALLOW, seed)
    g = torch.Generator().manual_seed(seed)
    normal = found.weight / found.weight.norm()
    along = torch.randn(50, INPUTS, generator=g, dtype=torch.float64)
    points = found.x_fold + along - (along @ normal)[:, None] * normal
    assert found.preactivation(points).abs().max() < 1e-12
    for output in range(CLASSES):
        one = F.one_hot(torch.full((50,), output), CLASSES).double()
        for model, height_of_jump in ((found.before, 0.0), (found.after, float(found.outgoing[output]))):
            jump = slopes(model, points + 1e-7 * normal, one) - slopes(model, points - 1e-7 * normal, one)
            torch.testing.assert_close(jump, (height_of_jump * found.weight).expand(50, -1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", [SHALLOW, DEEP])
@pytest.mark.parametrize("seed", SEEDS)
def test_theorem_3_outgoing_weights_do_not_move_the_crease(seed: int, case: tuple[tuple[int, ...], int]) -> None:
    sides = []
    for factor in (1.0, -20.0, 1e-3):
        found = fold(case, seed, outgoing=factor * torch.arange(1, CLASSES + 1, dtype=torch.float64))
        x = found.on_both_sides(seed)
        moved = (found.after(x) - found.before(x)).abs().amax(1) > ROUNDING
        assert torch.equal(moved, found.preactivation(x) > 0)
        assert abs(float(found.preactivation(found.x_fold[None]))) < 1e-12
        lead = found.after(found.x_fold[None])[0]
        assert abs(float(lead[found.predicted] - lead[found.true])) < 1e-4, "it folds on the decision boundary"
        sides.append(moved)
    assert torch.equal(sides[0], sides[1])
    assert torch.equal(sides[0], sides[2])


@pytest.mark.parametrize("seed", SEEDS)
def test_theorem_3_in_a_deep_net_the_crease_is_where_the_units_pre_activation_is_zero(seed: int) -> None:
    found = fold(DEEP, seed)
    x = found.on_both_sides(seed)
    active = found.preactivation(x) > 0
    for output in range(CLASSES):
        one = F.one_hot(torch.full((len(x),), output), CLASSES).double()
        added = slopes(found.after, x, one) - slopes(found.before, x, one)
        expected = found.outgoing[output] * active[:, None] * pulled_back(found.before, 1, x, found.weight)
        torch.testing.assert_close(added, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", [SHALLOW, DEEP, INNER])
@pytest.mark.parametrize("seed", SEEDS)
def test_theorem_4_the_displacement_is_the_units_activation_times_its_outgoing_weights(
    seed: int, case: tuple[tuple[int, ...], int]
) -> None:
    found = fold(case, seed)
    x = found.on_both_sides(seed)
    s = torch.stack(
        [sum(w * a for w, a in zip(found.weight, row, strict=True)) for row in phi(found.before, found.layer, x)]
    )
    expected = (s + found.bias).clamp_min(0)[:, None] * found.outgoing[None, :]
    layer = found.layer + 1
    moved = height(found.after, layer, x) - height(found.before, layer, x)
    torch.testing.assert_close(moved, expected, rtol=1e-10, atol=1e-10)
    outputs = len(linears(found.after)) - 1
    for model in (found.before, found.after):
        torch.testing.assert_close(model(x), height(model, outputs, x), rtol=1e-12, atol=1e-12)
    if layer == outputs:
        torch.testing.assert_close(found.after(x) - found.before(x), expected, rtol=1e-10, atol=1e-10)
    else:
        assert (found.after(x) - found.before(x)).abs().max() > 1e-3


@pytest.mark.parametrize("case", [SHALLOW, DEEP])
@pytest.mark.parametrize("kind", ["cross-entropy", "squared error"])
@pytest.mark.parametrize("seed", SEEDS)
def test_theorem_5_the_input_gradient_is_perturbed_by_w_pulled_back(
    seed: int, kind: str, case: tuple[tuple[int, ...], int]
) -> None:
    found = fold(case, seed)
    x = found.on_both_sides(seed)
    loss = losses(seed, len(x))[kind]
    g = by_outputs(loss, found.after(x))
    back = pulled_back(found.before, found.layer, x, found.weight)
    expected = (g @ found.outgoing * (found.preactivation(x) > 0))[:, None] * back
    perturbed = by_inputs(loss, found.after, x) - slopes(found.before, x, g)
    torch.testing.assert_close(perturbed, expected, rtol=1e-9, atol=1e-9)
    assert expected.abs().max() > 0.1


@pytest.mark.parametrize("case", [SHALLOW, DEEP])
@pytest.mark.parametrize("kind", ["cross-entropy", "squared error"])
@pytest.mark.parametrize("seed", SEEDS)
def test_theorem_5_is_the_whole_jump_of_the_input_gradient_at_the_fold(
    seed: int, kind: str, case: tuple[tuple[int, ...], int]
) -> None:
    found = fold(case, seed)
    point = found.x_fold[None]
    normal = pulled_back(found.before, found.layer, point, found.weight)
    assert normal.norm() > 1e-3
    inside = point + 1e-7 * normal / normal.norm()
    back = pulled_back(found.before, found.layer, inside, found.weight)
    assert float(found.preactivation(inside)) > 0
    loss = losses(seed, 1)[kind]
    jump = by_inputs(loss, found.after, inside) - by_inputs(loss, found.before, inside)
    g = by_outputs(loss, found.before(point))
    torch.testing.assert_close(jump, (g @ found.outgoing)[:, None] * back, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", [SHALLOW, DEEP])
@pytest.mark.parametrize("kind", ["cross-entropy", "squared error"])
@pytest.mark.parametrize("seed", SEEDS)
def test_theorem_5_leaves_out_what_the_unit_changes_in_the_losss_derivative(
    seed: int, kind: str, case: tuple[tuple[int, ...], int]
) -> None:
    found = fold(case, seed)
    x = found.on_both_sides(seed)
    loss = losses(seed, len(x))[kind]
    before, after = by_outputs(loss, found.before(x)), by_outputs(loss, found.after(x))
    back = pulled_back(found.before, found.layer, x, found.weight)
    active = (found.preactivation(x) > 0)[:, None]
    whole = by_inputs(loss, found.after, x) - by_inputs(loss, found.before, x)
    formula = (before @ found.outgoing)[:, None] * active * back
    missing = slopes(found.before, x, after - before) + ((after - before) @ found.outgoing)[:, None] * active * back
    torch.testing.assert_close(whole, formula + missing, rtol=1e-9, atol=1e-9)
    assert missing.norm() > 0.05 * whole.norm()
    assert float((whole * ~active).abs().max()) < ROUNDING, "and none of it where the unit is off"


@pytest.mark.parametrize("case", [SHALLOW, DEEP])
@pytest.mark.parametrize("seed", SEEDS)
def test_theorem_5_the_bias_only_says_where_the_unit_is_active(seed: int, case: tuple[tuple[int, ...], int]) -> None:
    """With a loss that is linear in the outputs, so that ∂L/∂f stays as it is."""
    folds = [fold(case, seed, shift=shift) for shift in (0.0, 0.5, 2.0)]
    x = folds[0].on_both_sides(seed)
    g = torch.randn(CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).expand(len(x), -1)
    changes = [slopes(found.after, x, g) - slopes(found.before, x, g) for found in folds]
    active = [found.preactivation(x) > 0 for found in folds]
    for change, on in zip(changes[1:], active[1:], strict=True):
        torch.testing.assert_close(change[active[0]], changes[0][active[0]], rtol=1e-10, atol=1e-10)
        assert float((change * ~on[:, None]).abs().max()) < ROUNDING
        switched = on & ~active[0]
        assert float((change - changes[0])[switched].norm(dim=1).median()) > 1e-3, "where it becomes active"


def grown_gradients(found: Fold, loss: Loss, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """∂L/∂w (d,), ∂L/∂b () and ∂L/∂w_out (c,) of the unit."""
    producer, consumer = linears(found.after)[found.layer : found.layer + 2]
    assert producer.bias is not None
    tensors = [producer.weight, producer.bias, consumer.weight]
    for tensor in tensors:
        tensor.requires_grad_()
    weight, bias, outgoing = torch.autograd.grad(loss(found.after(x)), tensors)
    for tensor in tensors:
        tensor.requires_grad_(False)
    return weight[-1], bias[-1], outgoing[:, -1]


@pytest.mark.parametrize("case", [SHALLOW, DEEP])
@pytest.mark.parametrize("alpha", [0.3, -2.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_cross_entropy_sees_nothing_of_a_unit_with_equal_outgoing_weights(
    seed: int, alpha: float, case: tuple[tuple[int, ...], int]
) -> None:
    found = fold(case, seed, outgoing=torch.full((CLASSES,), alpha, dtype=torch.float64))
    x = found.on_both_sides(seed)
    loss = losses(seed, len(x))["cross-entropy"]
    assert (found.after(x) - found.before(x)).abs().max() > 0.1, "the outputs do move"
    assert by_outputs(loss, found.after(x)).sum(1).abs().max() < 1e-12
    assert float(loss(found.after(x))) == pytest.approx(float(loss(found.before(x))), rel=1e-12)
    slope = by_inputs(loss, found.before, x)
    torch.testing.assert_close(by_inputs(loss, found.after, x), slope, rtol=1e-9, atol=1e-9)
    weight, bias, outgoing = grown_gradients(found, loss, x)
    assert weight.abs().max() < 1e-10
    assert abs(float(bias)) < 1e-10
    assert outgoing.norm() > 0.1, "only the outgoing weights can learn"


@pytest.mark.parametrize("case", [SHALLOW, DEEP])
@pytest.mark.parametrize("alpha", [0.3, -2.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_squared_error_does_see_a_unit_with_equal_outgoing_weights(
    seed: int, alpha: float, case: tuple[tuple[int, ...], int]
) -> None:
    found = fold(case, seed, outgoing=torch.full((CLASSES,), alpha, dtype=torch.float64))
    x = found.on_both_sides(seed)
    loss = losses(seed, len(x))["squared error"]
    before = float(loss(found.before(x)))
    assert abs(float(loss(found.after(x))) - before) > 1e-4 * before
    slope = by_inputs(loss, found.before, x)
    assert (by_inputs(loss, found.after, x) - slope).norm() > 1e-3 * slope.norm()
    weight, bias, _ = grown_gradients(found, loss, x)
    assert weight.norm() > 0.1
    assert abs(float(bias)) > 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_cross_entropy_does_see_it_in_an_earlier_layer(seed: int) -> None:
    found = fold(INNER, seed, outgoing=torch.full((6,), 0.3, dtype=torch.float64))
    x = found.on_both_sides(seed)
    loss = losses(seed, len(x))["cross-entropy"]
    assert abs(float(loss(found.after(x)) - loss(found.before(x)))) > 1e-3 * float(loss(found.before(x)))
    weight, bias, _ = grown_gradients(found, loss, x)
    assert weight.norm() > 0.1
    assert abs(float(bias)) > 0.1


@pytest.mark.parametrize("case", [SHALLOW, DEEP])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_of_equal_outgoing_weights_turns_the_input_gradient_against_w(
    seed: int, case: tuple[tuple[int, ...], int]
) -> None:
    """By Theorem 5, ∂L/∂f as it is: after w_out − η h (p − y) the change of ∂L/∂x is −η h ‖p − y‖² J_φᵀ w."""
    found = fold(case, seed, outgoing=torch.full((CLASSES,), 0.3, dtype=torch.float64))
    x = found.on_both_sides(seed)
    sample = x[found.preactivation(x) > 0][:1]
    loss, rate = losses(seed, 1)["cross-entropy"], 1e-2
    g = by_outputs(loss, found.after(sample))
    slope = slopes(found.after, sample, g)
    *_, outgoing = grown_gradients(found, loss, sample)
    linears(found.after)[found.layer + 1].weight[:, -1] -= rate * outgoing
    change = slopes(found.after, sample, g) - slope
    back = pulled_back(found.before, found.layer, sample, found.weight)
    expected = -rate * found.preactivation(sample)[:, None] * g.square().sum() * back
    torch.testing.assert_close(change, expected, rtol=1e-7, atol=1e-12)
    assert change.norm() > 0


@pytest.mark.parametrize("case", [SHALLOW, DEEP, INNER])
@pytest.mark.parametrize("seed", SEEDS)
def test_definition_5_is_at_first_the_mistakes_own_distance_from_the_fold(
    seed: int, case: tuple[tuple[int, ...], int]
) -> None:
    found = fold(case, seed)
    mistake, at_fold = (phi(found.before, found.layer, x[None])[0] for x in (found.mistake, found.x_fold))
    nearest = mistake - (found.weight @ mistake + found.bias) / (found.weight @ found.weight) * found.weight
    assert abs(float(found.weight @ nearest + found.bias)) < 1e-12
    loss = fold_regularization(found.weight, found.bias, mistake, at_fold)
    assert float(loss) == pytest.approx(float((mistake - nearest).norm()), rel=1e-9, abs=1e-12)
    moved = fold_regularization(found.weight, found.bias + 0.1, mistake, at_fold)
    literal = abs(float(found.weight @ mistake + found.bias) + 0.1) + 0.1
    assert float(moved) == pytest.approx(literal / float(found.weight.square().sum().sqrt()), rel=1e-9)
