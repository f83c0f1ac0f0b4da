"""`grow compare --to SCORE`: which way reaches a fixed target sooner; a run that misses it counts as never reaching it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, median, stdev

import pandas as pd

from grow_cli.analysis import statistics
from grow_cli.analysis.numbers import cost_text, p_text
from grow_cli.analysis.runs import Record
from grow_cli.analysis.signed_rank import wilcoxon
from grow_cli.analysis.ways import Test, Way
from grow_cli.records.metrics import AXES

COSTS = {AXES[name].words: AXES[name].column for name in ("steps", "flops", "seconds", "parameters")}
"""What is held against a score → its column of metrics.csv."""
SPENT = {words: column for words, column in COSTS.items() if column != "parameters"}
"""Those that only rise while a run lasts."""

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
    return {column: _cost(there, column) for column in SPENT.values()}


def _cost(there: pd.Series | None, column: str) -> float:
    return math.inf if there is None else float(there[column])


def reached(ways: list[Way], to: float) -> pd.DataFrame:
    """A row per way: how many of its runs reached that validation score, and the mean and spread of their cost; `misses`, and
    the median of each cost over all of its seeds, infinite where that one never came."""
    rows: list[dict[str, float]] = []
    for way in ways:
        seen = [first_there(record, to) for record in way.records]
        first = [evaluation for evaluation in seen if evaluation is not None]
        row: dict[str, float] = {"to": to, "reached": len(first)}
        for column in COSTS.values():
            costs = [float(evaluation[column]) for evaluation in first]
            row[f"to_{column}"] = fmean(costs) if costs else math.nan
            row[f"to_{column}_sd"] = stdev(costs) if len(costs) > 1 else math.nan
        row["misses"] = len(seen) - len(first)
        for column in SPENT.values():  # halfway between a cost and never is never
            row[f"to_{column}_median"] = median(_cost(evaluation, column) for evaluation in seen)
        rows.append(row)
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
            | {cost: cost_text(cost, r[f"to_{column}_median"]) for cost, column in SPENT.items()}
            for _, r in numbers.iterrows()
        ]
    )


def sooner_table(found: list[Sooner]) -> pd.DataFrame:
    """For readers."""
    return pd.DataFrame(
        [
            {"first before second": f"{s.test.first.label} before {s.test.name_of_second}", "n": f"{s.test.found.n}"}
            | {f"{cost}: p (Holm)": p_text(s.pvalues[c], s.holm[c]) for cost, c in SPENT.items()}
            for s in found
        ]
    )
