"""The answer of `grow size`: the grown size, compared with the best of a ladder, by validation only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grow_cli.analysis.equivalence import tost
from grow_cli.analysis.statistics import differences, paired
from grow_cli.analysis.verdicts import corrected, word
from grow_cli.records.folder import RunFolder
from grow_cli.sizes.best import Searched
from grow_cli.tasks import Task, task_in

WITHIN = {"accuracy": 0.2, "r2": 0.01}
"""The difference of scores that does not matter, where none is given, as a reader sees the score; 0.02 of any other."""


@dataclass(frozen=True)
class Size:
    """The parameters that some runs ended with."""

    each: list[int]
    middle: float
    """Geometric mean."""
    low: float
    high: float
    """Of its 95 % t-interval over the runs, of logarithms; NaN of one run."""

    @property
    def words(self) -> str:
        if len(self.each) == 1:
            return f"{self.each[0]:,} parameters (one seed: no interval)"
        return (
            f"{self.middle:,.0f} parameters (geometric mean of {len(self.each)} seeds; 95 % interval {self.low:,.0f} to "
            f"{self.high:,.0f})"
        )


def size_of(parameters: Sequence[int]) -> Size:
    """The size over seeds."""
    from scipy import stats

    logs = np.log(parameters)
    n, mean = len(logs), float(logs.mean())
    half = math.nan if n < 2 else float(stats.t.isf(0.025, n - 1) * logs.std(ddof=1) / math.sqrt(n))
    return Size(list(parameters), math.exp(mean), math.exp(mean - half), math.exp(mean + half))


@dataclass(frozen=True)
class Beside:
    """Scores of the grown nets beside others of the same seeds; differences are in the score's unit, above 0 is better."""

    difference: float
    low: float
    high: float
    differs: float
    equal: float
    """p-values of the t-test and of TOST, corrected for being asked together; NaN where they cannot be asked."""
    verdict: str


def beside(grown: dict[int, float], best: dict[int, float], task: Task, within: float) -> Beside:
    """The verdict on the grown size. Scores are the task's own; `within` and the result are in the displayed unit."""
    scale = task.direction * (100 if task.percent else 1)
    d = [scale * x for x in differences(grown, best).values()]
    found = paired(dict(enumerate(d)), dict.fromkeys(range(len(d)), 0.0))
    if found is None:
        return Beside(float(np.mean(d)), math.nan, math.nan, math.nan, math.nan, "undecided: one seed")
    differs, equal = corrected([(found.t_pvalue, tost(d, within))])[0]
    words = word(found.difference > 0, differs, equal, f"{within:g}{' points' if task.percent else ''}")
    return Beside(found.difference, found.low, found.high, differs, equal, words)


@dataclass(frozen=True)
class Answer:
    """What `grow size` found."""

    runs: list[RunFolder]
    task: Task
    size: Size
    within: float
    flops: float
    """Of all grown runs together, growth included."""
    searched: Searched | None = None
    held: Beside | None = None
    halving_flops: float | None = None
    """What successive halving of the ladder costs."""

    def to_json(self) -> dict[str, Any]:
        """size.json; what could not be measured is null."""
        summaries = [folder.read_summary() for folder in self.runs]
        out: dict[str, Any] = {
            "parameters": self.size.each,
            "size": self.size.middle,
            "interval": _known(self.size.low, self.size.high),
            "seeds": [int(s["seed"]) for s in summaries],
            "widths": [s.get("widths") for s in summaries],
            "flops_per_sample": [s.get("flops_per_sample") for s in summaries],
            "chosen_by": self.task.column("val"),
            "scores": [s[self.task.column("val")] for s in summaries],
            "flops": self.flops,
            "seconds": sum(float(s["seconds"]) for s in summaries),
            "within": self.within,
        }
        if self.searched is None or self.held is None:
            return out
        cost = self.searched.cost()
        return out | {
            "ladder": self.searched.to_json(),
            "best": self.searched.chosen.parameters,
            "difference": self.held.difference,
            "difference_interval": _known(self.held.low, self.held.high),
            "p_differs": _known(self.held.differs)[0],
            "p_equal": _known(self.held.equal)[0],
            "verdict": self.held.verdict,
            "ladder_flops": cost["flops"],
            "halving_flops": self.halving_flops,
            "cost_of_ladder": self.flops / cost["flops"],
            "cost_of_halving": self.flops / self.halving_flops if self.halving_flops else None,
        }


def answer(runs: list[RunFolder], within: float | None, searched: Searched | None, halving: float | None) -> Answer:
    """The answer for finished runs that differ in their seeds, with the ladder that was trained for them."""
    summaries = [folder.read_summary() for folder in runs]
    task = task_in(summaries[0])
    margin = WITHIN.get(task.score, 0.02) if within is None else within
    flops = math.fsum(float(s["training_flops"]) for s in summaries)
    size = size_of([int(s["parameters"]) for s in summaries])
    if searched is None:
        return Answer(runs, task, size, margin, flops)
    best = searched.found.last(searched.found.best, range(len(runs)))
    grown = {int(s["seed"]): float(s[task.column("val")]) for s in summaries}
    there = {seed: task.direction * value for seed, value in zip(searched.seeds, best, strict=True)}
    return Answer(runs, task, size, margin, flops, searched, beside(grown, there, task, margin), halving)


def _known(*numbers: float) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in numbers]
