"""scripts/plain.py: the table and its words, on scores that are planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import common
import plain
import pytest
import training_table

NOISE = (0.0, 0.001, -0.001, 0.0005, -0.0005)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(training_table, "ROOT", tmp_path)
    return tmp_path


def _plant(pair: plain.Pair, short: float) -> None:
    """Five seeds of which the plain line falls short by so many points; the tuned one has a seed more."""
    for i, noise in enumerate((*NOISE, 0.3)):
        for way, score in (("plain", 0.97 - short / 100 + noise), ("tuned", 0.97)):
            if way == "tuned" or i < len(NOISE):
                row: dict[str, Any] = dict.fromkeys(training_table.MEASURED, 1)
                row |= {"val_accuracy": 0.9, "test_accuracy": score, "widths": "4-3", "data": f"{way} test"}
                row |= {"parameters": 50 + i, "training_flops": 1e9, "seconds": 2.0}
                plain.TABLE.add((pair.name, way, str(100 + i)), row)


@pytest.mark.parametrize(
    ("short", "word", "mean", "interval"),
    [(0.0, "equal within 0.3 points", "yes", "yes"), (0.25, "worse", "yes", "no"), (1.0, "worse", "no", "no")],
)
def test_what_is_within_the_allowed_points_and_what_is_shown(short: float, word: str, mean: str, interval: str) -> None:
    _plant(plain.PAIRS[0], short)
    found = plain.answer(plain.PAIRS[0])
    assert found is not None
    row = next(line for line in plain.page([found], "").splitlines() if line.startswith("| tiny | digits | 5 |"))
    assert row.endswith(f"**{word}** | {mean} | {interval} |")
    assert f" {0 - short:+.2f} (" in row


def test_cifar10_is_allowed_more_points_and_what_has_one_seed_is_not_told() -> None:
    assert {pair.allowed for pair in plain.PAIRS if pair.dataset == "cifar10"} == {0.005}
    assert {pair.allowed for pair in plain.PAIRS if pair.dataset != "cifar10"} == {0.003}
    assert plain.answer(plain.PAIRS[0]) is None
    assert (
        "| tiny | digits | | | | | *not told: fewer than two seeds of both* (plain: 0, tuned: 0) | | |"
        in plain.page([], "")
    )


def test_each_pair_has_an_experiment() -> None:
    there = {path.stem for path in (common.ROOT / "conf" / "experiment").glob("*.yaml")}
    assert {pair.experiment for pair in plain.PAIRS} <= there
    assert len({pair.name for pair in plain.PAIRS}) == len(plain.PAIRS)
