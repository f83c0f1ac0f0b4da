"""`grow compare --to SCORE`: which way reaches a fixed target sooner; a run that misses it counts as never reaching it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

import pandas as pd

from grow_cli.analysis import statistics
from grow_cli.analysis.numbers import p_text, short_number
from grow_cli.analysis.runs import Record
from grow_cli.analysis.signed_rank import wilcoxon
from grow_cli.analysis.ways import Test, Way
from grow_cli.records.metrics import AXES

SPENT = {AXES[name].words: AXES[name].column for name in ("steps", "flops", "seconds")}
"""What reaching a target costs → its column of metrics.csv."""

NOTE = (
    "Sooner: one-sided signed-rank test, exact, of the ratios of cost, paired by seed; if one run of a pair missed the "
    "target, the pair ranks above all ratios; if both did, it is left out. Holm's correction covers this whole table. The "
    "test is valid if the target was fixed before these runs were seen."
)


@dataclass(frozen=True)
class Sooner:
    """Whether the first of a pair reaches the target at less cost."""

    test: Test
    pvalues: dict[str, float]
    """Column → one-sided p-value that it does not; likewise after Holm's correction over the table."""
    holm: dict[str, float]


def first_there(record: Record, to: float) -> pd.Series | None:
    """The first evaluation that saw the target; None where none did."""
    sign, metrics = record.task.direction, record.metrics
    there = metrics[sign * metrics[record.task.column("val")] >= sign * to]
    return there.iloc[0] if len(there) else None


def costs_to(record: Record, to: float) -> dict[str, float]:
    """Column → what the run had spent when it first saw the target; infinite where it never did."""
    there = first_there(record, to)
    return {column: math.inf if there is None else float(there[column]) for column in SPENT.values()}


def medians(ways: list[Way], to: float) -> pd.DataFrame:
    """A row per way: `misses`, and the median of each cost over all of its seeds, infinite where that one never came."""
    rows = []
    for way in ways:
        costs = [costs_to(record, to) for record in way.records]
        misses = sum(math.isinf(cost["step"]) for cost in costs)
        # halfway between a cost and never is never
        rows.append(
            {"misses": misses} | {f"to_{c}_median": median([cost[c] for cost in costs]) for c in SPENT.values()}
        )
    return pd.DataFrame(rows)


def sooner(tests: list[Test], to: float) -> list[Sooner]:
    """The one-sided tests of every pair of the table."""
    costs = {id(way): {r.seed: costs_to(r, to) for r in way.records} for t in tests for way in (t.first, t.second)}
    found = []
    for test in tests:
        first, second = costs[id(test.first)], costs[id(test.second)]
        seeds = sorted(set(first) & set(second))
        found.append(
            {c: wilcoxon([_longer(first[s][c], second[s][c]) for s in seeds], one_sided=True) for c in SPENT.values()}
        )
    flat = iter(statistics.holm([p for pvalues in found for p in pvalues.values()]))
    return [Sooner(t, pvalues, {c: next(flat) for c in pvalues}) for t, pvalues in zip(tests, found, strict=True)]


def _longer(first: float, second: float) -> float:
    """log(second ÷ first), rounded so that equal ratios tie; 0 where neither came."""
    if math.isinf(first) and math.isinf(second):
        return 0.0
    if math.isinf(first) or math.isinf(second):
        return second - first
    return round(math.log(max(second, 1e-12) / max(first, 1e-12)), 12)


def medians_table(numbers: pd.DataFrame) -> pd.DataFrame:
    """For readers."""
    return pd.DataFrame(
        [
            {"way": r["way"], "missed": f"{r['misses']} of {r['seeds']}"}
            | {cost: _cost(cost, r[f"to_{column}_median"]) for cost, column in SPENT.items()}
            for _, r in numbers.iterrows()
        ]
    )


def _cost(kind: str, cost: float) -> str:
    if math.isinf(cost):
        return "never"
    return short_number(cost) if kind == "FLOPs" else f"{cost:,.{kind == 'seconds':d}f}"


def sooner_table(found: list[Sooner]) -> pd.DataFrame:
    """For readers."""
    return pd.DataFrame(
        [
            {"first before second": f"{s.test.first.label} before {s.test.name_of_second}", "n": f"{s.test.found.n}"}
            | {f"{cost}: p (Holm)": f"{p_text(s.pvalues[c])} ({p_text(s.holm[c])})" for cost, c in SPENT.items()}
            for s in found
        ]
    )
