"""scripts/envelope.py: regret and verdicts, on losses that are planted."""

from __future__ import annotations

from typing import Any

import envelope
import numpy as np
import pytest

SEEDS = range(100, 105)
OFFSETS = {"static-1": 0.08, "static-2": 0.0, "static-3": 0.03, "static-4": 0.06, "static-6": 0.3}
NOISE = (0.0, 0.001, -0.001, 0.002, -0.002)


def _planted(grown: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test losses 1 nat above what validation says, so that a choice by the test part would show."""

    def summary(budget: float, way: str, seed: int, rate: str) -> dict[str, Any]:
        above = OFFSETS.get(way, grown)
        if budget == max(envelope.BUDGETS) and way in OFFSETS:  # the order of sizes turns with the budget
            above = 0.3 - above
        val = 1.5 + above + NOISE[seed - 100] * (1 if way in OFFSETS else 2)
        return {"val_loss": val, "test_loss": 1 + val}

    monkeypatch.setattr(envelope, "summary", summary)


def _words(grown: float, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    _planted(grown, monkeypatch)
    found = {budget: envelope.regrets(budget, SEEDS, "6e-3")[1] for budget in envelope.BUDGETS}
    lines = envelope.verdicts(found)
    return {way: line.split("**")[1] for way, line in zip(envelope.WAYS, lines, strict=True)}


def test_the_envelope_is_the_size_that_is_best_on_validation_at_each_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    _planted(0.0, monkeypatch)
    best = [envelope.regrets(budget, SEEDS, "6e-3")[0] for budget in envelope.BUDGETS]
    assert best == ["static-2", "static-2", "static-6"]
    regret = envelope.regrets(envelope.BUDGETS[0], SEEDS, "6e-3")[1]
    assert regret["static-2"].tolist() == [0] * 5
    assert regret["static-4"] == pytest.approx([0.06] * 5)


@pytest.mark.parametrize(("grown", "word"), [(0.01, "confirmed"), (0.2, "refuted"), (0.0199, "undecided")])
def test_a_grown_net_must_be_close_to_the_envelope_at_every_budget(
    grown: float, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = _words(grown, monkeypatch)
    assert {words[way] for way in envelope.GROWN} == {word}
    assert words["static-6"] == "confirmed", "0.3 nats above at the least budget"


def test_a_static_size_that_is_near_the_envelope_at_every_budget_refutes_the_claim() -> None:
    near = dict.fromkeys(envelope.WAYS, np.array([0.01, 0.012, 0.008]))
    assert all("**refuted**" in line for line in envelope.verdicts({1e12: near, 4e12: near})[: len(envelope.STATIC)])
