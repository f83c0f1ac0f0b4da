"""TINY's propositions, against brute force in float64."""

from __future__ import annotations

import pytest
import torch
from growing_nets import spec
from torch import Tensor, nn

from grow_cli.models.mlp import MLPOption
from grow_cli.models.modules.network import GrowableModel
from grow_cli.surgery.apply import apply
from grow_cli.surgery.proposal import WidthProposal
from grow_cli.surgery.signals import signals
from grow_cli.theory.bottleneck import (
    Neurons,
    best_update,
    best_update_of,
    new_neurons,
    new_neurons_of,
    spurious,
    whitening_of,
)


def problem(n: int = 80, p: int = 7, q: int = 4, m: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """B_in (n, p), B_out (n, q), V_goal (n, m), correlated with one another as in a net; the last inputs are 1."""
    g = torch.Generator().manual_seed(seed)
    b_in = torch.randn(n, p, generator=g, dtype=torch.float64) @ torch.randn(p, p, generator=g, dtype=torch.float64)
    b_in[:, -1] = 1
    b_out = torch.tanh(b_in @ torch.randn(p, q, generator=g, dtype=torch.float64))
    b_out[:, -1] = 1
    noise = torch.randn(n, m, generator=g, dtype=torch.float64)
    return b_in, b_out, torch.sin(b_in @ torch.randn(p, m, generator=g, dtype=torch.float64)) + noise


def effect(b_in: Tensor, neurons: Neurons) -> Tensor:
    """V(θ) = Σ_k ω_k α_kᵀ b, (n, m)."""
    return b_in @ neurons.alpha.T @ neurons.omega.T


def projected(seed: int = 0) -> tuple[Tensor, Tensor]:
    b_in, b_out, v_goal = problem(seed=seed)
    return b_in, v_goal - b_out @ best_update(b_out, v_goal).T


def brute_force(b_in: Tensor, v: Tensor, k: int) -> float:
    """The least ‖V − B_in Aᵀ Ωᵀ‖² that descent from many starts finds."""
    best = float("inf")
    for start in range(8):
        g = torch.Generator().manual_seed(start)
        alpha = torch.randn(k, b_in.shape[1], generator=g, dtype=torch.float64).requires_grad_()
        omega = torch.randn(v.shape[1], k, generator=g, dtype=torch.float64).requires_grad_()
        optimizer = torch.optim.LBFGS([alpha, omega], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

        def closure(alpha: Tensor = alpha, omega: Tensor = omega, optimizer: torch.optim.LBFGS = optimizer) -> Tensor:
            optimizer.zero_grad()
            value = (v - b_in @ alpha.T @ omega.T).square().sum()
            value.backward()
            return value

        optimizer.step(closure)
        best = min(best, closure().item())
    return best


def test_proposition_3_1_is_what_descent_finds_and_leaves_a_residual_orthogonal_to_the_layers_inputs() -> None:
    _, b_out, v_goal = problem()
    update = best_update(b_out, v_goal)
    literal = torch.linalg.pinv(b_out.T @ b_out) @ b_out.T @ v_goal
    torch.testing.assert_close(update, literal.T)
    residual = v_goal - b_out @ update.T
    assert (b_out.T @ residual).abs().max() < 1e-10
    for seed in range(20):
        other = update + 1e-3 * torch.randn(update.shape, generator=torch.Generator().manual_seed(seed))
        assert (v_goal - b_out @ other.T).norm() > residual.norm()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_proposition_3_2_no_k_neurons_do_better(k: int) -> None:
    b_in, v = projected()
    found = (v - effect(b_in, new_neurons(b_in, v, k))).square().sum().item()
    assert found == pytest.approx(brute_force(b_in, v, k), rel=1e-6)


def test_proposition_3_2_as_it_is_printed() -> None:
    b_in, v = projected()
    n = len(v)
    S, N = b_in.T @ b_in / n, b_in.T @ v / n
    values, vectors = torch.linalg.eigh(S)
    root = vectors @ torch.diag(values**-0.5) @ vectors.T
    u, lambdas, vt = torch.linalg.svd(root @ N, full_matrices=False)
    neurons = new_neurons(b_in, v)
    torch.testing.assert_close(neurons.eigenvalues, lambdas)
    for k in range(len(lambdas)):
        pair = torch.outer(root @ u[:, k], vt[k]) * lambdas[k]  # (√λ S^(-1/2) u)(√λ v)ᵀ: the sign is arbitrary
        torch.testing.assert_close(torch.outer(neurons.alpha[k], neurons.omega[:, k]), pair)
        assert neurons.omega[:, k].norm() == pytest.approx(lambdas[k].sqrt().item())


def test_added_neurons_are_orthogonal_to_one_another() -> None:
    b_in, v = projected()
    neurons = new_neurons(b_in, v)
    effects = [(b_in @ a)[:, None] * w for a, w in zip(neurons.alpha, neurons.omega.T, strict=True)]
    for i, one in enumerate(effects):
        for j, other in enumerate(effects):
            expected = len(v) * neurons.eigenvalues[i].item() ** 2 if i == j else 0.0
            assert (one * other).sum().item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_bottleneck_falls_by_the_sum_of_squared_lambdas(k: int) -> None:
    b_in, v = projected()
    neurons = new_neurons(b_in, v, k)
    before, after = (t.square().sum() / len(v) for t in (v, v - effect(b_in, neurons)))
    torch.testing.assert_close(before - after, neurons.eigenvalues.square().sum())


def test_m_plus_m_neurons_at_once_are_m_and_then_m() -> None:
    b_in, v = projected()
    together = new_neurons(b_in, v, 5)
    first = new_neurons(b_in, v, 2)
    then = new_neurons(b_in, v - effect(b_in, first), 3)
    torch.testing.assert_close(together.eigenvalues, torch.cat([first.eigenvalues, then.eigenvalues]))
    torch.testing.assert_close(effect(b_in, together), effect(b_in, first) + effect(b_in, then))


@pytest.mark.parametrize("scale", [1e-6, 1 / 64, 1e6])
def test_the_scale_of_the_loss_changes_neither_number_nor_direction(scale: float) -> None:
    b_in, v = projected()
    one, other = new_neurons(b_in, v), new_neurons(b_in, scale * v)
    torch.testing.assert_close(other.eigenvalues, scale * one.eigenvalues)
    torch.testing.assert_close(other.alpha, scale**0.5 * one.alpha)
    torch.testing.assert_close(other.omega, scale**0.5 * one.omega)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n", [60, 12])
def test_rank_deficient_inputs_leave_alpha_in_the_span_of_the_data(dtype: torch.dtype, n: int) -> None:
    g = torch.Generator().manual_seed(1)
    b_in = torch.zeros(n, 30, dtype=dtype)
    b_in[:, :9] = torch.randint(0, 256, (n, 9), generator=g).to(dtype)  # pixels; the others are dead
    b_in[:, 9] = b_in[:, 3]  # a copy
    b_in[:, 10] = -0.42  # constant, as the bias is
    b_in[:, -1] = 1
    v = torch.randn(n, 4, generator=g).to(dtype)
    neurons = new_neurons(b_in, v)
    _, singular, rows = torch.linalg.svd(b_in.double(), full_matrices=False)
    span = rows[singular > 1e-9 * singular[0]]
    outside = neurons.alpha - neurons.alpha @ span.T @ span
    assert len(neurons.alpha) == 4
    assert outside.norm() <= 1e-8 * neurons.alpha.norm()
    assert best_update(b_in, v).shape == (4, 30)
    assert neurons.alpha.dtype == torch.float64


def test_nothing_is_proposed_where_nothing_is_desired() -> None:
    b_in, _, _ = problem()
    assert new_neurons(b_in, torch.zeros(len(b_in), 3)).alpha.shape == (0, b_in.shape[1])
    assert new_neurons(torch.zeros(10, 4), torch.ones(10, 3)).omega.shape == (3, 0)


def test_more_neurons_than_the_rank_are_the_rank() -> None:
    b_in, v = projected()
    assert len(new_neurons(b_in, v, 100).eigenvalues) == v.shape[1]


@pytest.mark.parametrize("dead", [0, 3])
def test_sums_give_what_the_data_give(dead: int) -> None:
    b_in, b_out, v_goal = problem()
    b_in[:, :dead] = 0
    n = len(v_goal)
    update = best_update_of(b_out.T @ b_out, b_out.T @ v_goal, 1e-10)
    torch.testing.assert_close(update, best_update(b_out, v_goal))
    v = v_goal - b_out @ update.T
    whitening = whitening_of(b_in.T @ b_in / n, 1e-10)
    assert whitening.shape == (b_in.shape[1], b_in.shape[1] - dead)
    from_sums, from_data = new_neurons_of(whitening, b_in.T @ v / n), new_neurons(b_in, v)
    for name in ("alpha", "omega", "eigenvalues"):
        torch.testing.assert_close(getattr(from_sums, name), getattr(from_data, name))


def test_whitening_by_cholesky_and_by_eigenvectors_is_the_same_pseudo_inverse() -> None:
    b_in, _, _ = problem()
    S = b_in.T @ b_in
    values, vectors = torch.linalg.eigh(S)
    by_eigenvectors = vectors / values.sqrt()
    R = whitening_of(S, 1e-10)
    torch.testing.assert_close(R @ R.T, by_eigenvectors @ by_eigenvectors.T)
    torch.testing.assert_close(R.T @ S @ R, torch.eye(len(S), dtype=torch.float64))
    # an eigenvalue below the threshold is absent, though Cholesky would go through
    nearly = torch.diag(torch.tensor([1.0, 1.0, 1e-7], dtype=torch.float64))
    assert whitening_of(nearly, 1e-6).shape == (3, 2)
    assert whitening_of(nearly, 1e-8).shape == (3, 3)


def test_goals_that_nothing_connects_to_the_inputs_stay_below_the_threshold() -> None:
    """D.3: with goals of noise, the threshold is passed about as often as two draws of the same law differ: half the time."""
    g = torch.Generator().manual_seed(0)
    n, p, m, passed = 200, 6, 4, 0
    mixing = torch.randn(m, m, generator=g, dtype=torch.float64)
    b_in = torch.randn(n, p, generator=g, dtype=torch.float64)
    for _ in range(200):
        v = torch.randn(n, m, generator=g, dtype=torch.float64) @ mixing
        threshold = spurious(p, v.T @ v / n, n, g)
        passed += bool(new_neurons(b_in, v).eigenvalues[0] > threshold)
    assert 70 <= passed <= 130
    connected = v + b_in[:, :m]
    neurons = new_neurons(b_in, connected)
    assert neurons.eigenvalues[0] > spurious(p, connected.T @ connected / n, n, g)


def two_layers(activation: str) -> tuple[GrowableModel, Tensor, Tensor]:
    torch.manual_seed(5)
    model = MLPOption(hidden=[3, 4], activation=activation).build(spec((6,), outputs=5)).double()
    return model, torch.randn(50, 6, dtype=torch.float64), torch.randint(5, (50,))


@pytest.mark.parametrize(("activation", "slope"), [("tanh", 1.0), ("gelu", 0.5), ("identity", 1.0)])
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("project", [False, True])
def test_added_neurons_lower_the_loss_by_sum_of_squared_lambdas(
    activation: str, slope: float, index: int, project: bool
) -> None:
    """dL/dγ = −σ'(0) Σ λ_k² (Prop. 3.2, its sign mended), the pairs being scaled by √γ each, on a real net.

    Exact for the neurons of V_goal. For those of the projected goal the paper supposes that what they do is orthogonal to
    what the present weights can do (C.2); what is not is added here.
    """
    model, x, y = two_layers(activation)
    loss = nn.CrossEntropyLoss()
    site = model.width_sites()[index]
    (seen,) = signals(model, [site], x, y, loss)
    one = torch.ones(len(x), 1, dtype=torch.float64)
    b_in, b_out = torch.cat([seen.inputs, one], 1), torch.cat([seen.middle, one], 1)
    update = best_update(b_out, seen.goal) if project else torch.zeros(seen.goal.shape[1], b_out.shape[1]).double()
    neurons = new_neurons(b_in, seen.goal - b_out @ update.T)
    overlap = ((b_out @ update.T) * effect(b_in, neurons)).sum().item() / len(x)
    predicted = -slope * (neurons.eigenvalues.square().sum().item() + overlap)
    before = loss(model(x), y).item()
    gamma = 1e-6
    root = gamma**0.5
    alpha = root * neurons.alpha
    apply(WidthProposal(site, alpha[:, :-1], alpha[:, -1], root * neurons.omega), model, None)
    assert (loss(model(x), y).item() - before) / gamma == pytest.approx(predicted, rel=0.01)
    if activation == "identity":  # the present units reach nothing that the inputs do not
        assert overlap == pytest.approx(0, abs=1e-12)
