"""scripts/rates.py: the search for the rate of each way of a study."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import rates
from studies import TUNING_SEED, Study
from training_table import Key, Row

STUDY = Study("", "", (), {"way": (), "other": ()}, (), ("1e-3", "2e-3", "4e-3"), within=1)


def search(losses: Callable[[float], float], study: Study = STUDY) -> tuple[list[str], str]:
    """The rates of `way` in the order in which they were asked for, and the best; `other` has its best rate inside."""
    rows: dict[Key, Row] = {}
    asked = []
    while wanted := rates.missing(study, rates.tried(study, rows)):
        for way, rate in wanted:
            score = -losses(float(rate)) if way == "way" else -abs(math.log(float(rate) / 2e-3))
            rows[way, rate, str(TUNING_SEED)] = {"val_accuracy": str(score)}
            rows[way, rate, str(TUNING_SEED + 1)] = {"val_accuracy": "99"}  # another seed has no say
            asked += [rate] * (way == "way")
        assert len([way for way, _ in wanted if way == "other"]) in (0, 3)
    return asked, rates.best(rates.tried(study, rows))["way"]


def off(best: float) -> Callable[[float], float]:
    return lambda rate: abs(math.log(rate / best))


@pytest.mark.parametrize(
    ("best", "further"),
    [
        (2e-3, []),
        (4e-3, ["8e-3"]),
        (1e-3, ["5e-4"]),
        (1.6e-2, ["8e-3", "1.6e-2", "3.2e-2"]),
        (2.5e-4, ["5e-4", "2.5e-4", "1.25e-4"]),
    ],
)
def test_a_search_goes_on_by_twos_until_the_best_rate_lies_inside(best: float, further: list[str]) -> None:
    asked, found = search(off(best))
    assert asked == [*STUDY.rates, *further]
    assert float(found) == best


def test_a_search_ends_three_rates_beyond_the_first_ones() -> None:
    assert search(off(1.0)) == ([*STUDY.rates, "8e-3", "1.6e-2", "3.2e-2"], "3.2e-2")
    assert search(off(1e-6)) == ([*STUDY.rates, "5e-4", "2.5e-4", "1.25e-4"], "1.25e-4")
    assert rates.at_an_end({"1e-3": 0.1, "2e-3": 0.2})
    assert not rates.at_an_end({"1e-3": 0.1, "2e-3": 0.2, "4e-3": 0.1})


def test_a_rate_that_diverged_is_never_the_best() -> None:
    asked, found = search(lambda rate: 0.0 if rate == 2e-3 else math.nan)
    assert (asked, found) == ([*STUDY.rates], "2e-3")


def test_of_equal_rates_the_lowest_is_the_best_and_an_end_that_is_as_good_is_searched_beyond() -> None:
    assert search(lambda rate: float(rate < 2e-3 or rate > 4e-3)) == ([*STUDY.rates, "8e-3"], "2e-3")
    assert search(lambda rate: float(rate > 2e-3 or rate < 1e-3)) == ([*STUDY.rates, "5e-4"], "1e-3")


@pytest.mark.parametrize("other", ["3e-3", "1.6e-2", "1e-1"])
@pytest.mark.parametrize("score", ["9", "-9"])
def test_a_row_of_a_rate_that_the_search_does_not_ask_for_has_no_say(other: str, score: str) -> None:
    rows: dict[Key, Row] = {("way", other, str(TUNING_SEED)): {"val_accuracy": score}}
    study = Study("", "", (), {"way": ()}, (), STUDY.rates, within=1)
    for rate, found in zip(STUDY.rates, ("0", "1", "2"), strict=True):
        assert ("way", rate) in rates.missing(study, rates.tried(study, rows))
        rows["way", rate, str(TUNING_SEED)] = {"val_accuracy": found}
    assert rates.missing(study, rates.tried(study, rows)) == [("way", "8e-3")]
    assert rates.best(rates.tried(study, rows)) == {"way": "4e-3"}


@pytest.mark.parametrize("first", [("1e-3",), ("2e-3", "1e-3"), ()])
def test_a_study_without_two_rates_in_order_is_refused(first: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="two rates or more, the lowest first"):
        Study("", "", (), {"way": ()}, (), first, within=1)


def test_of_several_trials_the_mean_counts_once_all_have_ended_and_one_that_diverged_is_enough() -> None:
    study = replace(STUDY, ways={"way": ()}, trials=2)
    scores = {"1e-3": ("3", "0"), "2e-3": ("1", "4"), "4e-3": ("9", "nan")}
    rows = {("way", rate, str(TUNING_SEED)): {"val_accuracy": first} for rate, (first, _) in scores.items()}
    assert rates.missing(study, rates.tried(study, rows)) == [("way", rate) for rate in study.rates]
    rows |= {("way", rate, str(TUNING_SEED + 1)): {"val_accuracy": second} for rate, (_, second) in scores.items()}
    assert rates.tried(study, rows) == {"way": {"1e-3": 1.5, "2e-3": 2.5, "4e-3": -math.inf}}
    assert not rates.missing(study, rates.tried(study, rows))


@pytest.mark.parametrize("trials", [0, 51])
def test_trials_on_no_seed_or_on_those_that_are_judged_are_refused(trials: int) -> None:
    with pytest.raises(ValueError, match="1 to 50 trials"):
        replace(STUDY, trials=trials)


def test_lower_losses_are_better() -> None:
    rows = {("way", rate, str(TUNING_SEED)): {"val_loss": rate} for rate in STUDY.rates}
    study = Study("", "", (), {"way": ()}, (), STUDY.rates, within=1, score="loss")
    assert rates.best(rates.tried(study, rows)) == {"way": "1e-3"}
