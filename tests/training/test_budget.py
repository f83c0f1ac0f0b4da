"""Every stop rule ends a run, and the fraction of the budget follows the nearest limit."""

from __future__ import annotations

import pytest

from grow_cli.config import Evaluate, Stop
from grow_cli.moment import Progress
from grow_cli.training.budget import Budget, Ended


def test_used_follows_the_nearest_limit() -> None:
    assert Budget(Stop(epochs=10), 20).used(50, 0.0, 0.0) == 0.25
    assert Budget(Stop(epochs=10, steps=100), 20).used(50, 0.0, 0.0) == 0.5
    assert Budget(Stop(epochs=10, seconds=8.0), 20).used(50, 6.0, 0.0) == 0.75
    assert Budget(Stop(epochs=None, seconds=8.0), 20).used(10**9, 2.0, 0.0) == 0.25
    assert Budget(Stop(epochs=10, flops=1e9), 20).used(50, 0.0, 5e8) == 0.5


@pytest.mark.parametrize(
    ("stop", "progress", "words"),
    [
        (Stop(epochs=2), Progress(step=40), "2 epochs"),
        (Stop(epochs=9, steps=30), Progress(step=30), "30 steps"),
        (Stop(epochs=None, seconds=1.5), Progress(seconds=1.6), "1.5 seconds"),
        (Stop(epochs=None, flops=1e9), Progress(flops=10**9), "1e+09 FLOPs"),
        (Stop(epochs=9, parameters=100), Progress(), "100 parameters"),
        (Stop(epochs=9, growth_events=3), Progress(events=3), "3 growth events"),
        (Stop(epochs=9, plateau=4), Progress(evaluations_without_gain=4), "4 evaluations"),
        (Stop(epochs=9, val_score=0.9), Progress(best_val_score=0.9), "a validation score of 0.9"),
        (Stop(epochs=9, train_score=1.0), Progress(train_score=1.0), "a training score of 1"),
    ],
)
def test_each_rule_ends_a_run(stop: Stop, progress: Progress, words: str) -> None:
    ended = Budget(stop, 20).ended(progress, parameters=120)
    assert ended is not None
    assert str(ended).startswith(words)
    assert Budget(Stop(epochs=9), 20).ended(Progress(step=179), parameters=120) is None


def test_a_run_without_a_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="budget"):
        Stop(epochs=None, growth_events=3)


def test_a_step_counts_as_today_while_the_batch_size_never_changed() -> None:
    for per_epoch in (7, 9, 96, 703):
        budget = Budget(Stop(epochs=30, steps=10**6), per_epoch)
        assert budget.steps == 30 * per_epoch
        for step in range(0, 30 * per_epoch, 5):
            assert budget.used(step, 0.0, 0.0) == step / (30 * per_epoch)
            assert budget.epoch(step) == pytest.approx(step // per_epoch + step % per_epoch / per_epoch, rel=1e-14)


@pytest.mark.parametrize("per_epoch", [1, 3, 6, 7, 50, 1000])
@pytest.mark.parametrize("change", [1, 10, 27, 63, 89])
def test_a_changed_batch_size_neither_jumps_nor_leaves_anything_of_the_budget(change: int, per_epoch: int) -> None:
    stop = Stop(epochs=10)
    before = Budget(stop, 9)
    after = Budget(stop, per_epoch, change, before.epoch(change))
    assert after.epoch(change) == pytest.approx(before.epoch(change))
    assert after.used(change, 0.0, 0.0) == pytest.approx(before.used(change, 0.0, 0.0))
    assert after.used(int(after.steps), 0.0, 0.0) == pytest.approx(1)
    assert after.used(int(after.steps) - 1, 0.0, 0.0) < 1
    assert 10 - 1e-6 <= after.epoch(int(after.steps)) < 10 + 1 / per_epoch
    assert after.ended(Progress(step=int(after.steps) - 1), 0) is None
    assert after.ended(Progress(step=int(after.steps)), 0) == Ended("epochs", 10)


def test_an_anchor_between_epochs_adds_no_step() -> None:
    assert Budget(Stop(epochs=20), 6, 1, 1 / 3).steps == 119  # (20 - 1/3) * 6 is 118.00000000000001
    assert Budget(Stop(epochs=20, steps=100), 6, 1, 1 / 3).steps == 100
    assert Budget(Stop(epochs=20, steps=100), 6, 1, 1 / 3).ended(Progress(step=100), 0) == Ended("steps", 100)


def test_evaluations_keep_their_distance_in_epochs_from_the_anchor_on() -> None:
    def marks(budget: Budget, evaluate: Evaluate, step: int) -> list[int]:
        return [step := budget.next_evaluation(step, evaluate) for _ in range(3)]

    half, hundred = Evaluate(every=0.5), Evaluate(every=100, unit="steps")
    assert marks(Budget(Stop(epochs=10), 20), half, 0) == [10, 20, 30]
    assert marks(Budget(Stop(epochs=10), 20), half, 13) == [20, 30, 40], "also from in between"
    assert marks(Budget(Stop(epochs=10), 8, 30, 1.5), half, 30) == [34, 38, 42]
    assert marks(Budget(Stop(epochs=10), 8, 300, 15.0), hundred, 300) == [400, 500, 600]
    assert marks(Budget(Stop(epochs=10), 8), Evaluate(every=0.01), 0) == [1, 2, 3]
