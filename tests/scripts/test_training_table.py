"""scripts/training_table.py: a study's finished runs are rows of one table, and nothing is trained twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import training_table
from training_table import Table

RUN = ("dataset=digits", "model=mlp", "method=static", "stop.epochs=1", "subset=100")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setattr(training_table, "ROOT", tmp_path)
    return Table("study", ("way", "seed"), "accuracy")


def _row(**more: Any) -> dict[str, Any]:
    return {
        "val_accuracy": 0.1 + 0.2,
        "test_accuracy": 1e-7,
        "parameters": 3,
        "training_flops": 10**13,
        "events": 1,
        "steps": 5,
        "seconds": 0.5,
        "torch": "2.6",
        "data": "abc",
    } | more


def test_a_row_keeps_every_digit_and_any_text(table: Table) -> None:
    assert table.rows() == {}
    table.add(("grown 2 → 6, at 50 %", "1"), _row())
    table.add(("static", "2"), _row(data="abc"))
    first, second = table.rows().values()
    assert (float(first["val_accuracy"]), int(first["training_flops"])) == (0.1 + 0.2, 10**13)
    assert list(table.rows()) == [("grown 2 → 6, at 50 %", "1"), ("static", "2")]
    assert second["seed"] == "2"


def test_runs_on_different_data_are_refused(table: Table) -> None:
    table.add(("static", "1"), _row())
    table.add(("static", "2"), _row(data="other"))
    with pytest.raises(ValueError, match="different data"):
        table.rows()


def test_only_what_has_no_row_is_trained(table: Table) -> None:
    table.train({("mlp", "0"): [*RUN, "seed=0"]}, jobs=1)
    [row] = table.rows().values()
    assert float(row["test_accuracy"]) > 0
    table.train({("mlp", "0"): ["no such run"]}, jobs=1)
    assert list(table.rows().values()) == [row]
