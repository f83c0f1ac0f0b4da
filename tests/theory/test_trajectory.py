"""Trajectory geometry: invariances, limiting cases, precision, memory and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paper import alether_reference as reference
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from grow_cli.theory.trajectory import (
    coefficients,
    extrapolate,
    gram,
    metrics_from_gram,
    trajectory_metrics,
)

settings.register_profile("trajectory", deadline=None, max_examples=20, database=None, derandomize=True)
settings.load_profile("trajectory")

EAGER = {"tau_crit": 0.0, "kappa_crit": 0.0, "eta0": 0.1}  # every trajectory escapes

seeds = st.integers(0, 2**31 - 1)


def wandering(seed: int, snapshots: int, parameters: int, drift: float) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    velocities = torch.randn(snapshots, parameters, generator=random, dtype=torch.float64)
    return (velocities + drift * torch.randn(parameters, generator=random, dtype=torch.float64)).cumsum(dim=0)


histories = st.builds(wandering, seeds, st.integers(3, 24), st.integers(2, 40), st.floats(0, 3))


def rotation(size: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=random, dtype=torch.float64)).Q


def assert_same_metrics(history: Tensor, other: Tensor) -> None:
    first, second = trajectory_metrics(history), trajectory_metrics(other)
    assert second.tau == pytest.approx(first.tau, rel=1e-6)
    assert second.kappa == pytest.approx(first.kappa, rel=1e-6, abs=1e-6)
    assert second.rho == pytest.approx(first.rho, rel=1e-6)


@given(histories, st.floats(0.1, 100))
def test_metrics_do_not_change_when_weights_are_scaled(history: Tensor, factor: float) -> None:
    assert_same_metrics(history, factor * history)


@given(histories, seeds)
def test_metrics_do_not_change_when_weight_space_is_rotated(history: Tensor, seed: int) -> None:
    assert_same_metrics(history, history @ rotation(history.shape[1], seed))


@given(histories, st.floats(-100, 100))
def test_metrics_do_not_change_when_the_origin_moves(history: Tensor, offset: float) -> None:
    assert_same_metrics(history, history + offset)


@given(histories, seeds, st.floats(-10, 10))
def test_new_weights_move_with_rotation_and_translation(history: Tensor, seed: int, offset: float) -> None:
    turn = rotation(history.shape[1], seed)
    here = extrapolate(history, rank=2, **EAGER)
    there = extrapolate(history @ turn + offset, rank=2, **EAGER)
    assert here.escape == there.escape
    torch.testing.assert_close(there.weights, here.weights @ turn + offset, rtol=0, atol=1e-6)


@given(histories, st.integers(1, 10))
def test_new_weights_are_a_linear_combination_of_the_snapshots(history: Tensor, rank: int) -> None:
    found = extrapolate(history, rank=rank, **EAGER)
    torch.testing.assert_close(found.weights, history[-1] + found.c @ history.diff(dim=0), rtol=0, atol=1e-9)


@given(histories)
def test_each_term_is_as_long_as_its_gain(history: Tensor) -> None:
    for off in ({"gamma0": 0, "eta0": 0}, {"beta0": 0, "eta0": 0}):
        found = extrapolate(history, rank=30, **off)
        moved = (found.weights - history[-1]).norm().item()
        assert moved == pytest.approx(found.beta + found.gamma, rel=1e-5)


@given(seeds, st.integers(3, 30), st.integers(1, 50))
def test_straight_line_has_tau_one_and_no_curvature(seed: int, snapshots: int, parameters: int) -> None:
    heading = torch.randn(parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    line = torch.arange(snapshots)[:, None] * heading + 1
    found = trajectory_metrics(line)
    assert found.tau == pytest.approx(1, abs=1e-6)
    assert 0 <= found.kappa < 1e-5
    new = extrapolate(line, **EAGER)
    assert new.escape == "none"  # one mode
    assert len(new.singular_values) == 1
    along = heading / heading.norm() * new.beta
    torch.testing.assert_close(new.weights, line[-1] + along, rtol=0, atol=1e-5)


@given(histories)
def test_closed_loop_is_very_long_and_finite(history: Tensor) -> None:
    history[-1] = history[0]
    found = extrapolate(history, rank=1)
    path = history.diff(dim=0).norm(dim=1).sum().item()
    assert found.tau == pytest.approx(path / 1e-8)
    assert found.tau == pytest.approx(reference.tsf(history))
    assert found.kappa == pytest.approx(reference.curvature_algorithm_5(history))  # where Def. 7 has no Δ/‖Δ‖
    assert 1e6 < found.rho < float("inf")
    assert torch.isfinite(found.weights).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_constant_history_stays_where_it_is(dtype: torch.dtype) -> None:
    history = torch.randn(7).to(dtype).expand(6, 7)
    found = extrapolate(history, **EAGER)
    assert (found.tau, found.kappa, found.rho, found.escape) == (0, 0, 0, "none")
    assert torch.equal(found.weights, history[-1])
    assert found.weights.dtype == dtype


@pytest.mark.parametrize("kind", ["random walk", "drift and noise", "smoothed", "nearly straight"])
def test_float32_history_is_as_precise_as_float64(kind: str) -> None:
    snapshots, parameters = 20, 200_000
    random = torch.Generator().manual_seed(3)
    noise = 1e-3 * torch.randn(snapshots, parameters, generator=random)
    drift = 1e-3 * torch.randn(parameters, generator=random)
    velocities = {
        "random walk": noise,
        "drift and noise": drift + noise,
        "smoothed": torch.stack([noise[max(0, t - 5) : t + 1].mean(dim=0) for t in range(snapshots)]),
        "nearly straight": drift + 0.01 * noise,
    }[kind]
    history = torch.randn(parameters, generator=random) + velocities.cumsum(dim=0)
    found, literal = extrapolate(history), reference.extrapolate(history)
    assert found.tau == pytest.approx(reference.tsf(history), rel=1e-7)
    assert found.kappa == pytest.approx(reference.curvature(history), rel=1e-7)
    assert found.rho == pytest.approx(reference.spectral_tortuosity(history), rel=1e-7)
    displacement = found.c @ history.double().diff(dim=0)
    assert (displacement - literal.displacement).norm() < 1e-6 * literal.displacement.norm()
    # Weights of float32 hold the displacement to their own rounding only.
    torch.testing.assert_close(
        found.weights.double(), history[-1].double() + literal.displacement, rtol=1e-7, atol=4e-8
    )


def test_long_steps_from_tiny_velocities_are_not_lost_in_rounding() -> None:
    history = 1 + 1e-5 * torch.randn(20, 5000, generator=torch.Generator().manual_seed(0)).cumsum(dim=0)
    found = extrapolate(history, beta0=100.0, gamma0=100.0)
    expected = history[-1].double() + reference.extrapolate(history, beta0=100.0, gamma0=100.0).displacement
    torch.testing.assert_close(found.weights.double(), expected, rtol=1e-7, atol=4e-8)


def test_chunks_leave_no_seam() -> None:
    history = torch.randn(5, 4096 * 3 + 17, generator=torch.Generator().manual_seed(0)).cumsum(dim=0)
    velocities = history.double().diff(dim=0)
    torch.testing.assert_close(gram(history), velocities @ velocities.T, rtol=1e-7, atol=1e-3)
    found = extrapolate(history)
    torch.testing.assert_close(found.weights.double(), history[-1] + found.c @ velocities, rtol=1e-6, atol=1e-6)


class _LargestAllocation(TorchDispatchMode):
    """Notes the largest tensor that any operation allocates."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in inputs:
                self.nbytes = max(self.nbytes, tensor.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_extra_memory_is_a_tenth_of_the_history_at_most(dtype: torch.dtype) -> None:
    history = torch.zeros(20, 600_000, dtype=dtype)
    with _LargestAllocation() as largest:
        extrapolate(history)
    assert 0 < largest.nbytes <= 0.1 * history.nbytes


def test_eta_max_bounds_eta() -> None:
    history = wandering(0, 20, 50, 0.0)
    assert extrapolate(history).eta > 0.1
    assert extrapolate(history, eta_max=0.1).eta == 0.1


def test_step_scale_velocity_counts_steps_in_mean_velocity_lengths() -> None:
    history = wandering(0, 20, 50, 0.0)
    paper, scaled = extrapolate(history), extrapolate(history, step_scale="velocity")
    length = history.diff(dim=0).norm(dim=1).mean().item()
    for gain in ("beta", "gamma", "eta"):
        assert getattr(scaled, gain) == pytest.approx(length * getattr(paper, gain))
    torch.testing.assert_close(scaled.c, length * paper.c)


@given(histories, st.floats(0.5, 20))
def test_step_scale_velocity_makes_the_step_follow_the_weights_scale(history: Tensor, factor: float) -> None:
    once, scaled = (extrapolate(h, rank=2, step_scale="velocity") for h in (history, factor * history))
    torch.testing.assert_close(scaled.weights, factor * once.weights, rtol=0, atol=1e-5 * factor)


def test_gram_and_snapshots_may_live_on_any_leaf_with_gradients() -> None:
    history = wandering(0, 5, 6, 0.0).requires_grad_()
    assert not extrapolate(history).weights.requires_grad


@pytest.mark.parametrize(
    ("history", "sentence"),
    [
        (torch.zeros(2, 5), "2 of the 3 snapshots"),
        (torch.zeros(5), "shape"),
        (torch.zeros(5, 2, 2), "shape"),
        (torch.zeros(5, 2, dtype=torch.int64), "floating-point"),
        (torch.tensor([[0.0], [1.0], [float("nan")]]), "not finite"),
        (torch.tensor([[0.0], [float("inf")], [float("inf")]]), "not finite"),
    ],
)
def test_unusable_histories_are_refused_in_a_sentence(history: Tensor, sentence: str) -> None:
    for function in (trajectory_metrics, extrapolate):
        with pytest.raises(ValueError, match=sentence):
            function(history)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 0},
        {"escape_modes": 0},
        {"beta0": -1.0},
        {"gamma0": float("nan")},
        {"eta0": float("inf")},
        {"tau_crit": -1.0},
        {"kappa_crit": -1.0},
        {"eta_max": -1.0},
        {"eps": 0.0},
        {"step_scale": "relative"},
    ],
)
def test_hyperparameters_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        extrapolate(wandering(0, 5, 6, 0.0), **wrong)


@pytest.mark.parametrize("K", [torch.zeros(1, 1), torch.zeros(3, 4), torch.zeros(3)])
def test_a_gram_matrix_must_be_square_and_of_two_velocities_or_more(K: Tensor) -> None:
    for function in (metrics_from_gram, coefficients):
        with pytest.raises(ValueError, match="shape"):
            function(K)
