"""Alether, definition by definition, against a literal float64 implementation."""

from __future__ import annotations

import math

import pytest
import torch
from paper import alether_reference as reference
from torch import Tensor

from grow_cli.theory.trajectory import (
    Extrapolation,
    coefficients,
    extrapolate,
    gram,
    metrics_from_gram,
    trajectory_metrics,
)

TRAJECTORIES = reference.trajectories()
every_trajectory = pytest.mark.parametrize("history", TRAJECTORIES.values(), ids=TRAJECTORIES.keys())


def displacement(history: Tensor, result: Extrapolation) -> Tensor:
    return result.weights.double() - history[-1].double()


def assert_same_vector(found: Tensor, expected: Tensor) -> None:
    # A direction that is exactly zero is round-off over ε = 1e-8 in both.
    assert (found - expected).norm() <= 1e-6 * expected.norm() + 1e-7


@every_trajectory
def test_definition_3_the_gram_matrix_holds_the_velocities_inner_products(history: Tensor) -> None:
    V = reference.velocities(history)
    torch.testing.assert_close(gram(history), V @ V.T, rtol=1e-12, atol=1e-12 * (V @ V.T).max().item())


@every_trajectory
def test_definitions_3_and_4_the_means_telescope(history: Tensor) -> None:
    K, count = gram(history), len(history) - 1
    mean_velocity = torch.full((count,), 1 / count, dtype=torch.float64)
    mean_acceleration = torch.zeros(count, dtype=torch.float64)
    mean_acceleration[-1] += 1 / (count - 1)
    mean_acceleration[0] -= 1 / (count - 1)
    for c, expected in (
        (mean_velocity, reference.mean_velocity(history)),
        (mean_acceleration, reference.mean_acceleration(history)),
    ):
        assert math.sqrt(c @ K @ c) == pytest.approx(expected.norm().item(), rel=1e-9)


@every_trajectory
def test_definition_5_and_algorithm_4_tau(history: Tensor) -> None:
    assert trajectory_metrics(history).tau == pytest.approx(reference.tsf(history), rel=1e-9)
    assert trajectory_metrics(history).tau >= 1 - 1e-6  # Proposition 1


