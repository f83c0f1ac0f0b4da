"""A comparison in sentences: which way is ahead, by how much, whether that is decided, and how many more seeds it would take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from grow_cli.analysis import equivalence
from grow_cli.analysis.numbers import score_text
from grow_cli.analysis.verdicts import ALPHA, UNDECIDED
from grow_cli.analysis.ways import Test, Within
from grow_cli.records.words import are, counted

if TYPE_CHECKING:
    from grow_cli.analysis.comparison import Comparison

_SHOWN = 6
"""Pairs that the verdict names; the others are in the table."""
_POINTS, _UNITS = 2.0, 0.02
"""The difference for which more seeds are counted, where nobody named another: in points, or in the score's own unit."""


def in_words(comparison: Comparison) -> list[str]:
    """The leader, then a sentence for each pair, the leader's first; one sentence alone where nothing can be tested."""
    numbers, task = comparison.numbers, comparison.task
    if len(numbers) < 2:
        return []
    best = numbers["mean"].idxmax() if task.direction > 0 else numbers["mean"].idxmin()
    row = numbers.loc[best]
    which = "highest" if task.direction > 0 else "lowest"
    label = comparison.metric.replace("_", " ")
    mean, seeds = score_text(task, float(row["mean"])), counted(int(row["seeds"]), "seed")
    lead = f"{row['way']} has the {which} mean {label}: {mean} ({seeds})."
    tests = comparison.tests_made
    if not tests:
        return [
            f"{lead} No two ways share two seeds, so nothing can be decided: train each with several, seed=0,1,2,3,4."
        ]
    leader = str(row["way"])
    of_leader = [t for t in tests if leader in (t.first.label, t.second.label)]
    ordered = [*of_leader, *(t for t in tests if t not in of_leader)]
    within = comparison.within or Within.of(_POINTS if task.percent else _UNITS, task)
    told = [pair_in_words(t, within, ALPHA / len(tests)) for t in ordered[:_SHOWN]]
    if len(ordered) > _SHOWN:
        left = len(ordered) - _SHOWN
        told.append(f"{counted(left, 'more pair')} {are(left)} in the table of tests.")
    if all(t.verdict == UNDECIDED for t in tests):
        lead = f"{lead[:-1]}, but no difference is decided."
    return [lead, *told]


def pair_in_words(test: Test, within: Within, level: float) -> str:
    """`static-flops is 4.5 points ahead of tiny, undecided with 3 seeds: about 9 more would settle a difference of 2 points.`

    :param level: of the tests that future seeds are counted for
    """
    task, found = test.first.records[0].task, test.found
    first, second = test.first.label, test.name_of_second
    if test.verdict.startswith("equal"):
        return f"{first} and {second} are {test.verdict}, decided with {counted(found.n, 'seed')}."
    ahead, behind = (first, second) if found.difference * task.direction >= 0 else (second, first)
    head = f"{ahead} is {_amount(abs(found.difference), task.percent)} ahead of {behind}"
    if found.difference == 0:
        head = f"{first} and {second} have the same mean"
    if test.verdict != UNDECIDED:
        but = f", and the difference is below {within.words}" if "within" in test.verdict else ""
        return f"{head}, decided with {counted(found.n, 'seed')}{but}."
    return f"{head}, undecided with {counted(found.n, 'seed')}{_more(test, within, level)}."


def _amount(difference: float, percent: bool) -> str:
    if not percent:
        return f"{difference:.3g}"
    points = 100 * difference
    return f"{points:.1f} points" if points >= 0.095 or points == 0 else f"{points:.1g} points"


def _more(test: Test, within: Within, level: float) -> str:
    """How many seeds more it takes, by the deviation that these have."""
    found = test.found
    if not found.deviation > 0 or math.isnan(found.deviation):
        return ": all differences are equal, so a t-test has no spread to compare them with"
    needed = equivalence.seeds_to_find(within.delta, found.deviation, level)
    if needed is None:
        return f": more than {equivalence.MOST_SEEDS:,} would be needed to settle a difference of {within.words}"
    if needed <= found.n:
        return f", which would have found a difference of {within.words} in four cases of five"
    return f": about {needed - found.n:,} more would settle a difference of {within.words}"
