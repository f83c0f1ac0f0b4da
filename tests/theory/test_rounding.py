"""Rounding moves no weight: what is cut is relative to the weights' own ulps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from grow_cli.theory.history import History
from grow_cli.theory.rounding import rounding
from grow_cli.theory.trajectory import extrapolate

EAGER: dict[str, Any] = {"tau_crit": 0.0, "kappa_crit": 0.0, "eta0": 0.1}  # every trajectory escapes
scales = pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("value", [0.0, 1.0, -1e6, 1e-20])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_beta_is_never_above_its_base_gain_and_none_where_nothing_moves(dtype: torch.dtype, value: float) -> None:
    found = extrapolate(torch.full((6, 9), value, dtype=dtype))
    assert (found.beta, found.gamma) == (0, 0)
    for speed in (1e-30, 1e-11, 1e-8, 1e-3):
        line = value + speed * torch.arange(6, dtype=torch.float64)[:, None].expand(6, 9)
        assert 0 <= extrapolate(line.to(dtype)).beta <= 0.1


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_velocities_far_below_epsilon_hardly_move_the_weights(start: float) -> None:
    """With 1e-11 a step they moved by 0.0055."""
    line = start + 1e-11 * torch.arange(20, dtype=torch.float64)[:, None]
    assert (extrapolate(line).weights - line[-1]).abs().item() < 2e-4
    assert torch.equal(extrapolate(line.float() + 1).weights, line.float()[-1] + 1)


@scales
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_weights_that_differ_by_their_rounding_only_stay_where_they_are(
    seed: int, dtype: torch.dtype, scale: float
) -> None:
    exact = (scale * noise(500, seed=seed)).double()
    jitter = torch.finfo(dtype).eps / 2 * exact.abs() * (2 * torch.rand(20, 500).double() - 1)
    history = (exact + jitter).to(dtype)
    assert history.unique(dim=0).shape[0] > 1
    found = extrapolate(history, **EAGER)
    assert torch.equal(found.weights, history[-1])
    assert (found.beta, found.gamma, found.escape) == (0, 0, "none")


@scales
@pytest.mark.parametrize("speed", [1e-5, 1e-3, 1e-1])
@pytest.mark.parametrize("seed", range(3))
def test_a_straight_line_in_float32_is_carried_along_and_not_across(seed: int, speed: float, scale: float) -> None:
    start, heading = scale * noise(400, seed=seed).double(), noise(400, seed=seed + 100).double()
    history = (start + scale * speed * heading * torch.arange(20)[:, None]).float()
    found = extrapolate(history, **EAGER)
    step = found.c @ history.double().diff(dim=0)
    unit = heading / heading.norm()
    assert step @ unit == pytest.approx(0.1, rel=1e-2)
    assert (step - (step @ unit) * unit).norm() < 1e-2 * step.norm()
    assert (found.gamma, found.escape) == (0, "none")


@scales
def test_an_acceleration_above_rounding_is_kept(scale: float) -> None:
    start, acceleration = noise(400, seed=1), noise(400, seed=2)
    history = scale * (start + 1e-4 * acceleration * torch.arange(20)[:, None] ** 2)
    found = extrapolate(history, beta0=0)
    step, unit = found.c @ history.double().diff(dim=0), (acceleration / acceleration.norm()).double()
    assert found.gamma > 0
    assert step @ unit > 0.999 * found.gamma


@scales
def test_a_circle_in_float32_has_two_modes_and_no_third_to_escape_along(scale: float) -> None:
    start, first, second = noise(3, 400, seed=3)
    angle = torch.arange(20)[:, None] * 0.6
    history = scale * (start + 0.1 * (angle.cos() * first + angle.sin() * second))
    found = extrapolate(history, rank=2, **EAGER)
    assert (len(found.singular_values), found.escape) == (2, "none")


@pytest.mark.parametrize("smoothing", [0.0, 0.99])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_history_of_weights_at_rest_proposes_the_weights(dtype: torch.dtype, smoothing: float) -> None:
    weights = noise(300).to(dtype)
    history = History(8, smoothing=smoothing)
    history.watch({"w": weights})
    for index in range(20):
        flip = (weights.float() * (1 + torch.finfo(dtype).eps * (index % 2))).to(dtype)
        for _ in range(5):
            weights.copy_(flip if smoothing == 0 else weights)
            history.smooth()
        history.append(index)
    new = history.extrapolate(**EAGER)["w"]
    assert (new.beta, new.gamma) == (0, 0)
    torch.testing.assert_close(new.weights, weights, rtol=2 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rounding_is_half_an_ulp_of_the_norm_and_bounds_what_casting_does(dtype: torch.dtype) -> None:
    exact = noise(1000).double()
    snapshot = exact.to(dtype)
    bound = rounding(snapshot)
    assert bound == pytest.approx(torch.finfo(dtype).eps / 2 * exact.norm().item(), rel=1e-2)
    assert (snapshot.double() - exact).norm() <= bound
