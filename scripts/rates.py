"""The search for the rate of each way of a study: its first rates, then further by twos until the best lies inside."""

from __future__ import annotations

import math
from collections.abc import Mapping

from studies import TUNING_SEED, Study
from training_table import Key, Row

FURTHER = 3
"""Rates beyond either end of the first ones, at most."""

Tried = dict[str, dict[str, float]]
"""Way → rate → validation score on the tuning seed, more is better, -inf of a run that diverged; from the lowest rate on."""


def tried(study: Study, rows: Mapping[Key, Row]) -> Tried:
    """What was searched so far; a row of a rate that the search does not ask for has no say."""

    def score(row: Row) -> float:
        value = study.sign * float(row[f"val_{study.score}"])
        return value if math.isfinite(value) else -math.inf

    ended = {(way, rate): score(row) for (way, rate, seed), row in rows.items() if seed == str(TUNING_SEED)}

    def of(way: str) -> dict[str, float]:
        found = {rate: ended[way, rate] for rate in study.rates if (way, rate) in ended}
        while len(found) >= len(study.rates) and (way, rate := _beyond(study, found)) in ended:
            found = dict(sorted({**found, rate: ended[way, rate]}.items(), key=lambda one: float(one[0])))
        return found

    return {way: of(way) for way in study.ways}


def missing(study: Study, scores: Tried) -> list[tuple[str, str]]:
    """Way and rate of what is to be tried next: the first rates, then beyond the best where that lies at an end."""
    first = [(way, rate) for way in study.ways for rate in study.rates if rate not in scores[way]]
    return first or [(way, rate) for way in study.ways if (rate := _beyond(study, scores[way]))]


def best(scores: Tried) -> dict[str, str]:
    """Way → the rate with the best score, of equal ones the lowest."""
    return {way: max(of, key=lambda rate: of[rate]) for way, of in scores.items()}


def at_an_end(of: Mapping[str, float]) -> bool:
    """Whether the lowest or the highest rate that a way was tried at is as good as any."""
    lowest, *_, highest = of.values()
    return max(of.values()) in (lowest, highest)


def _beyond(study: Study, of: Mapping[str, float]) -> str:
    """The next rate of a way; empty where the best lies inside, or as far out as is searched."""
    if not at_an_end(of):
        return ""
    lowest, *_, highest = of
    rate = _times(highest, 2) if of[highest] == max(of.values()) else _times(lowest, 0.5)
    least, most = float(study.rates[0]) / 2**FURTHER, float(study.rates[-1]) * 2**FURTHER
    return rate if 0.99 * least < float(rate) < 1.01 * most else ""


def _times(rate: str, factor: float) -> str:
    """As in 1.6e-2, with three digits at most."""
    mantissa, exponent = f"{factor * float(rate):.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
