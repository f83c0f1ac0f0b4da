"""Every stop rule ends a run, and the fraction of the budget follows the nearest limit."""

from __future__ import annotations

import pytest

from grow_cli.config import Stop
from grow_cli.training.budget import Budget
from grow_cli.training.state import Progress


def test_used_follows_the_nearest_limit() -> None:
    assert Budget(Stop(epochs=10), 20).used(50, 0.0) == 0.25
    assert Budget(Stop(epochs=10, steps=100), 20).used(50, 0.0) == 0.5
    assert Budget(Stop(epochs=10, seconds=8.0), 20).used(50, 6.0) == 0.75
    assert Budget(Stop(seconds=8.0), 20).used(10**9, 2.0) == 0.25


@pytest.mark.parametrize(
    ("stop", "progress", "words"),
    [
        (Stop(epochs=2), Progress(step=40), "2 epochs"),
        (Stop(epochs=9, steps=30), Progress(step=30), "30 steps"),
        (Stop(seconds=1.5), Progress(seconds=1.6), "1.5 seconds"),
        (Stop(epochs=9, parameters=100), Progress(), "100 parameters"),
        (Stop(epochs=9, growth_events=3), Progress(events=3), "3 growth events"),
        (Stop(epochs=9, plateau=4), Progress(evaluations_without_gain=4), "4 evaluations"),
    ],
)
def test_each_rule_ends_a_run(stop: Stop, progress: Progress, words: str) -> None:
    ended = Budget(stop, 20).ended(progress, parameters=120)
    assert ended is not None
    assert ended.startswith(words)
    assert Budget(Stop(epochs=9), 20).ended(Progress(step=179), parameters=120) is None


def test_a_run_without_a_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="budget"):
        Stop(epochs=None, growth_events=3)
