"""Extrapolation against motions that are known in closed form, sampled at uneven times, and not against its own formula."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from grow_cli.theory.history import History
from grow_cli.theory.trajectory import extrapolate, trajectory_metrics

motions = settings(deadline=None, max_examples=15, database=None, derandomize=True)
gaps = st.lists(st.floats(0.2, 20), min_size=3, max_size=24)
seeds = st.integers(0, 2**31 - 1)

VELOCITY: dict[str, Any] = {"gamma0": 0.0, "eta0": 0.0}
ACCELERATION: dict[str, Any] = {"beta0": 0.0, "eta0": 0.0}


def times(durations: list[float]) -> Tensor:
    return torch.tensor([0.0, *durations], dtype=torch.float64).cumsum(dim=0)[:, None]


def vectors(seed: int, count: int, parameters: int = 7) -> Tensor:
    return torch.randn(count, parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved(history: Tensor, durations: list[float], **choices: Any) -> tuple[Tensor, Any]:
    found = extrapolate(history, durations=durations, **choices)
    return found.weights - history[-1], found


@motions
@given(gaps, seeds)
def test_a_point_of_constant_velocity_is_carried_forward_by_beta(durations: list[float], seed: int) -> None:
    start, velocity = vectors(seed, 2)
    step, found = moved(start + velocity * times(durations), durations)
    torch.testing.assert_close(step, found.beta * velocity / velocity.norm(), rtol=0, atol=1e-5)
    assert found.tau == pytest.approx(1, abs=1e-6), "a path's length knows no time"


@motions
@given(gaps, seeds)
def test_the_acceleration_of_a_point_that_is_evenly_accelerated_is_found_whatever_the_sampling(
    durations: list[float], seed: int
) -> None:
    start, velocity, acceleration = vectors(seed, 3)
    t = times(durations)
    step, found = moved(start + velocity * t + acceleration * t**2 / 2, durations, **ACCELERATION)
    torch.testing.assert_close(step, found.gamma * acceleration / acceleration.norm(), rtol=0, atol=1e-5)


@motions
@given(gaps, seeds)
def test_the_velocity_of_a_point_that_is_evenly_accelerated_from_rest_is_found(
    durations: list[float], seed: int
) -> None:
    start, acceleration = vectors(seed, 2)
    step, found = moved(start + acceleration * times(durations) ** 2 / 2, durations, **VELOCITY)
    torch.testing.assert_close(step, found.beta * acceleration / acceleration.norm(), rtol=0, atol=1e-5)


@motions
@given(gaps, st.floats(0.2, 1.5), st.floats(0.5, 50))
def test_a_point_on_a_circle_is_carried_on_along_it_and_drawn_to_its_centre(
    durations: list[float], angle: float, radius: float
) -> None:
    """Over an arc of at most 1.5 rad: along a tangent that was passed, and inwards from a point that was passed."""
    t = angle * times(durations)[:, 0] / sum(durations)
    history = radius * torch.stack([t.cos(), t.sin()], dim=1)
    forward, found = moved(history, durations, **VELOCITY)
    heading = math.atan2(-forward[0].item(), forward[1].item())  # the angle at which the tangent is so
    assert 0 < heading < angle
    inward, bent = moved(history, durations, **ACCELERATION)
    facing = math.atan2(-inward[1].item(), -inward[0].item())  # the angle from which the centre lies there
    assert 0 < facing < angle
    assert (forward.norm().item(), inward.norm().item()) == pytest.approx((found.beta, bent.gamma), rel=1e-3)


@motions
@given(gaps, seeds, st.floats(0.1, 10))
def test_the_unit_of_time_moves_no_weight(durations: list[float], seed: int, unit: float) -> None:
    history = vectors(seed, len(durations) + 1).cumsum(dim=0)
    choices = {"rank": 2, "tau_crit": 0.0, "kappa_crit": 0.0}
    once, _ = moved(history, durations, **choices)
    scaled, _ = moved(history, [unit * one for one in durations], **choices)
    assert (scaled - once).norm() <= 1e-3 * once.norm()  # Definition 13 adds an ε of its own to a velocity


@motions
@given(gaps, seeds)
def test_the_path_is_measured_without_time(durations: list[float], seed: int) -> None:
    history = vectors(seed, len(durations) + 1).cumsum(dim=0)
    found, path = extrapolate(history, durations=durations), trajectory_metrics(history)
    assert (found.tau, found.kappa, found.rho) == (path.tau, path.kappa, path.rho)


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("window", [6, 12, 20])
def test_an_adaptive_history_carries_weights_that_drift_forward(window: int, noise: float) -> None:
    """Noise as large as the drift of a step bends the step, and does not turn it round."""
    random = torch.Generator().manual_seed(window)
    heading = torch.randn(400, generator=random)
    weights = torch.randn(400, generator=random)
    history = History(window, sampling="adaptive")
    history.watch({"w": weights})
    for index in range(10 * window):
        history.append(index)
        weights += 1e-2 * (heading + noise * torch.randn(400, generator=random))
    new = history.extrapolate(gamma0=0.0 if noise else 0.15)["w"]
    forward = (new.weights - history._last) @ heading / heading.norm()
    assert 0.7 * new.beta < forward < 1.01 * (new.beta + new.gamma)


def test_durations_are_times_between_the_snapshots_held() -> None:
    history = History(6, sampling="adaptive")
    weights = torch.zeros(3)
    history.watch({"w": weights})
    for index in range(60):
        weights += 1
        history.append(index)
    assert history.steps == [20, 40, 52, 56, 58, 59]
    assert history.durations == [20, 12, 4, 2, 1]


@pytest.mark.parametrize("wrong", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf]])
def test_durations_that_are_none_are_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="give 2 positive numbers"):
        extrapolate(torch.randn(3, 4), durations=wrong)
