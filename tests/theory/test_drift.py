"""The variance ratio on motions in closed form; level and power of the test of drift, by simulation; the trigger."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from grow_cli.config import Growth, Stop, Trajectory
from grow_cli.errors import UserError
from grow_cli.theory.drift import Drift, drift_of
from grow_cli.theory.history import History
from grow_cli.theory.trajectory import metrics_from_gram
from grow_cli.triggers.drift import DriftTest

TRIALS, VELOCITIES, ENTRIES = 400, 19, 300


def gram_of(V: Tensor) -> Tensor:
    return V @ V.T


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("velocities", [5, 19, 60])
def test_the_variance_ratio_of_motions_in_closed_form(velocities: int) -> None:
    straight = noise(1, 7).expand(velocities, 7)
    walk = torch.eye(velocities, dtype=torch.float64)  # steps in directions of their own
    assert drift_of(gram_of(straight)).variance_ratio == pytest.approx(velocities)
    assert drift_of(gram_of(walk)).variance_ratio == pytest.approx(1)
    angle = 2 * math.pi * torch.arange(velocities).double() / velocities
    loop = torch.stack([angle.cos(), angle.sin()], dim=1)
    assert drift_of(gram_of(loop)).variance_ratio == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_tau_is_the_variance_ratio_where_steps_are_alike(seed: int) -> None:
    V = noise(VELOCITIES, 8, seed=seed)
    K = gram_of(V / V.norm(dim=1, keepdim=True))
    assert metrics_from_gram(K).tau == pytest.approx(math.sqrt(VELOCITIES / drift_of(K).variance_ratio), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("velocities", [5, 12])
def test_the_bound_is_the_jackknifes_written_out(velocities: int, seed: int) -> None:
    from scipy.stats import t

    V = noise(velocities, 8, seed=seed)
    K, found = gram_of(V), drift_of(gram_of(V), level=0.1)

    def mean(held: list[int]) -> float:
        pairs = [K[s, t].item() for s in held for t in held if abs(s - t) >= 2]
        return sum(pairs) / len(pairs) / (K.trace().item() / velocities)

    everyone = list(range(velocities))
    without = [mean([one for one in everyone if one != left]) for left in everyone]
    middle = sum(without) / velocities
    error = math.sqrt((velocities - 1) / velocities * sum((one - middle) ** 2 for one in without))
    assert found.drift == pytest.approx(mean(everyone))
    assert found.upper == pytest.approx(mean(everyone) + t.ppf(0.9, velocities - 1) * error)


@cache
def called_stagnant(kind: str, strength: float) -> float:
    """In how many of the windows."""
    V = noise(TRIALS, VELOCITIES, ENTRIES, seed=1)
    if kind == "walk":  # with a drift of so many standard deviations a step, in every entry
        V = V + strength * noise(ENTRIES, seed=2)
    elif kind == "confined":  # a walk that is driven back by a part of its distance
        W = [noise(TRIALS, ENTRIES, seed=3) / math.sqrt(2 * strength - strength**2)]
        for step in range(VELOCITIES):
            W.append((1 - strength) * W[-1] + V[:, step])
        V = torch.stack(W, dim=1).diff(dim=1)
    else:  # a walk that drifts, read with noise
        assert kind == "noisy"
        V = V.cumsum(dim=1) + strength * noise(TRIALS, VELOCITIES, ENTRIES, seed=4)
        V = torch.cat([torch.zeros(TRIALS, 1, ENTRIES), V], dim=1).diff(dim=1) + 0.1
    return sum(drift_of(gram_of(one)).upper <= 0 for one in V) / TRIALS


@pytest.mark.parametrize("drift", [0.0, 0.05, 0.1, 0.5])
def test_weights_that_drift_or_diffuse_are_called_stagnant_at_most_at_the_level(drift: float) -> None:
    assert called_stagnant("walk", drift) <= 0.05


@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_noise_of_the_snapshots_is_no_confinement(strength: float) -> None:
    """It makes neighbouring velocities opposite, which the variance ratio reads and the test leaves out."""
    assert called_stagnant("noisy", strength) <= 0.05


@pytest.mark.parametrize(("pull", "power"), [(0.05, 0.9), (0.1, 0.9), (0.2, 0.9)])
def test_weights_that_are_driven_back_are_found(pull: float, power: float) -> None:
    assert called_stagnant("confined", pull) >= power


def test_a_window_in_which_nothing_moves_says_nothing() -> None:
    found = drift_of(torch.zeros(19, 19))
    assert all(math.isnan(value) for value in (found.variance_ratio, found.drift, found.upper))


@pytest.mark.parametrize(
    ("K", "level", "words"), [(torch.eye(4), 0.05, "5 or more"), (torch.eye(9), 1.0, "level is 1")]
)
def test_what_cannot_be_tested_is_refused(K: Tensor, level: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        drift_of(K, level)


@dataclass
class Seen:
    """What the trigger may look at."""

    history: Any


def confined(window: int = 12, seed: int = 0) -> tuple[Any, Any]:
    """A history of weights that are driven back, and what takes so many more snapshots of them."""
    random, weights = torch.Generator().manual_seed(seed), torch.zeros(2000)
    history = History(window)
    history.watch({"w": weights})

    def record(count: int) -> None:
        for _ in range(count):
            weights.mul_(0.7).add_(torch.randn(2000, generator=random))
            history.append((history.steps or [-1])[-1] + 1)

    return history, record


def test_windows_that_are_tested_do_not_overlap() -> None:
    history, record = confined()
    record(4)  # or the first window would hold the way from the start
    trigger, seen = DriftTest(patience=3).begin(), Seen(history)
    counted = []
    for _ in range(60):
        record(1)
        for _ in range(3):  # evaluations between two snapshots
            verdict = trigger.update(seen)  # type: ignore[arg-type]
        counted.append(verdict.readings["stagnant_windows"])
        assert verdict.fires == (counted[-1] >= 3)
    rose = [5 + at for at in range(1, 60) if counted[at] > counted[at - 1]]
    assert all(later - earlier == 11 for earlier, later in itertools.pairwise(rose)), rose
    assert counted[-1] >= 3


def test_after_growth_no_velocity_of_before_is_tested() -> None:
    history, record = confined()
    record(40)
    trigger, seen = DriftTest().begin(), Seen(history)
    assert trigger.update(seen).fires  # type: ignore[arg-type]
    trigger.reset(seen)  # type: ignore[arg-type]
    fired = []
    for _ in range(12):
        fired.append(trigger.update(seen).fires)  # type: ignore[arg-type]
        record(1)
    assert fired == [False] * 11 + [True]


def test_the_trigger_reads_what_the_test_says_once_the_window_is_full() -> None:
    history, record = confined()
    trigger = DriftTest(level=0.2).begin()
    record(11)
    assert math.isnan(trigger.update(Seen(history)).readings["drift"])  # type: ignore[arg-type]
    record(1)
    readings = trigger.update(Seen(history)).readings  # type: ignore[arg-type]
    assert Drift(*list(readings.values())[:3]) == history.drift(0.2)
    assert tuple(readings) == trigger.readings


def _run(stop: int = 100, **trajectory: Any) -> Any:
    return SimpleNamespace(
        trajectory=Trajectory(**trajectory),
        stop=Stop(epochs=None, steps=stop),
        growth=Growth(until=1.0),
        method=SimpleNamespace(heeds_until=True),
    )


def test_runs_that_cannot_be_tested_are_refused_or_warned_of() -> None:
    with pytest.raises(UserError, match=r"trajectory.window=5: trigger=drift needs 6 snapshots or more"):
        DriftTest().check_run(_run(window=5))
    assert DriftTest().check_run(_run(smoothing=0.5)) == []
    assert "set trajectory.smoothing=0" in DriftTest().check_run(_run(smoothing=0.99))[0]
    now: Any = SimpleNamespace(config=_run(stop=379, window=20, every=10), steps_per_epoch=10)
    assert "needs 380 steps before it can fire" in DriftTest(patience=2).check_start(now)[0]
    assert DriftTest(patience=1).check_start(now) == []
