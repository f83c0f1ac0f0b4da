"""The neurons and the best update from sums in float32, of inputs whose second moments are badly conditioned.

A sum of float32 products is off by about 1e-7 of its largest eigenvalue, so that what lies below is rounding: `rtol` has to
leave it out, and what is kept then has to be what float64 finds.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from grow_cli.theory.bottleneck import Neurons, best_update_of, new_neurons, new_neurons_of, whitening_of

SEEDS = range(10)
ROWS = 400
# rtol → how far float32 may be off: in the gain and in what neurons and update do, as parts of float64's. A direction that has
# 1e-6 of the largest second moment is itself known to a tenth only.
TOLERANCES = {1e-3: (1e-4, 1e-4), 1e-6: (0.02, 0.15)}


def badly_conditioned(condition: float, seed: int) -> tuple[Tensor, Tensor]:
    """B (400, 12) whose second moment has this condition number, evenly spread on a log scale, and goals (400, 5).

    Both are float32 numbers held in float64, so that the two precisions see the same data. The goals depend on all
    directions alike: those that vary least say as much as the others.
    """
    g = torch.Generator().manual_seed(seed)
    independent = torch.randn(ROWS, 12, generator=g, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(12, 12, generator=g, dtype=torch.float64))
    sizes = condition ** -torch.linspace(0, 0.5, 12, dtype=torch.float64)
    goals = torch.sin(independent @ torch.randn(12, 5, generator=g, dtype=torch.float64) / 12**0.5)
    noise = torch.randn(ROWS, 5, generator=g, dtype=torch.float64)
    return ((independent * sizes) @ turn.T).float().double(), (goals + 0.3 * noise).float().double()


def means(b: Tensor, v: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """S and N from products in this dtype, in float64 from there on, as `methods.width.statistics` has them."""
    b, v = b.to(dtype), v.to(dtype)
    return (b.T @ b).double() / ROWS, (b.T @ v).double() / ROWS


def effect(b: Tensor, neurons: Neurons) -> Tensor:
    return b @ neurons.alpha.T @ neurons.omega.T


def power(v: Tensor) -> float:
    return float(v.square().sum()) / ROWS


@pytest.mark.parametrize("rtol", TOLERANCES)
@pytest.mark.parametrize("condition", [1e6, 1e7, 1e8])
def test_float32_finds_the_neurons_and_the_update_of_float64(condition: float, rtol: float) -> None:
    gain_off, effect_off = TOLERANCES[rtol]
    for seed in SEEDS:
        b, v = badly_conditioned(condition, seed)
        found, updates = [], []
        for dtype in (torch.float32, torch.float64):
            s, n = means(b, v, dtype)
            whitening = whitening_of(s, rtol)
            assert whitening.shape[1] < 12 or rtol * condition <= 1, "the cut leaves out what is rounding"
            found.append(new_neurons_of(whitening, n, 3))
            updates.append(b @ best_update_of(s, n, rtol).T)
        single, exact = found
        predicted, expected = (float(neurons.eigenvalues.square().sum()) for neurons in found)
        assert predicted == pytest.approx(expected, rel=gain_off)
        assert (effect(b, single) - effect(b, exact)).norm() <= effect_off * effect(b, exact).norm()
        assert (updates[0] - updates[1]).norm() <= effect_off * updates[1].norm()
        # what is promised is what comes, and no more than three neurons can give
        assert power(v) - power(v - effect(b, single)) == pytest.approx(predicted, rel=gain_off)
        assert predicted <= float(new_neurons(b, v, 3, 1e-16).eigenvalues.square().sum()) * (1 + gain_off)
        assert power(v - updates[0]) < power(v)


def test_without_the_cut_rounding_is_taken_for_a_direction() -> None:
    """Why `rtol` must not lie below float32's rounding: the update then does more harm than there is to be gained."""
    worst = 0.0
    for seed in SEEDS:
        b, v = badly_conditioned(1e8, seed)
        s, n = means(b, v, torch.float32)
        worst = max(worst, power(v - b @ best_update_of(s, n, 1e-12).T) / power(v))
    assert worst > 1


@pytest.mark.parametrize("condition", [1e6, 1e8, 1e12])
def test_the_data_themselves_stand_a_condition_that_their_sums_do_not(condition: float) -> None:
    """`new_neurons` decomposes B, whose condition is the root of that of BᵀB: nothing has to be left out."""
    for seed in SEEDS:
        b, v = badly_conditioned(condition, seed)
        neurons = new_neurons(b.float(), v.float(), 3, 1e-16)
        predicted = float(neurons.eigenvalues.square().sum())
        assert power(v) - power(v - effect(b, neurons)) == pytest.approx(predicted, rel=1e-6)
        # the same for any invertible mixture of the inputs: the space that they span is the same
        mixed, _ = torch.linalg.qr(b)
        expected = float(new_neurons(mixed, v, 3, 1e-16).eigenvalues.square().sum())
        assert predicted == pytest.approx(expected, rel=1e-6)
