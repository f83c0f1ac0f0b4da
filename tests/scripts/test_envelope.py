"""scripts/envelope.py: regret and verdicts, on losses that are planted, and what is trained."""

from __future__ import annotations

import envelope
import numpy as np
import pytest

SEEDS = tuple(range(100, 105))
OFFSETS = {"static-1": 0.08, "static-2": 0.0, "static-3": 0.03, "static-4": 0.06, "static-6": 0.3}
NOISE = (0.0, 0.001, -0.001, 0.002, -0.002)
RATES = dict.fromkeys(envelope.BUDGETS, "6e-3")


def _planted(grown: float) -> envelope.Losses:
    """Test losses 1 nat above what validation says, so that a choice by the test part would show."""
    losses = {}
    for budget in envelope.BUDGETS:
        for way in envelope.WAYS:
            above = OFFSETS.get(way, grown)
            if budget == max(envelope.BUDGETS) and way in OFFSETS:  # the order of sizes turns with the budget
                above = 0.3 - above
            for seed, noise in zip(SEEDS, NOISE, strict=True):
                val = 1.5 + above + noise * (1 if way in OFFSETS else 2)
                losses[budget, way, "6e-3", seed] = {"val": val, "test": 1 + val}
    return losses


def _found(grown: float) -> envelope.Found:
    return envelope.Found(_planted(grown), RATES, SEEDS)


def _words(grown: float) -> dict[str, str]:
    lines = envelope.verdicts(_found(grown).regret)
    return {way: line.split("**")[1] for way, line in zip(envelope.WAYS, lines, strict=True)}


def test_the_envelope_is_the_size_that_is_best_on_validation_at_each_budget() -> None:
    found = _found(0.0)
    assert list(found.best.values()) == ["static-2"] * 4 + ["static-6"]
    regret = found.regret[envelope.BUDGETS[0]]
    assert regret["static-2"].tolist() == [0] * 5
    assert regret["static-4"] == pytest.approx([0.06] * 5)


@pytest.mark.parametrize(("grown", "word"), [(0.01, "confirmed"), (0.2, "refuted"), (0.0199, "undecided")])
def test_a_grown_net_must_be_close_to_the_envelope_at_every_budget(grown: float, word: str) -> None:
    words = _words(grown)
    assert {words[way] for way in list(envelope.GROWN)[:2]} == {word}
    assert words["static-6"] == "confirmed", "0.3 nats above at the least budget"


def test_a_static_size_that_is_near_the_envelope_at_every_budget_refutes_the_claim() -> None:
    near = dict.fromkeys(envelope.WAYS, np.array([0.01, 0.012, 0.008]))
    assert all("**refuted**" in line for line in envelope.verdicts({1e12: near, 4e12: near})[: len(envelope.STATIC)])


def test_a_way_that_does_not_grow_yet_is_the_static_net_and_is_not_tested_against_it() -> None:
    least = envelope.BUDGETS[0]
    assert envelope.grows_at(envelope.SPENT, least) == []
    assert envelope.same_net((least, envelope.SPENT, "6e-3", 7)) == (least, "static-1", "6e-3", 7)
    assert "method=static" in envelope.overrides((least, envelope.SPENT, "6e-3", 7))
    lines = envelope.against(_found(0.01), lambda *_: "static-1")
    assert "the same net" in lines[-1]
    assert "better" in lines[0], "0.07 nats below static-1 at the least budget"


def test_a_way_grows_at_flops_whatever_the_budget_is() -> None:
    for budget in envelope.BUDGETS:
        at = [fraction * budget for fraction in envelope.grows_at(envelope.SPENT, budget)]
        assert at == pytest.approx([flops for flops in envelope.ADDED if flops < envelope.STEADY * budget])


def test_a_net_is_held_against_the_one_it_ends_with() -> None:
    assert {envelope.final(way, 1.28e12) for way in envelope.GROWN} == {"static-6", "static-3"}
    assert [envelope.final(envelope.SPENT, budget) for budget in envelope.BUDGETS[:4]] == [
        *("static-1", "static-1", "static-2", "static-2")
    ]


def test_a_seed_counts_once_every_way_has_been_trained_at_every_budget() -> None:
    losses = _planted(0.0)
    assert envelope.complete(losses, RATES) == list(SEEDS)
    del losses[envelope.BUDGETS[1], "static-4", "6e-3", 102]
    assert envelope.complete(losses, RATES) == [100, 101, 103, 104]


def test_one_seed_shows_nothing() -> None:
    one = {budget: dict.fromkeys(envelope.WAYS, np.array([0.06])) for budget in envelope.BUDGETS}
    assert all("**undecided**" in line for line in envelope.verdicts(one))


def test_looking_at_every_budget_confirms_no_static_size_by_chance() -> None:
    """At the limit itself at five budgets: 5 % of studies of ten seeds may say that it is above it somewhere."""
    draws = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        regrets = {
            budget: dict.fromkeys(envelope.WAYS, draws.normal(envelope.CLAIM["static"], 0.01, 10))
            for budget in range(5)
        }
        wrong += "**confirmed**" in envelope.verdicts(regrets)[0]
    assert wrong <= 0.08 * 400
