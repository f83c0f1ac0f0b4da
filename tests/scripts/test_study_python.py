"""scripts/study_python.py: what is chosen, what is judged, and the rule for the moment, on rows that are planted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import operators
import pytest
import study_python
from operators import BUDGETS, GRID, MOMENTS, OPERATORS, STATIC, STEP, Cell, Found
from studies import TUNING_SEED

from grow_cli.api.overrides import typed
from grow_cli.commands.train import compose

SEEDS = 4
WORTH = {"zero": 0.0, "random": 0.01, "alether": 0.02, "stack": 0.1, "interleave": 0.1, "midas": 0.3}
"""Nats above the first; on the test part the order is the other way round."""
NOISE = (0.0, 0.001, -0.001, 0.002, -0.002)


def _val(cell: Cell) -> float:
    """A parabola around a moment that is 0.1 earlier with each doubling of the budget."""
    budget, way, moment = cell
    x = math.log2(budget / BUDGETS[0])
    if way in STATIC:
        return 1.5 - 0.1 * x + 0.05 * STATIC[way]
    return math.exp(0.6 - 0.05 * x + 0.2 * (moment - 0.7 + 0.1 * x) ** 2) + WORTH[way]


def _row(val: float, seed: int) -> dict[str, str]:
    noise = NOISE[seed % len(NOISE)] + 1e-4 * val * seed % 7e-4
    measured = {"val_loss": val + noise, "test_loss": 4 - val + noise, "grown_at": 0.5, "parameters": 94_720}
    measured |= {"training_flops": 1e9}
    return {name: str(value) for name, value in measured.items()}


def _rows(cells: list[Cell]) -> dict[operators.Key, operators.Row]:
    rows = {}
    for cell in cells:
        for seed in range(100, 100 + SEEDS):
            rows[operators.key(cell, "6e-3", seed)] = _row(_val(cell), seed)
    for budget in BUDGETS:
        for run in operators.tuning(budget, (*OPERATORS, *STATIC)):
            rows[run] = _row({"3e-3": 1.1, "6e-3": 1.0, "1.2e-2": 1.2}[run[3]], TUNING_SEED)
    return rows


@pytest.fixture
def grid() -> Found:
    return Found(_rows(operators.grid()), SEEDS)


@pytest.fixture
def whole(grid: Found) -> Found:
    return Found(_rows(operators.grid() + grid.larger), SEEDS)


def test_operators_moments_rates_and_the_static_size_are_chosen_on_validation(grid: Found) -> None:
    assert grid.grid_finished
    assert grid.kept == ["zero", "random", "alether"]
    assert set(grid.moment.values()) == {0.5}, (
        "0.6 is best at this budget, and 0.5 and 0.7 are as near: the first of them"
    )
    assert grid.rate(GRID, "stack") == "6e-3"
    assert grid.static_best(GRID)[1] == "static-1"


def test_of_the_kept_operators_the_best_is_tried_at_every_moment_of_the_other_budgets(grid: Found) -> None:
    cells = grid.larger
    assert {cell[0] for cell in cells} == {*BUDGETS} - {GRID}
    assert [cell[1:] for cell in cells if cell[0] == BUDGETS[-1]] == [
        *(("zero", moment) for moment in MOMENTS),
        *(("random", 0.5), ("alether", 0.5)),
        *((way, 0.0) for way in STATIC),
    ]
    assert not grid.finished


def test_the_page_has_a_verdict_for_every_question(whole: Found) -> None:
    assert whole.finished
    text = study_python.page(whole)
    questions = study_python.questions(whole)
    assert len(questions) == 5 + 4 + 2 * len(OPERATORS)
    for question in questions:
        [line] = [line for line in text.splitlines() if line.startswith(f"| {question} |")]
        assert "**" in line or "no spread" in line
    [line] = [line for line in text.splitlines() if line.startswith("| midas − stack, mean of the moments |")]
    assert "| **better** | -0.1999" in line, "by the test part, where the order is the other way round"
    assert "4 seeds of the 10 that are planned: preliminary" in text
    assert "zero at 50% − `static-best`" in text


def test_a_page_without_the_other_budgets_says_so(grid: Found) -> None:
    assert "The other budgets are not told yet" in study_python.page(grid)


def _logs(best: float = 0.7) -> np.ndarray:
    """(budgets, moments, 3 seeds) of the rule's own form: the parabola's least is a tenth earlier at each doubling."""
    moments = np.array(MOMENTS)[None, :, None]
    x = np.arange(len(BUDGETS))[:, None, None]
    return 0.6 - 0.05 * x + 0.2 * moments**2 - 0.4 * (best - 0.1 * x) * moments + np.array([0.0, 0.01, -0.01])


def test_the_rule_is_exact_where_the_losses_are_of_its_form() -> None:
    found = study_python.judge(_logs())
    assert found.errors == pytest.approx(np.zeros((5, 3)), abs=1e-9)
    for mean, each in (found.moments, found.found):
        assert (mean, *each) == pytest.approx((0.4,) * 4, abs=1e-3)


def test_the_rule_is_judged_on_a_budget_that_it_has_not_seen() -> None:
    logs = _logs()
    logs[-1] += 0.02
    logs[-1, 0] += 0.01
    errors = study_python.judge(logs).errors
    assert errors == pytest.approx(np.repeat([[-0.03], *[[-0.02]] * 4], 3, 1))


def test_a_best_moment_at_the_end_of_what_was_tried_is_told_as_such() -> None:
    found = study_python.judge(_logs(best=1.5))
    assert study_python._when(found.moments).startswith("no earlier than 85% (seeds: 85% to 85%, 3 of 3 at the latest")
    assert study_python._when(study_python.judge(_logs()).moments).startswith("40% (seeds: 40% to 40%, 0 of 3")


@pytest.mark.parametrize(("flops", "within"), [(6.4e11, False), (1e19, False), (1e20, False), (1e21, True)])
def test_g_stacks_rule_grows_within_training_from_about_1e20_flops_on(flops: float, within: bool) -> None:
    """Of a net that is trained on 20 tokens a parameter, at 6 FLOPs each."""
    parameters = math.sqrt(flops / 120)
    assert (study_python.g_stack(parameters, flops) < 20 * parameters) == within


@pytest.mark.parametrize("budget", BUDGETS)
def test_growth_comes_at_the_first_step_that_has_the_moments_flops(budget: float) -> None:
    for moment in MOMENTS:
        [word] = [word for word in operators.overrides(budget, "zero", moment) if word.startswith("trigger.steps=")]
        steps = int(word.partition("[")[2].rstrip("]"))
        assert (steps - 1) * STEP < moment * budget <= steps * STEP


@pytest.mark.parametrize("way", [*OPERATORS, *STATIC])
def test_every_way_is_a_run_that_can_be_composed(way: str) -> None:
    words = operators.words("1.6e+11", way, "0" if way in STATIC else "0.85", "6e-3", "0")
    assert words is not None
    config = compose(typed(words, {}))
    assert config.growth.until > max(MOMENTS)
    assert operators.words("1.6e+11", way, "0.1", "6e-3", "0") is None


def test_the_picture_is_drawn(whole: Found, tmp_path: Path) -> None:
    study_python.draw(whole, tmp_path / "python.png")
    assert (tmp_path / "python.png").stat().st_size > 10_000
