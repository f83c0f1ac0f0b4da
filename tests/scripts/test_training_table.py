"""scripts/training_table.py: a study's finished runs are rows of one table, and nothing is trained twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import training_table
from training_table import Table, recipe

RUN = ["dataset=digits", "model=mlp", "method=static", "stop.epochs=1", "subset=100"]


def _table(words: list[str]) -> Table:
    return Table(
        "study",
        ("way", "seed"),
        ("val_accuracy", "test_accuracy"),
        lambda way, seed: None if way == "gone" else [*words, f"seed={seed}"],
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(training_table, "ROOT", tmp_path)
    return tmp_path


def _row(**more: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(training_table.MEASURED, 1)
    return (
        found | {"val_accuracy": 0.1 + 0.2, "test_accuracy": 1e-7, "training_flops": 10**13, "data": "abc def"} | more
    )


def test_a_row_keeps_every_digit_and_any_text() -> None:
    table = _table(RUN)
    assert table.rows() == {}
    table.add(("grown 2 → 6, at 50 %", "1"), _row())
    table.add(("static", "2"), _row())
    first, _ = table.rows().values()
    assert (float(first["val_accuracy"]), int(first["training_flops"])) == (0.1 + 0.2, 10**13)
    assert list(table.rows()) == [("grown 2 → 6, at 50 %", "1"), ("static", "2")]


def test_a_row_of_another_recipe_is_not_taken_for_one_of_this() -> None:
    _table(RUN).add(("static", "1"), _row())
    assert _table([*RUN, "batch_size=7"]).rows() == {}
    assert recipe(["a=1", "b=2", "seed=3"]) == recipe(["seed=4", "b=2", "a=1"]) != recipe(["a=1", "b=3"])


def test_a_run_on_other_data_is_refused_and_leaves_no_row() -> None:
    table = _table(RUN)
    table.add(("static", "1"), _row())
    with pytest.raises(ValueError, match="other data"):
        table.add(("static", "2"), _row(data="abc other"))
    assert len(table.rows()) == 1


def test_only_what_has_no_row_is_trained_and_what_fails_loses_nothing() -> None:
    table = _table(RUN)
    table.add(("mlp", "0"), _row(data="70914c74 e286d842"))  # the digits
    known = table.rows()["mlp", "0"]
    with pytest.raises(SystemExit, match=r"mlp, -5: .*seed"):
        table.train([("mlp", "0"), ("mlp", "-5"), ("mlp", "1")], jobs=1)
    assert list(table.rows()) == [("mlp", "0"), ("mlp", "1")]
    assert table.rows()["mlp", "0"] == known
    assert float(table.rows()["mlp", "1"]["test_accuracy"]) > 0


def test_a_trial_that_diverges_has_a_row_without_scores_and_any_other_run_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_table, "ProcessPoolExecutor", lambda jobs, _: ThreadPoolExecutor(jobs))
    table = _table([*RUN, "optimizer=sgd", "optimizer.lr=1e30"])
    with pytest.raises(SystemExit, match="no longer finite"):
        table.train([("mlp", "1")], jobs=1)
    assert table.rows() == {}
    table.train([("mlp", "1")], jobs=1, trials=True)
    (row,) = table.rows().values()
    assert (row["val_accuracy"], row["test_accuracy"]) == ("nan", "nan")
    assert float(row["training_flops"]) > 0
