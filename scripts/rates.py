"""The search for the rate of each way of a study: its first rates, then further by twos until the best lies inside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

from studies import Study
from training_table import Key, Row

FURTHER = 3
"""Rates beyond either end of the first ones, at most."""

Tried = dict[str, dict[str, float]]
"""Way → rate → validation score, the mean over the tuning seeds, more is better, -inf where a run diverged; from the lowest
rate on."""


def tried(study: Study, rows: Mapping[Key, Row]) -> Tried:
    """What was searched so far: rates that every tuning seed has. A rate that the search does not ask for has no say."""

    def score(row: Row) -> float:
        value = study.sign * float(row[f"val_{study.score}"])
        return value if math.isfinite(value) else -math.inf

    def of(way: str) -> dict[str, float]:
        ended = {
            rate: fmean(score(rows[way, rate, seed]) for seed in study.tuning)
            for rate in {rate for known, rate, _ in rows if known == way}
            if all((way, rate, seed) in rows for seed in study.tuning)
        }
        found = {rate: ended[rate] for rate in study.rates if rate in ended}
        while len(found) >= len(study.rates) and (rate := _beyond(study, found)) in ended:
            found = dict(sorted({**found, rate: ended[rate]}.items(), key=lambda one: float(one[0])))
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