@every_trajectory
def test_definition_6_parallel_and_perpendicular_parts(history: Tensor) -> None:
    parallel, perpendicular = reference.parallel_and_perpendicular(history)
    K = gram(history)
    along = K.sum(dim=1) / K.sum().sqrt()
    torch.testing.assert_close(along.abs(), parallel.norm(dim=1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((K.diagonal() - along**2).sqrt(), perpendicular.norm(dim=1), rtol=1e-7, atol=1e-9)


@every_trajectory
def test_definition_7_kappa(history: Tensor) -> None:
    assert trajectory_metrics(history).kappa == pytest.approx(reference.curvature(history), rel=1e-9)


@every_trajectory
def test_algorithm_5_differs_from_definition_7_by_epsilon_only(history: Tensor) -> None:
    eps = 1e-6
    distance = (history[-1] - history[0]).norm().item()
    found = trajectory_metrics(history, eps).kappa
    assert found == pytest.approx(reference.curvature_algorithm_5(history, eps), rel=4 * eps / distance)


@every_trajectory
def test_definitions_8_to_10_rho(history: Tensor) -> None:
    expected = reference.covariance(history).trace() / reference.ideal_covariance(history).trace()
    assert trajectory_metrics(history).rho == pytest.approx(expected.item(), rel=1e-9)
    assert reference.spectral_tortuosity(history) == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("snapshots", [3, 5, 20, 50])
def test_remark_5_is_false_a_straight_line_has_rho_below_one(snapshots: int) -> None:
    line = torch.arange(snapshots).double()[:, None] * torch.linspace(-1, 1, 30).double()
    expected = (snapshots + 1) / (3 * (snapshots - 1))
    assert trajectory_metrics(line).rho == pytest.approx(expected, rel=1e-12)
    assert expected < 1


@every_trajectory
def test_definition_11_singular_values(history: Tensor) -> None:
    found, (expected, _) = coefficients(gram(history)).singular_values, reference.modes(history)
    assert torch.all(expected[len(found) :] < 1e-5 * expected[0])  # what squaring in K hides
    torch.testing.assert_close(found, expected[: len(found)], rtol=1e-4, atol=1e-7 * expected[0].item())


@every_trajectory
def test_remark_8_the_dynamic_subspace_reconstructs_the_velocities_best(history: Tensor) -> None:
    V, k = reference.velocities(history), 3
    _, Q = reference.modes(history)
    error = (V - V @ Q[:, :k] @ Q[:, :k].T).square().sum()
    neglected = coefficients(gram(history)).singular_values[k:].square().sum()
    torch.testing.assert_close(error, neglected, rtol=1e-9, atol=1e-9)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        other = torch.linalg.qr(torch.randn(V.shape[1], k, generator=generator, dtype=torch.float64)).Q
        assert error <= (V - V @ other @ other.T).square().sum()


@every_trajectory
@pytest.mark.parametrize("k", [1, 3, 10])
def test_definitions_12_and_13_projected_and_normalised_directions(history: Tensor, k: int) -> None:
    literal = reference.extrapolate(history, k=k)
    velocity_only = extrapolate(history, rank=k, gamma0=0, eta0=0)
    acceleration_only = extrapolate(history, rank=k, beta0=0, eta0=0)
    assert_same_vector(displacement(history, velocity_only), velocity_only.beta * literal.velocity_direction)
    assert_same_vector(
        displacement(history, acceleration_only), acceleration_only.gamma * literal.acceleration_direction
    )


@pytest.mark.parametrize(
    ("name", "escape"),
    [
        ("random walk", "orthogonal"),
        ("oscillation", "orthogonal"),
        ("modes only", "modes"),
        ("few parameters", "none"),
    ],
)
def test_definition_14_escape_direction(name: str, escape: str) -> None:
    history = TRAJECTORIES[name]
    literal = reference.extrapolate(history, kappa_crit=0, tau_crit=0)
    found = extrapolate(history, beta0=0, gamma0=0, kappa_crit=0, tau_crit=0)
    assert found.escape == escape
    assert found.eta > 0
    assert_same_vector(displacement(history, found), found.eta * literal.escape_direction)
    moved = displacement(history, found).norm().item()
    assert moved == pytest.approx(0 if escape == "none" else found.eta, rel=1e-6)


@pytest.mark.parametrize("name", ["random walk", "oscillation", "modes only"])
def test_definition_18_escapes_along_the_next_modes_where_algorithm_1_does_not(name: str) -> None:
    history = TRAJECTORIES[name]
    sigma, Q = reference.modes(history)
    expected = Q[:, 3:8] @ sigma[3:8]
    still = {"beta0": 0.0, "gamma0": 0.0, "kappa_crit": 0.0, "tau_crit": 0.0, "rank": 3}
    found = extrapolate(history, escape_along="modes", **still)
    assert found.escape == "modes"
    assert_same_vector(displacement(history, found), found.eta * expected / expected.norm())
    assert extrapolate(history, **still).escape == ("modes" if name == "modes only" else "orthogonal")


@every_trajectory
@pytest.mark.parametrize("k", [1, 3, 30])
def test_remark_16_the_ratio_of_what_is_projected_and_what_is_left_of_the_mean_velocity(
    history: Tensor, k: int
) -> None:
    _, Q = reference.modes(history)
    mean = reference.mean_velocity(history)
    projected = Q[:, :k] @ (Q[:, :k].T @ mean)
    left = (mean - projected).norm().item()
    found = extrapolate(history, rank=k).snr
    if left < 1e-9 * mean.norm():
        assert found == math.inf
    else:
        assert found == pytest.approx(projected.norm().item() / left, rel=1e-5)


@every_trajectory
def test_7_2_2_the_subspace_that_is_chosen_has_as_many_modes_as_the_motion_is_spread_over(history: Tensor) -> None:
    sigma, _ = reference.modes(history)
    share = sigma.square() / sigma.square().sum()
    expected = math.ceil(1 / share.square().sum().item() - 1e-6)
    found = extrapolate(history, rank=None)
    assert found.rank == expected
    assert torch.equal(found.c, extrapolate(history, rank=expected).c)


def test_7_2_2_one_mode_of_a_straight_line_and_all_of_orthogonal_steps() -> None:
    line = torch.arange(6, dtype=torch.float64)[:, None] * torch.ones(1, 9, dtype=torch.float64)
    assert extrapolate(line, rank=None).rank == 1
    corners = torch.cat([torch.zeros(1, 9), torch.eye(9)[:5].cumsum(0)]).double()
    assert extrapolate(corners, rank=None).rank == 5


def test_the_bound_on_the_escape_holds_back_nothing_in_the_papers_own_window() -> None:
    """Where five snapshots go anywhere at all; with twenty it is noise alone that escapes further than beta0 reaches."""
    from grow_cli.methods.alether import Alether

    bound = Alether().eta_max
    assert bound == Alether().beta0
    walk = reference.trajectories(snapshots=20, parameters=2000)["random walk"]
    assert extrapolate(walk[:5], rank=2).eta <= bound < extrapolate(walk).eta


@every_trajectory
@pytest.mark.parametrize(("tau_crit", "kappa_crit"), [(2.0, 0.5), (1.0, 0.1), (100.0, 0.1), (1.0, 100.0)])
def test_definitions_15_to_17_gains(history: Tensor, tau_crit: float, kappa_crit: float) -> None:
    tau, kappa = reference.tsf(history), reference.curvature(history)
    found = extrapolate(history, tau_crit=tau_crit, kappa_crit=kappa_crit)
    assert found.beta == pytest.approx(0.1 / tau)
    assert found.gamma == pytest.approx(0.15 / (1 + kappa))
    stagnates = tau >= tau_crit and kappa >= kappa_crit
    assert found.eta == pytest.approx(0.03 * (tau - tau_crit) * (kappa - kappa_crit) if stagnates else 0.0)


@every_trajectory
@pytest.mark.parametrize(("k", "modes"), [(1, 1), (2, 5), (4, 3), (10, 5)])
def test_definition_18_and_algorithm_1_new_weights(history: Tensor, k: int, modes: int) -> None:
    hyperparameters = {"beta0": 0.2, "gamma0": 0.3, "eta0": 0.5, "tau_crit": 0.5, "kappa_crit": 0.01}
    literal = reference.extrapolate(history, k=k, modes_to_escape=modes, **hyperparameters)
    found = extrapolate(history, rank=k, escape_modes=modes, **hyperparameters)
    assert_same_vector(displacement(history, found), literal.displacement)


def test_algorithm_1_needs_nothing_but_the_gram_matrix() -> None:
    history = TRAJECTORIES["random walk"]
    plan, found = coefficients(gram(history)), extrapolate(history)
    assert metrics_from_gram(gram(history)).tau == found.tau
    assert_same_vector(displacement(history, found), plan.c @ reference.velocities(history))


@pytest.mark.parametrize("k", [4, 10])
def test_table_1_with_five_snapshots_and_ten_modes_can_never_escape(k: int) -> None:
    for history in reference.trajectories(snapshots=5).values():
        found = extrapolate(history, rank=k, tau_crit=0, kappa_crit=0)
        still = extrapolate(history, rank=k, eta0=0)
        assert found.escape == "none"
        torch.testing.assert_close(found.weights, still.weights)
