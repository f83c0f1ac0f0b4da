"""Ways of obtaining a net, and the tests between them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations

from grow_cli.analysis import statistics
from grow_cli.analysis.equivalence import tost
from grow_cli.analysis.runs import Record
from grow_cli.analysis.verdicts import corrected, word
from grow_cli.errors import UserError
from grow_cli.tasks import Task


@dataclass(frozen=True)
class Way:
    """The runs that differ by their seeds only."""

    label: str
    records: list[Record]

    @property
    def control(self) -> str | None:
        """Which control it is; None of a grown way."""
        return self.records[0].control

    @property
    def trigger(self) -> str:
        """Its runs' own: a static control has `never`, and a replay `at`."""
        return str(self.records[0].summary["trigger"])

    @property
    def source(self) -> str:
        """The label of the way whose control it is; otherwise its own."""
        of = self.records[0].of
        return self.label if of is None else of.label

    def values(self, key: str) -> list[float]:
        """A field of every run's summary."""
        return [float(r.summary[key]) for r in self.records]

    def scores(self, metric: str) -> dict[int, float]:
        """Seed → score."""
        return {r.seed: float(r.summary[metric]) for r in self.records}


@dataclass(frozen=True)
class Test:
    """One pair of ways."""

    first: Way
    second: Way
    metric: str
    found: statistics.Paired
    t_holm: float
    wilcoxon_holm: float
    verdict: str
    """Of the first: `better`, `worse`, `equal within δ`, `undecided`."""
    differs: float
    """p-value of the verdicts better and worse: of the t-test, corrected over all questions of the table."""
    tost_pvalue: float
    """That the mean difference lies outside ±δ; NaN where no δ was asked about."""
    equal: float
    """The same, corrected over all questions of the table."""

    @property
    def differences(self) -> dict[int, float]:
        """Seed → first − second of the score, turned so that above 0 the first is better."""
        metric, sign = self.metric, self.first.records[0].task.direction
        found = statistics.differences(self.first.scores(metric), self.second.scores(metric))
        return {seed: sign * d for seed, d in found.items()}

    @property
    def name_of_second(self) -> str:
        """The second way's name; for the first way's own control, its kind."""
        control = self.second.control
        return control if control is not None and self.second.source == self.first.label else self.second.label


def ways_of(records: list[Record]) -> list[Way]:
    """Grown ways in the order in which they were found, each followed by its controls."""
    grouped: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        grouped[record.label].append(record)
    for label, runs in grouped.items():
        seen: dict[int, Record] = {}
        for run in runs:
            other = seen.setdefault(run.seed, run)
            if other is not run:
                raise UserError(
                    f"{label} has two runs with seed {run.seed}, {other.folder.path} and {run.folder.path}: name only one of "
                    "them, or tell them apart with label=NAME"
                )
    ways = [Way(label, sorted(runs, key=lambda r: r.seed)) for label, runs in grouped.items()]
    order = {way.label: i for i, way in enumerate(ways)}
    return sorted(ways, key=lambda w: (order[w.source], w.control is not None, order[w.label]))


@dataclass(frozen=True)
class Within:
    """The difference that does not matter."""

    delta: float
    """In the score's own unit: 0.001 for 0.1 points of accuracy."""
    words: str
    """`0.1 points`."""

    @classmethod
    def of(cls, typed: float, task: Task) -> Within:
        """As it is typed: accuracies in percentage points, other scores as they are."""
        return (
            cls(typed / 100, f"{typed:g} point{'s' if typed != 1 else ''}")
            if task.percent
            else cls(typed, f"{typed:g}")
        )


def tests_of(ways: list[Way], metric: str, against: str | None, within: Within | None) -> list[Test]:
    """The tests of a table: all grown ways with each other, each with its controls; or all ways `against` one."""
    grown = [way for way in ways if way.control is None]
    pairs = list(combinations(grown, 2))
    controls = [way for way in ways if way.control is not None]
    pairs += [(source, way) for source in grown for way in controls if way.source == source.label]
    if against is not None:
        pairs = [(way, other) for other in ways if other.label == against for way in ways if way is not other]
    scores = {way.label: way.scores(metric) for way in ways}
    found = statistics.all_paired([(scores[a.label], scores[b.label]) for a, b in pairs])
    kept = [(a, b, test) for (a, b), test in zip(pairs, found, strict=True) if test is not None]
    by_t = statistics.holm([test.t_pvalue for _, _, test in kept])
    by_rank = statistics.holm([test.wilcoxon_pvalue for _, _, test in kept])
    equal = [_outside(scores[a.label], scores[b.label], within) for a, b, _ in kept]
    family = corrected([(test.t_pvalue, p) for (_, _, test), p in zip(kept, equal, strict=True)])
    tests = []
    for (a, b, test), t, rank, outside, (differs, same) in zip(kept, by_t, by_rank, equal, family, strict=True):
        better = test.difference * a.records[0].task.direction > 0
        verdict = word(better, differs, same, within.words if within else "")
        tests.append(
            Test(a, b, metric, test, t, rank, verdict, differs, math.nan if outside is None else outside, same)
        )
    return tests


def _outside(first: dict[int, float], second: dict[int, float], within: Within | None) -> float | None:
    """TOST's p-value; None where nobody asked."""
    if within is None:
        return None
    return tost(list(statistics.differences(first, second).values()), within.delta)
