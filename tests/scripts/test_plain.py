"""scripts/plain.py: the table and its words, on scores that are planted."""

from __future__ import annotations

from pathlib import Path

import common
import plain
import pytest

NOISE = (0.0, 0.001, -0.001, 0.0005, -0.0005)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "plain.csv"
    monkeypatch.setattr(plain, "DATA", path)
    return path


def _plant(pair: plain.Pair, short: float) -> None:
    """Five seeds of which the plain line falls short by so many points; the tuned one has a seed more."""
    for i, noise in enumerate((*NOISE, 0.3)):
        for way, score in (("plain", 0.97 - short / 100 + noise), ("tuned", 0.97)):
            if way == "tuned" or i < len(NOISE):
                row = {"pair": pair.name, "way": way, "seed": 100 + i, "test_accuracy": score, "widths": "4-3"}
                row |= {"parameters": 50 + i, "training_flops": 1e9, "seconds": 2.0}
                common.record(plain.DATA, plain.KEYS, row)


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


def test_only_what_the_file_lacks_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    _plant(plain.PAIRS[0], 0)
    trained: list[Path] = []

    def train_once(run: Path, overrides: list[str]) -> None:
        trained.append(run)
        raise KeyboardInterrupt

    monkeypatch.setattr(plain, "train_once", train_once)
    plain.train(plain.PAIRS[0], "plain", 100, [])
    assert not trained
    with pytest.raises(KeyboardInterrupt):
        plain.train(plain.PAIRS[0], "plain", 105, [])
    assert [run.parts[-3:] for run in trained] == [("tiny_digits", "plain", "105")]


def test_each_pair_has_an_experiment() -> None:
    there = {path.stem for path in (common.ROOT / "conf" / "experiment").glob("*.yaml")}
    assert {pair.experiment for pair in plain.PAIRS} <= there
    assert len({pair.name for pair in plain.PAIRS}) == len(plain.PAIRS)
