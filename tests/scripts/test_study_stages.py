"""scripts/study_stages.py: the runs of the study, and its page of a table that is planted."""

from __future__ import annotations

from pathlib import Path

import pytest
import study_stages
import training_table
from study_stages import GROWN, TABLE, WAYS

from grow_cli.api.overrides import typed
from grow_cli.commands.train import compose
from grow_cli.data.formulas import FUNCTIONS

MEASURED = dict.fromkeys(training_table.MEASURED, 1) | {"data": "d t", "training_flops": 7e8, "seconds": 3.0}
FACTORS = {"waves": 30.0, "runge": 5.0}
"""By how much the best static way errs more; 10 elsewhere."""


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(training_table, "ROOT", tmp_path)
    for seed, noise in enumerate((1.0, 1.1, 0.9)):
        for function in FUNCTIONS:
            for place, way in enumerate(WAYS):
                error = 1e-4 if way == GROWN else noise * FACTORS.get(function, 10.0) * 1e-4 * place
                TABLE.add((function, way, str(seed)), MEASURED | {"grid_max_error": error})
    TABLE.add(("waves", GROWN, "3"), MEASURED | {"grid_max_error": 1e-9})  # no other way has this seed
    rows = TABLE.rows()
    return study_stages.page(rows, study_stages.complete(rows))


def test_a_function_is_shown_refuted_or_undecided_by_its_interval(planted: str) -> None:
    rows = {line.split("|")[1].strip(): line for line in planted.splitlines() if line.startswith("| ")}
    assert "**shown**" in rows["waves"]
    assert "**refuted**" in rows["runge"]
    assert "**undecided**" in rows["ring"]
    assert "3 seeds of the 10 that are planned: preliminary" in planted


def test_the_best_static_way_is_the_one_with_the_lowest_mean_error(planted: str) -> None:
    line = next(line for line in planted.splitlines() if line.startswith("| waves"))
    assert [cell.strip().startswith("**") for cell in line.split("|")[2:6]] == [True, True, False, False]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_a_run_that_can_be_composed(way: str) -> None:
    words = study_stages.words("peaks", way, "0")
    assert words is not None
    assert compose(typed(words, {})).stop.flops == study_stages.FLOPS[2]
