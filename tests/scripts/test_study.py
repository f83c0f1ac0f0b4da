"""scripts/study.py: rates, ladders and verdicts, on a table that is planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import study
import study_pages
import training_table
from studies import BEST, STUDIES, TUNING_SEED, Study

from grow_cli.api.overrides import typed
from grow_cli.commands.train import compose

PLANTED = Study(
    "Planted",
    "Nothing was trained.",
    (),
    {"grown": (), "small": (), "large": ()},
    (("grown", "large"), ("grown", BEST), ("grown", "small"), ("small", "small")),
    ("1e-3", "2e-3"),
    within=0.02,
    ladder=("small", "large"),
    score="loss",
)
LEVELS = {"grown": 1.5, "small": 1.51, "large": 1.8}
"""Test loss; on validation small is the best size and 2e-3 the best rate, while the test part would have the others."""
NOISE = (0.0, 0.001, -0.001, 0.002, -0.002)
MEASURED = {
    "widths": "3",
    "parameters": 10,
    "training_flops": 1e9,
    "events": 0,
    "grown_at": "",
    "steps": 3,
    "seconds": 1.0,
}
MEASURED |= {"torch": "2", "commit": "c", "data": "d t"}


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(training_table, "ROOT", tmp_path)
    (tmp_path / "docs" / "images").mkdir(parents=True)
    monkeypatch.setitem(STUDIES, "planted", PLANTED)
    monkeypatch.setitem(study_pages.PAGES, "planted", ("Planted", "About it.", ("planted",)))

    def row(way: str, rate: str, seed: int, val: float, test: float) -> None:
        found = {"val_loss": val, "test_loss": test, **MEASURED}
        study.table("planted").add((way, rate, str(seed)), found)

    return row


@pytest.fixture
def found(add: Callable[..., None]) -> study.Found:
    for order, (way, level) in enumerate(LEVELS.items()):
        for rate, worse in (("1e-3", 0.5), ("2e-3", 0.0), ("4e-3", 0.2)):
            add(way, rate, TUNING_SEED, level + worse, level - worse)
        for number, noise in enumerate(NOISE):
            add(way, "2e-3", 100 + number, level + noise, level + NOISE[number - order])
    add("grown", "2e-3", 105, 0.1, 0.1)  # no other way has this seed
    return study.Found("planted")


def test_rates_and_the_static_size_are_chosen_on_validation(found: study.Found) -> None:
    assert found.best == dict.fromkeys(LEVELS, "2e-3")
    assert found.chosen() == "small"
    assert found.test(BEST).tolist() == found.test("small").tolist()


def test_a_seed_counts_once_every_way_has_it(found: study.Found) -> None:
    assert found.seeds == ["100", "101", "102", "103", "104"]


def test_lower_losses_are_better_close_ones_equal_within_delta_and_a_pair_is_asked_once(found: study.Found) -> None:
    words = [line.split("|")[2].strip() for line in study.verdicts(found)]
    assert words == ["**better**", "**better, but within 0.02 nats**", "no spread"]


def test_the_page_has_every_way_and_the_cost_of_the_search(found: study.Found) -> None:
    text = study.page("planted")
    assert all(f"| {way}" in text for way in ("grown", "small (`static-best`)", "large"))
    assert "took 9e+09 FLOPs, 9 runs" in text
    assert "costs 2e+09 a seed" in text
    assert "5 seeds of the 10 that are planned: preliminary" in text
    assert "| grown | 2.0000 | 1.5000 | 1.7000 |" in text
    assert "lies at an end of the search" not in text


def test_the_page_has_a_picture_of_every_way(
    found: study.Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr("study_figure.Figure.savefig", lambda figure, *_, **__: drawn.append(figure))
    assert "](../images/study_planted.png)" in study.page("planted")
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["grown", "small (static-best)", "large"]
    seeds = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "."]
    assert seeds == [found.test(way).tolist() for way in LEVELS]
    assert axes.get_xlabel() == "test loss, nats (lower is better)"


def test_a_study_that_is_not_trained_yet_has_a_line(add: Callable[..., None]) -> None:
    assert "Not trained yet: the search for the rates is not finished." in study.page("planted")
    for way, level in LEVELS.items():
        for rate in PLANTED.rates:
            add(way, rate, TUNING_SEED, level - float(rate), level)
    assert "Not trained yet: the search for the rates is not finished." in study.page("planted")
    for way, level in LEVELS.items():
        add(way, "4e-3", TUNING_SEED, level, level)
        add(way, "2e-3", 100, level, level)
    assert "Not trained yet: fewer than two seeds are complete." in study.page("planted")


def test_the_page_says_where_the_search_ended_without_a_best_rate_inside(add: Callable[..., None]) -> None:
    for way, level in LEVELS.items():
        for rate in (*PLANTED.rates, *(("4e-3", "8e-3", "1.6e-2") if way == "large" else ("4e-3",))):
            worse = way != "large" and rate == "4e-3"
            add(way, rate, TUNING_SEED, level + worse - float(rate), level)
        for seed in (100, 101):
            add(way, "1.6e-2" if way == "large" else "2e-3", seed, level, level)
    add("large", "3.2e-2", TUNING_SEED, 3.0, 3.0)  # beyond what is searched
    text = study.page("planted")
    assert "The best rate of large lies at an end of the search. The search took 1.1e+10 FLOPs, 11 runs." in text
    assert "| small | 1.5090 | 1.5080 | 2.5060 |  |  |" in text


def test_a_rate_that_diverged_is_said(add: Callable[..., None]) -> None:
    for way, level in LEVELS.items():
        for rate, loss in (("1e-3", level + 1), ("2e-3", level), ("4e-3", float("nan"))):
            add(way, rate, TUNING_SEED, loss, loss)
        for seed in (100, 101):
            add(way, "2e-3", seed, level, level)
    assert "| large | 2.8000 | 1.8000 | diverged |" in study.page("planted")


def test_training_goes_on_until_every_best_rate_lies_inside(
    add: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def trained(
        table: training_table.Table, keys: list[tuple[str, str, str]], *_: object, trials: bool = False
    ) -> None:
        for way, rate, seed in keys:
            asked.append((way, rate, seed, trials))
            add(way, rate, int(seed), abs(float(rate) - (8e-3 if way == "grown" else 2e-3)), 1)

    monkeypatch.setattr(training_table.Table, "train", trained)
    study.train("planted", 1, 2, [])
    searched = {way: [rate for of, rate, *_, trials in asked if of == way and trials] for way in LEVELS}
    assert searched == {
        "grown": ["1e-3", "2e-3", "4e-3", "8e-3", "1.6e-2"],
        "small": ["1e-3", "2e-3", "4e-3"],
        "large": ["1e-3", "2e-3", "4e-3"],
    }
    kept = {(way, rate) for way, rate, seed, trials in asked if not trials}
    assert kept == {("grown", "8e-3"), ("small", "2e-3"), ("large", "2e-3")}


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_every_way_of_a_study_can_be_composed_and_has_the_one_budget_of_the_study(name: str) -> None:
    budgets = set()
    for way in STUDIES[name].ways:
        words = study.table(name).words(way, STUDIES[name].rates[0], "0")
        assert words is not None
        stop = compose(typed(words, {})).stop
        budgets.add((stop.flops, stop.epochs, stop.steps, stop.seconds))
    (budget,) = budgets
    assert sum(limit is not None for limit in budget) == 1
    assert budget[0] or name.startswith("fold_choices")
    assert {way for pair in STUDIES[name].pairs for way in pair} <= {*STUDIES[name].ways, BEST}
