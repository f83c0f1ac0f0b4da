"""Ways of coming to a net, and the tests between them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations

from grow_cli.analysis import statistics
from grow_cli.analysis.runs import Record
from grow_cli.errors import UserError


@dataclass(frozen=True)
class Way:
    """The runs that differ by their seeds only."""

    label: str
    records: list[Record]

    @property
    def trigger(self) -> str:
        """That of the run, where it is a control."""
        first = self.records[0]
        return str((first.of or first).summary["trigger"])

    @property
    def source(self) -> str:
        """The label of the way that it is a control of; its own otherwise."""
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
    found: statistics.Paired
    t_holm: float
    wilcoxon_holm: float

    @property
    def name_of_second(self) -> str:
        """Of a way's own control its kind."""
        control = self.second.records[0].control
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
                    f"{label} has two runs with seed {run.seed}, {other.folder.path} and {run.folder.path}: name one of them "
                    "only, or tell them apart with label=NAME"
                )
    ways = [Way(label, sorted(runs, key=lambda r: r.seed)) for label, runs in grouped.items()]
    order = {way.label: i for i, way in enumerate(ways)}
    return sorted(ways, key=lambda w: (order[w.source], w.records[0].control is not None, order[w.label]))


def tests_of(ways: list[Way], metric: str, against: str | None) -> list[Test]:
    grown = [way for way in ways if way.records[0].control is None]
    pairs = list(combinations(grown, 2))
    controls = [way for way in ways if way.records[0].control is not None]
    pairs += [(source, way) for source in grown for way in controls if way.source == source.label]
    if against is not None:
        pairs = [(way, other) for other in ways if other.label == against for way in ways if way is not other]
    found = [(a, b, statistics.paired(a.scores(metric), b.scores(metric))) for a, b in pairs]
    kept = [(a, b, test) for a, b, test in found if test is not None]
    by_t = statistics.holm([test.t_pvalue for _, _, test in kept])
    by_rank = statistics.holm([test.wilcoxon_pvalue for _, _, test in kept])
    return [Test(a, b, test, t, w) for (a, b, test), t, w in zip(kept, by_t, by_rank, strict=True)]
