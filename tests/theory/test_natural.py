"""The natural gradient: products with the Fisher matrix, and the conjugate gradients that invert it."""

from __future__ import annotations

import pytest
import torch
from growing_nets import NETS
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from grow_cli.optimizers.modules.natural import NaturalGradient
from grow_cli.theory.natural import (
    Jacobian,
    conjugate_gradients,
    fisher_product,
    flat,
    softmax_metric,
    twice_differentiable,
)


def dense_jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """(n, outputs, P), sample by sample as torch's own jacrev sees them."""
    parameters = dict(model.named_parameters())
    with twice_differentiable():
        parts = jacrev(lambda p: functional_call(model, p, (x,)))(parameters)
    return torch.cat([part.flatten(2) for part in parts.values()], 2)


def a_net(seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return model, torch.randn(9, 4, dtype=torch.float64), torch.randint(3, (9,))


@pytest.mark.parametrize("name", NETS)
def test_products_with_the_jacobian_are_those_of_the_dense_one_on_every_model(name: str) -> None:
    model, x = NETS[name].build(batch=4)
    model, x = model.double(), x.double()
    dense = dense_jacobian(model, x)
    with twice_differentiable():
        jacobian = Jacobian(model(x), list(model.parameters()))
    v, u = torch.randn(dense.shape[2], dtype=x.dtype), torch.randn(*dense.shape[:2], dtype=x.dtype)
    torch.testing.assert_close(jacobian.times(v), dense @ v, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(jacobian.transposed_times(u), torch.einsum("nmp,nm->p", dense, u), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("fisher", [False, True])
def test_the_step_is_that_of_a_dense_solve(fisher: bool) -> None:
    model, x, y = a_net()
    dense = dense_jacobian(model, x)
    logits = model(x)
    p = logits.detach().softmax(1)
    metric = (
        torch.diag_embed(p) - p[:, :, None] * p[:, None, :] if fisher else torch.eye(3, dtype=x.dtype).expand(9, 3, 3)
    )
    matrix = torch.einsum("nmp,nmk,nkq->pq", dense, metric, dense) / 9 + 0.1 * torch.eye(dense.shape[2], dtype=x.dtype)
    optimizer = NaturalGradient(
        [{"params": list(model.parameters()), "weight_decay": 0.0}],
        lr=0.5, damping=0.1, iterations=200, tolerance=1e-12, warm_start=False, fisher=fisher,
    )  # fmt: skip
    before = flat([p.detach() for p in model.parameters()])
    nn.functional.cross_entropy(logits, y).backward(retain_graph=True)
    gradient = flat([p.grad for p in model.parameters() if p.grad is not None])
    optimizer.watch(logits)
    optimizer.step()
    moved = flat([p.detach() for p in model.parameters()]) - before
    torch.testing.assert_close(moved, -0.5 * torch.linalg.solve(matrix, gradient), rtol=1e-8, atol=1e-11)


def test_eta_of_a_layer_is_that_of_the_dense_fisher_matrix_where_it_factorises() -> None:
    """Behind the last layer the output's metric is the identity, and F is exactly S ⊗ A (SENN, Def. 1)."""
    from grow_cli.theory.expansion import expansion_score

    model, x, y = a_net()
    hidden = model[:2](x).detach()  # type: ignore[index]
    activations = torch.cat([hidden, torch.ones(9, 1, dtype=x.dtype)], 1)
    logits = model(x)
    gradients = logits.detach().softmax(1) - nn.functional.one_hot(y, 3)
    head = list(model[2].parameters())  # type: ignore[index]
    with torch.enable_grad():
        jacobian = Jacobian(logits, head)
    size = sum(p.numel() for p in head)
    fisher = torch.stack([fisher_product(jacobian, 0.0)(e) for e in torch.eye(size, dtype=x.dtype)])
    g = jacobian.transposed_times(gradients) / 9
    dense = float(g @ torch.linalg.lstsq(fisher, g, rcond=1e-12, driver="gelsd").solution)
    assert expansion_score(activations, gradients, torch.eye(3)) == pytest.approx(dense, rel=1e-7)


@pytest.mark.parametrize("start", [False, True])
def test_conjugate_gradients_end_at_the_solution_in_as_many_steps_as_unknowns(start: bool) -> None:
    g = torch.Generator().manual_seed(0)
    root = torch.randn(8, 8, generator=g, dtype=torch.float64)
    matrix, b = root @ root.T + torch.eye(8), torch.randn(8, generator=g, dtype=torch.float64)
    guess = torch.randn(8, generator=g, dtype=torch.float64) if start else None
    solution = conjugate_gradients(lambda v: matrix @ v, b, start=guess, iterations=8, tolerance=1e-9)
    torch.testing.assert_close(solution.x, torch.linalg.solve(matrix, b), rtol=1e-6, atol=1e-8)
    assert solution.products <= 8 + start


def test_a_good_start_saves_products_and_a_bad_one_is_not_taken() -> None:
    g = torch.Generator().manual_seed(1)
    root = torch.randn(30, 30, generator=g, dtype=torch.float64)
    matrix, b = root @ root.T / 30 + 0.1 * torch.eye(30), torch.randn(30, generator=g, dtype=torch.float64)
    exact = torch.linalg.solve(matrix, b)
    cold = conjugate_gradients(lambda v: matrix @ v, b, tolerance=1e-3)
    warm = conjugate_gradients(lambda v: matrix @ v, b, start=exact * 1.01, tolerance=1e-3)
    bad = conjugate_gradients(lambda v: matrix @ v, b, start=1e6 * torch.ones_like(b), tolerance=1e-3)
    assert warm.products < cold.products
    assert bad.products == cold.products + 1
    torch.testing.assert_close(bad.x, cold.x)


def test_no_gradient_is_no_step() -> None:
    solution = conjugate_gradients(lambda v: v, torch.zeros(3))
    assert solution.products == 0
    assert torch.equal(solution.x, torch.zeros(3))


def test_the_softmax_metric_is_the_fisher_matrix_of_the_probabilities() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    p = logits.softmax(1)
    expected = torch.stack([
        sum(p[n, c] * (torch.eye(4)[c] - p[n]) * ((torch.eye(4)[c] - p[n]) @ u[n]) for c in range(4)) for n in range(5)
    ])  # fmt: skip
    torch.testing.assert_close(softmax_metric(logits)(u), expected)


def test_frozen_parameters_stay() -> None:
    model, x, y = a_net()
    for p in model[0].parameters():  # type: ignore[index]
        p.requires_grad_(False)
    optimizer = NaturalGradient(
        [{"params": list(model.parameters()), "weight_decay": 0.0}],
        lr=0.5, damping=0.1, iterations=20, tolerance=1e-6, warm_start=True, fisher=False,
    )  # fmt: skip
    before = [p.detach().clone() for p in model.parameters()]
    logits = model(x)
    nn.functional.cross_entropy(logits, y).backward(retain_graph=True)
    optimizer.watch(logits)
    optimizer.step()
    same = [torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert same == [True, True, False, False]


def test_a_step_without_outputs_says_what_it_needs() -> None:
    optimizer = NaturalGradient(
        [{"params": [torch.zeros(1)]}], lr=1, damping=1, iterations=1, tolerance=0, warm_start=False, fisher=False
    )
    with pytest.raises(RuntimeError, match=r"call watch\(outputs\) before step"):
        optimizer.step()
