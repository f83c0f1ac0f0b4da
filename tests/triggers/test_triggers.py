"""Triggers fire when their criterion holds for as long as they ask, and forget it after growth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from grow_cli.commands.train import compose
from grow_cli.config import Evaluate, Growth, Stop, Trajectory
from grow_cli.moment import Progress
from grow_cli.theory.history import History, first_full
from grow_cli.triggers.at import At
from grow_cli.triggers.base import Trigger
from grow_cli.triggers.combined import All, Any_
from grow_cli.triggers.drift import DriftTest
from grow_cli.triggers.every import Every
from grow_cli.triggers.never import Never
from grow_cli.triggers.plateau import Plateau
from grow_cli.triggers.tau_kappa import TauKappa


@dataclass
class Seen:
    """What a trigger may look at."""

    progress: Progress = field(default_factory=Progress)
    measured: dict[str, float] = field(default_factory=dict)
    history: History | None = None
    steps_per_epoch: int = 10
    used: float = 0.0
    config: Any = field(default_factory=lambda: SimpleNamespace(evaluate=Evaluate(), trajectory=Trajectory()))


def _history(path: torch.Tensor) -> History:
    weights = torch.zeros(path.shape[1])
    history = History(len(path))
    history.watch({"w": weights})
    for index, point in enumerate(path):
        weights.copy_(point)
        history.append(index)
    return history


def _closed_path() -> History:
    angle = torch.linspace(0, 2 * math.pi, 12)
    return _history(torch.stack([angle.cos(), angle.sin()], 1) + 1e-3 * angle[:, None])


def _fires(trigger: Trigger, seen: Any, times: int) -> list[bool]:
    """Evaluations with a snapshot between each two, at which the weights are where they were."""
    fired = []
    for _ in range(times):
        fired.append(trigger.update(seen).fires)
        if seen.history is not None and times > 1:
            seen.history.append(seen.history.steps[-1] + 1)
    return fired


def test_tau_kappa_needs_patience_evaluations_in_a_row() -> None:
    seen, trigger = Seen(history=_closed_path()), TauKappa(patience=3).begin()
    assert _fires(trigger, seen, 4) == [False, False, True, True]
    trigger.reset(seen)
    assert _fires(trigger, seen, 2) == [False, False]
    straight = Seen(history=_history(torch.arange(12.0)[:, None].repeat(1, 3)))
    assert _fires(trigger, straight, 1) == [False]
    crooked = Seen(history=_closed_path())
    crooked.history.append(12)  # type: ignore[union-attr]
    assert _fires(trigger, crooked, 3) == [False, False, True], "a straight window resets the count"


def test_tau_kappa_waits_for_a_full_window() -> None:
    history = _closed_path()
    part = History(20)
    weights = torch.zeros(2)
    part.watch({"w": weights})
    for index in range(10):
        weights.copy_(torch.tensor([math.cos(index), math.sin(index)]))
        part.append(index)
    assert len(history) == 12
    assert _fires(TauKappa(patience=1).begin(), Seen(history=part), 3) == [False] * 3
    verdict = TauKappa(patience=1).begin().update(Seen(history=part))  # type: ignore[arg-type]
    assert verdict.readings["tau"] > 1, "it is logged before it counts"
    empty = TauKappa(patience=1).begin().update(Seen(history=None))  # type: ignore[arg-type]
    assert math.isnan(empty.readings["tau"])


def test_a_random_walk_reads_one_on_the_diffusion_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    walk = _history(torch.randn(20, 20_000, generator=generator).cumsum(0))
    assert _fires(TauKappa(patience=1).begin(), Seen(history=walk), 1) == [True], "noise alone fires the paper's"
    below = TauKappa(patience=1, scale="diffusion", tau_crit=1.05, kappa_crit=1.05).begin()
    assert _fires(below, Seen(history=walk), 1) == [False]
    above = TauKappa(patience=1, scale="diffusion", tau_crit=0.95, kappa_crit=0.95).begin()
    assert _fires(above, Seen(history=walk), 1) == [True]


@pytest.mark.parametrize("unit", ["steps", "epochs", "seconds"])
def test_every_fires_once_per_interval(unit: str) -> None:
    trigger, fired = Every(every=3, unit=unit).begin(), []
    for now in range(1, 10):
        seen: Any = Seen(Progress(step=now, epoch=float(now), seconds=float(now)))
        fired.append(trigger.update(seen).fires)
        if fired[-1]:
            trigger.reset(seen)
    assert fired == [False, False, True] * 3


@pytest.mark.parametrize("epochs", [30, 60, 300])
def test_without_an_interval_a_run_of_any_length_grows_as_often(epochs: int) -> None:
    trigger, fired = Every(every=None).begin(), []
    assert trigger.reads_budget
    for epoch in range(1, epochs + 1):
        seen: Any = Seen(Progress(step=10 * epoch, epoch=float(epoch)), used=epoch / epochs)
        seen.config.stop = Stop(epochs=epochs)
        if trigger.update(seen).fires:
            fired.append(epoch)
            trigger.reset(seen)
    assert fired == [epochs * n // 30 for n in range(1, 31)]


def test_a_run_that_is_extended_grows_on_although_less_of_its_budget_is_used() -> None:
    trigger, fired = Every(every=None).begin(), []
    trigger.state.last = 18 / 30  # of thirty epochs; now there are sixty
    for epoch in range(31, 40):
        seen: Any = Seen(Progress(step=10 * epoch, epoch=float(epoch)), used=epoch / 60)
        seen.config.stop = Stop(epochs=60)
        if trigger.update(seen).fires:
            fired.append(epoch)
            trigger.reset(seen)
    assert fired == [33, 35, 37, 39]


def test_early_growth_is_densest_at_first_and_over_before_the_rate_falls() -> None:
    config = compose(["method=senn"])
    at = config.trigger.fractions  # type: ignore[attr-defined]
    assert (config.trigger.name, at) == ("at", sorted(at))
    assert all(later - now > now - before for before, now, later in zip(at[:-2], at[1:-1], at[2:], strict=True))
    assert at[-1] < config.growth.until


def test_a_run_of_fewer_evaluations_than_events_grows_at_each() -> None:
    assert compose(["trigger=steadily"]).trigger.every is None
    trigger = Every(every=None).begin()
    for epoch in (1, 2, 3):
        seen: Any = Seen(Progress(step=10 * epoch, epoch=float(epoch)), used=epoch / 5)
        seen.config.stop = Stop(epochs=5)
        assert trigger.update(seen).fires
        trigger.reset(seen)


@pytest.mark.slow
def test_an_interval_that_evaluations_change_is_said() -> None:
    def said(*overrides: str) -> list[str]:
        config = compose(["trigger=every", "evaluate.every=0.5", *overrides])
        return config.trigger.check_run(config)

    assert "trigger.every=0.1 epochs will be 0.5:" in said("method=random_width", "trigger.every=0.1")[0]
    assert "trigger.every=0.7 epochs will be 1:" in said("method=random_width", "trigger.every=0.7")[0]
    assert not said("method=random_width", "trigger.every=0.5")
    assert not said("method=random_width", "trigger.every=0.3", "evaluate.every=0.1"), "0.3 / 0.1 is 2.9999999999999996"
    assert not said("method=random_width", "trigger.every=0.1", "trigger.unit=steps"), (
        "these cannot be held against epochs"
    )
    assert not said("method=static", "trigger.every=0.1"), "nothing grows"


@pytest.mark.parametrize("steps_per_epoch", [94, 96, 422, 703, 1000, 1407])
@pytest.mark.parametrize("evaluations", [1, 2, 3, 10])
@pytest.mark.parametrize("distance", [0.1, 0.3, 1 / 3, 0.75])
def test_every_fires_at_each_evaluation_that_is_as_far_from_the_last(
    distance: float, evaluations: int, steps_per_epoch: int
) -> None:
    trigger = Every(every=evaluations * distance).begin()
    steps = round(distance * steps_per_epoch)
    for number in range(1, 300):
        seen: Any = Seen(Progress(step=number * steps, epoch=number * steps / steps_per_epoch))
        seen.steps_per_epoch, seen.config.evaluate.every = steps_per_epoch, distance
        fires = trigger.update(seen).fires
        assert fires == (number % evaluations == 0), number
        if fires:
            trigger.reset(seen)
            if evaluations == 1:
                seen.progress.epoch += (steps - 1) / steps_per_epoch
                assert not trigger.update(seen).fires, "an evaluation a step before"


@pytest.mark.parametrize(
    ("every", "steps_per_epoch", "distance", "unit", "step"),
    [
        (0.6, 10, 0.5, "epochs", 10),
        (0.93, 100, 0.1, "epochs", 100),
        (1, 94, 0.33, "epochs", 124),
        (2, 94, 0.33, "epochs", 217),
        (10, 93, 40, "steps", 960),
    ],
)
def test_an_interval_between_two_evaluations_ends_at_the_later(
    every: float, steps_per_epoch: int, distance: float, unit: str, step: int
) -> None:
    trigger = Every(every=every).begin()
    steps = round(distance * (steps_per_epoch if unit == "epochs" else 1))
    for now in range(steps, 1000, steps):
        seen: Any = Seen(Progress(step=now, epoch=now / steps_per_epoch))
        seen.steps_per_epoch, seen.config.evaluate = steps_per_epoch, Evaluate(every=distance, unit=unit)
        if trigger.update(seen).fires:
            break
    assert now == step


def test_at_fires_once_at_the_first_evaluation_at_or_after_each_step() -> None:
    seen: Any = Seen()
    trigger, fired = At(steps=[25, 40, 41]).begin(), []
    for step in range(10, 80, 10):
        seen.progress.step = step
        verdict = trigger.update(seen)
        if verdict.fires:
            fired.append(step)
            trigger.reset(seen)
    assert fired == [30, 40, 50]
    assert trigger.update(seen).readings == {}, "nothing is left to wait for"


def test_plateau_counts_evaluations_without_a_better_loss() -> None:
    trigger = Plateau(patience=2, min_delta=0.1).begin()
    losses = [1.0, 0.8, 0.75, 0.72, 0.5]
    assert [trigger.update(Seen(measured={"val_loss": v})).fires for v in losses] == [False, False, False, True, False]  # type: ignore[arg-type]


def test_any_and_all_combine_and_keep_each_part_counting() -> None:
    parts = {"a": Every(every=2, unit="steps"), "b": Every(every=3, unit="epochs")}
    either, both = Any_(of=parts).begin(), All(of=parts).begin()
    moments: list[Any] = [Seen(Progress(step=n, epoch=float(n))) for n in (1, 2, 3)]
    assert [either.update(s).fires for s in moments] == [False, True, True]
    assert [both.update(s).fires for s in moments] == [False, False, True]
    assert set(either.readings) == {"steps_since", "epochs_since"}
    assert either.thresholds(Seen()) == {"steps_since": 2, "epochs_since": 3}
    assert Any_(of={"t": TauKappa()}).needs_trajectory
    assert not Any_(of=parts).needs_trajectory


def _counting(*numbers: int) -> Any:
    return {f"part{n}": Every(every=n, unit="steps") for n in numbers}


@pytest.mark.parametrize("whole", [Any_, All])
def test_parts_of_one_kind_have_a_column_and_a_threshold_each(whole: Any) -> None:
    trigger = whole(of={**_counting(2, 3), "loss": Plateau(patience=4)}).begin()
    seen: Any = Seen(Progress(step=2), {"val_loss": 1.0})
    names = ("part2.steps_since", "part3.steps_since", "evaluations_without_gain")
    assert trigger.readings == names, "a name that no other part has stays as it is"
    assert trigger.thresholds(seen) == dict(zip(names, (2, 3, 4), strict=True))
    trigger.of["part3"].state.last = 1.0
    assert trigger.update(seen).readings == dict(zip(names, (2.0, 1.0, 0), strict=True))


def test_a_combination_within_a_combination_keeps_every_reading_apart() -> None:
    inner = Any_(of=_counting(2, 3))
    outer = All(of={"first": inner, "second": Any_(of=_counting(2, 5)), "alone": Every(every=7, unit="steps")}).begin()
    seen: Any = Seen(Progress(step=2))
    assert len(set(outer.readings)) == 5
    assert set(outer.readings) == set(outer.thresholds(seen)) == set(outer.update(seen).readings)
    assert sorted(outer.thresholds(seen).values()) == [2, 2, 3, 5, 7]


def test_never_never_fires() -> None:
    assert _fires(Never().begin(), Seen(), 3) == [False] * 3


@pytest.mark.parametrize(
    "option",
    [TauKappa(patience=3), DriftTest(level=0.9), Plateau(patience=3), Every(every=3, unit="steps"), At(steps=[1, 9])],
    ids=lambda o: type(o).__name__,
)
def test_a_restored_trigger_goes_on_counting(option: Any) -> None:
    whole_run, resumed_run = (Seen(Progress(step=2), {"val_loss": 1.0}, _closed_path()) for _ in range(2))
    whole, first, second = option.begin(), option.begin(), option.begin()
    _fires(whole, whole_run, 2)
    _fires(first, resumed_run, 2)
    second.load_state_dict(first.state_dict())
    fired = _fires(whole, whole_run, 3)
    assert any(fired) or isinstance(option, Every | DriftTest)
    assert _fires(second, resumed_run, 3) == fired


def test_patience_counts_each_reading_once_however_often_the_net_is_evaluated() -> None:
    """Five evaluations between two snapshots are one reading."""
    trigger, weights, history = TauKappa(patience=3).begin(), torch.zeros(2), History(5)
    history.watch({"w": weights})
    counted = []
    for index in range(9):
        weights.copy_(torch.tensor([math.cos(2 * index), math.sin(2 * index)]))
        history.append(index)
        for _ in range(5):
            verdict = trigger.update(Seen(history=history))  # type: ignore[arg-type]
            counted.append(verdict.readings["stagnant_evaluations"])
            assert verdict.fires == (counted[-1] >= 3)
    assert counted == [n for index in range(9) for n in [max(0, index - 3)] * 5]


@pytest.mark.parametrize("sampling", ["uniform", "adaptive"])
@pytest.mark.parametrize("window", [6, 9, 20])
def test_the_first_full_window_is_the_one_that_a_history_reaches(window: int, sampling: str) -> None:
    history = History(window, sampling=sampling)
    history.watch({"w": torch.zeros(2)})
    index = 0
    while not history.full:
        history.append(index)
        index += 1
    assert first_full(window, sampling) == history.steps


def _started(trigger: Trigger, until: float = 1.0, **stop: Any) -> Any:
    """From the keys of the trajectory to what is said at the start of a run of that length."""

    def said(**trajectory: Any) -> list[str]:
        config = SimpleNamespace(
            evaluate=Evaluate(every=7, unit="steps"),
            trajectory=Trajectory(**trajectory),
            stop=Stop(**{"epochs": None, **stop}),
            growth=Growth(until=until),
            method=SimpleNamespace(heeds_until=True),
        )
        seen: Any = Seen(config=config)
        return trigger.check_start(seen)

    return said


@pytest.mark.parametrize("sampling", ["uniform", "adaptive"])
@pytest.mark.parametrize("window", [6, 20])
@pytest.mark.parametrize("every", [1, 10])
def test_a_window_that_cannot_fill_before_growth_closes_is_said_at_the_start(
    every: int, window: int, sampling: str
) -> None:
    recorded = {"window": window, "every": every, "sampling": sampling}
    trigger = TauKappa(patience=3)
    needed = every * first_full(window, sampling)[-1] + 2 * max(7, every)
    assert _started(trigger, until=0.5, steps=2 * needed)(**recorded) == []
    said = _started(trigger, until=0.5, steps=2 * needed - 2)(**recorded)
    assert len(said) == 1
    assert f"needs {needed:,} steps before it can fire" in said[0]
    assert f"there are {needed - 1:,} (growth.until=0.5)" in said[0]
    epochs = math.ceil(needed / 10)
    for part in (trigger, Any_(of={"a": trigger, "b": Never()})):
        assert _started(part, epochs=epochs)(**recorded) == []
        assert len(_started(part, epochs=epochs - 1)(**recorded)) == 1
    assert _started(trigger, seconds=1)(**recorded) == [], "nobody knows how many steps that is"


def test_a_threshold_that_no_random_walk_reaches_is_said_with_the_remedy() -> None:
    for window in (5, 20):
        assert _started(TauKappa(), epochs=100)(window=window) == []
    smoothed = _started(TauKappa(), epochs=100)(smoothing=0.99)
    assert len(smoothed) == 1
    assert "a random walk has tau=1.29" in smoothed[0]
    assert "use trigger.scale=diffusion" in smoothed[0]
    assert _started(TauKappa(scale="diffusion"), epochs=100)(smoothing=0.99) == []


def test_null_thresholds_are_table_1s_or_a_random_walks() -> None:
    assert TauKappa().crit == (2.0, 0.5)
    assert TauKappa(scale="diffusion").crit == (1.0, 1.0)
    assert TauKappa(scale="diffusion", tau_crit=0.5).crit == (0.5, 1.0)
    walk = _history(torch.randn(20, 5000, generator=torch.Generator().manual_seed(0)).cumsum(0))
    limits = TauKappa(scale="diffusion").begin().thresholds(Seen(history=walk))  # type: ignore[arg-type]
    assert (limits["tau"], limits["kappa"]) == pytest.approx((math.sqrt(19), math.sqrt(18)))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((), None),
        (("trigger.tau_crit=2", "trigger.kappa_crit=0.5"), None),
        (("trigger.tau_crit=2.0",), None),
        (("trigger.tau_crit=3",), "fires above tau=3 and kappa=0.5, but new layers escape above method.tau_crit=2"),
        (("trigger.tau_crit=3", "method.tau_crit=3"), None),
        (("trigger.scale=diffusion", "method.eta_max=null"), "is unbounded: set method.eta_max"),
        (("trigger.scale=diffusion", "method.eta_max=0.1"), None),
        (("trigger=plateau",), None),
    ],
)
def test_only_thresholds_that_differ_are_said_to_differ(overrides: tuple[str, ...], words: str | None) -> None:
    config = compose(["method=alether", *overrides])
    said = config.method.check_run(config)
    assert [words in sentence for sentence in said] == ([] if words is None else [True])  # type: ignore[operator]
