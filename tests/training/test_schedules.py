"""Schedules are pure functions of the budget's progress."""

from __future__ import annotations

import pytest

from grow_cli.schedules.anneal import Anneal
from grow_cli.schedules.base import ScheduleOption
from grow_cli.schedules.constant import Constant
from grow_cli.schedules.cosine import Cosine
from grow_cli.schedules.one_cycle import OneCycle

ALL = (Constant(), Cosine(), OneCycle(), Anneal())


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_factors_stay_between_zero_and_one(schedule: ScheduleOption) -> None:
    for restarted_at in (0.0, 0.3, 0.9):
        for i in range(100):
            progress = restarted_at + (1 - restarted_at) * i / 100
            assert 0 <= schedule.factor(progress, restarted_at, i, 0.6) <= 1


@pytest.mark.parametrize("schedule", [Cosine(), OneCycle(), Anneal()], ids=lambda s: type(s).__name__)
def test_the_rate_ends_at_zero_however_often_it_restarted(schedule: ScheduleOption) -> None:
    for restarted_at in (0.0, 0.3, 0.55):
        assert schedule.factor(1 - 1e-6, restarted_at, 10_000, 0.6) == pytest.approx(0, abs=1e-4)


def test_anneal_is_constant_while_growth_is_allowed_and_linear_after() -> None:
    factors = [Anneal().factor(p, 0.0, 1000, 0.6) for p in (0.0, 0.3, 0.6, 0.7, 0.8, 0.9)]
    assert factors == pytest.approx([1, 1, 1, 0.75, 0.5, 0.25])


def test_cosine_begins_anew_over_what_is_left_after_growth() -> None:
    assert Cosine(warmup=0).factor(0.5, 0.5, 0, 0.6) == 1
    assert Cosine().factor(0.75, 0.5, 1000, 0.6) == pytest.approx(0.5)
    assert Cosine(floor=0.2).factor(1 - 1e-9, 0.0, 1000, 0.6) == pytest.approx(0.2)


def test_one_cycle_rises_to_its_peak_and_falls() -> None:
    cycle = OneCycle(rise=0.25, div=10)
    assert cycle.factor(0.0, 0.0, 0, 0.6) == pytest.approx(0.1)
    assert cycle.factor(0.25, 0.0, 100, 0.6) == pytest.approx(1)
    assert cycle.factor(0.625, 0.0, 100, 0.6) == pytest.approx(0.5)
    assert OneCycle(rise=0).factor(0.0, 0.0, 0, 0.6) == 1


def test_the_warm_up_rises_linearly_after_each_restart() -> None:
    schedule = Constant(warmup=4)
    assert [schedule.factor(0.5, 0.5, s, 0.6) for s in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
