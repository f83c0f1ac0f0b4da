"""The unit of tau and kappa: a simulated random walk reads 1, whatever the sampling and the smoothing."""

from __future__ import annotations

import math

import pytest
import torch

from grow_cli.theory.history import History
from grow_cli.theory.walk import walk_gram, walk_metrics

PARAMETERS = 6000


def walking(history: History, every: int, snapshots: int, seed: int = 0) -> None:
    """Record a random walk of equal steps in all directions, as training is recorded."""
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn(PARAMETERS, generator=random)
    history.watch({"w": weights})
    history.append(0)
    for step in range(1, every * snapshots + 1):
        weights += 1e-2 * torch.randn(PARAMETERS, generator=random)
        history.smooth()
        if step % every == 0:
            history.append(step // every)


@pytest.mark.parametrize("full_for", [0, 40])
@pytest.mark.parametrize("smoothing", [0.0, 0.5, 0.9, 0.97, 0.99, 0.999])
@pytest.mark.parametrize(("sampling", "window", "every"), [("uniform", 20, 10), ("uniform", 5, 3), ("adaptive", 9, 4)])
def test_a_pure_random_walk_reads_one_within_two_percent(
    sampling: str, window: int, every: int, smoothing: float, full_for: int
) -> None:
    """At the first full window, in which a long average has only begun to move, and later."""
    history = History(window, sampling=sampling, smoothing=smoothing)
    walking(history, every, (window - 1 if sampling == "uniform" else 72) + full_for, seed=window)
    assert history.full
    read, unit = history.metrics(), history.walk_metrics(every)
    assert read.tau / unit.tau == pytest.approx(1, abs=0.02)
    assert read.kappa / unit.kappa == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("snapshots", [3, 5, 20, 100])
@pytest.mark.parametrize("every", [1, 10])
def test_evenly_spaced_snapshots_of_the_walk_itself_have_the_known_unit(snapshots: int, every: int) -> None:
    unit = walk_metrics([every * i for i in range(snapshots)])
    assert unit.tau == pytest.approx(math.sqrt(snapshots - 1), rel=1e-12)
    assert unit.kappa == pytest.approx(math.sqrt(snapshots - 2), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.3, 0.99, 0.99999])
def test_the_closed_form_is_the_sum_over_increments_written_out(smoothing: float) -> None:
    times = [0, 3, 10, 11, 40, 2000]
    average, weights = torch.zeros(2000, dtype=torch.float64), torch.zeros(2000, dtype=torch.float64)
    taken = [average.clone()]
    for step in range(1, 2001):
        weights[step - 1] = 1  # increments are the axes of a space of their own
        average = smoothing * average + (1 - smoothing) * weights
        if step in times:
            taken.append(average.clone())
    V = torch.stack(taken).diff(dim=0)
    found = walk_gram(times, smoothing)
    torch.testing.assert_close(found, V @ V.T, rtol=1e-6, atol=1e-12)


def test_the_units_that_smoothing_and_adaptive_sampling_have_are_far_from_that_of_even_snapshots() -> None:
    """Taking the one for the other made a walk read 0.86 with adaptive sampling and down to 0.24 with smoothing."""
    even = walk_metrics(range(0, 200, 10)).tau
    later = range(10_000, 10_200, 10)
    assert [round(walk_metrics(later, s).tau / even, 2) for s in (0.9, 0.97, 0.99, 0.999)] == [0.63, 0.41, 0.3, 0.24]
