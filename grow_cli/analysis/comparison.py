"""`grow compare`: ways of obtaining a net, compared on the seeds that they share."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from grow_cli.analysis import reaching, statistics
from grow_cli.analysis.notes import cautions_of, notes_of, power_note, taken_back, verdict_note
from grow_cli.analysis.numbers import cost_text, interval_text, p_text, short_number
from grow_cli.analysis.reaching import COSTS
from grow_cli.analysis.runs import Record, nothing_held_out
from grow_cli.analysis.signed_rank import least_pvalue
from grow_cli.analysis.stopping import Decision, decide
from grow_cli.analysis.verdicts import ALPHA
from grow_cli.analysis.ways import Test, Way, Within, tests_of, ways_of
from grow_cli.errors import UserError
from grow_cli.tasks import Task


@dataclass(frozen=True)
class Comparison:
    """All ways on one dataset. The frames are text, for terminals and pages; `numbers` is for machines."""

    title: str
    metric: str
    task: Task
    ways: list[Way]
    tests_made: list[Test]
    numbers: pd.DataFrame
    """A row per way."""
    curves: dict[str, dict[str, list[tuple[list[float], list[float]]]]]
    """Cost → label → the anytime curve (xs, ys) of each run."""
    notes: list[str] = field(default_factory=list)
    to: float | None = None
    """The validation score that `reaching` is about."""
    within: Within | None = None
    """The difference that does not matter."""
    cautions: list[str] = field(default_factory=list)
    """What makes the tests doubtful, to be read before them."""
    decisions: list[Decision] | None = None
    """Of each test, read seed by seed; None where nobody asked."""
    sooner: list[reaching.Sooner] = field(default_factory=list)
    """One-sided tests of the cost of reaching `to`."""

    @property
    def kind(self) -> str:
        """`test accuracy`, `test bits per byte (lower is better)`."""
        words = self.metric.replace("_", " ")
        return words + self.task.words.removeprefix(self.task.label)

    @property
    def table(self) -> pd.DataFrame:
        """The score and the cost of each way."""
        rows = []
        for _, r in self.numbers.iterrows():
            rows.append(
                {
                    "way": r["way"],
                    "trigger": r["trigger"],
                    "seeds": f"{r['seeds']}",
                    self.metric.replace("_", " ") + (", %" if self.task.percent else ""): self._spread(r),
                    "parameters": f"{r['parameters']:,.0f}",
                    "FLOPs/sample": short_number(r["flops_per_sample"]),
                    "FLOPs": short_number(r["training_flops"]),
                    "s": f"{r['seconds']:.1f}",
                    "growing, s": f"{r['growth_seconds']:.1f}",
                    "events": f"{r['events']:.1f}",
                    "front": " ".join(
                        mark for mark, key in (("P", "front_parameters"), ("F", "front_flops")) if r[key]
                    ),
                }
            )
        return pd.DataFrame(rows)

    @property
    def anytime(self) -> pd.DataFrame:
        """Mean of the best validation score so far, over costs up to the largest that any way spent."""
        scale = 100 if self.task.percent else 1
        return pd.DataFrame(
            [
                {"way": r["way"]} | {cost: f"{scale * r[f'anytime_{column}']:.2f}" for cost, column in COSTS.items()}
                for _, r in self.numbers.iterrows()
            ]
        )

    @property
    def reaching(self) -> pd.DataFrame:
        """What each way had cost when its validation score first was what was asked for; empty where nothing was."""
        if self.to is None:
            return pd.DataFrame()
        return pd.DataFrame(
            [
                {"way": r["way"], "seeds": f"{r['reached']} of {r['seeds']}"}
                | {cost: cost_text(cost, r[f"to_{column}"], r[f"to_{column}_sd"]) for cost, column in COSTS.items()}
                for _, r in self.numbers.iterrows()
            ]
        )

    @property
    def tests(self) -> pd.DataFrame:
        """Mean differences with interval and p-values."""
        scale = 100 if self.task.percent else 1
        digits = 2 if self.task.percent else 4
        return pd.DataFrame(
            [
                {
                    "first − second": f"{t.first.label} − {t.name_of_second}",
                    "verdict": t.verdict,
                    "n": f"{t.found.n}",
                    "Δ": f"{scale * t.found.difference:+.{digits}f}",
                    f"{statistics.LEVEL:.0%}": interval_text(scale * t.found.low, scale * t.found.high, digits),
                    "bootstrap": interval_text(scale * t.found.bootstrap_low, scale * t.found.bootstrap_high, digits),
                    "t: p (Holm)": p_text(t.found.t_pvalue, t.t_holm),
                    "rank: p (Holm)": rank_text(t.found.wilcoxon_pvalue, t.wilcoxon_holm, t.found.n),
                }
                | ({} if self.within is None else {"TOST: p (corrected)": p_text(t.tost_pvalue, t.equal)})
                for t in self.tests_made
            ]
        )

    @property
    def deciding(self) -> pd.DataFrame:
        """What the seeds showed one at a time; empty where nobody asked."""
        return pd.DataFrame(
            [
                {
                    "first − second": f"{t.first.label} − {t.name_of_second}",
                    "verdict": d.verdict,
                    "decided after": "–" if d.after is None else f"{d.after} of {d.seeds} seeds",
                    "e": f"{d.evalue:.3g}",
                }
                for t, d in zip(self.tests_made, self.decisions or [], strict=self.decisions is not None)
            ]
        )

    @property
    def decided(self) -> bool:
        """Whether no test is open any more, so that one may stop; there must be a test."""
        return bool(self.decisions) and all(d.decided for d in self.decisions or [])

    def _spread(self, row: pd.Series) -> str:
        scale, digits = (100, 2) if self.task.percent else (1, 4)
        mean = f"{scale * row['mean']:.{digits}f}"
        return mean if math.isnan(row["sd"]) else f"{mean} ± {scale * row['sd']:.{digits}f}"


def rank_text(value: float, corrected: float, pairs: int) -> str:
    """p-values of a signed-rank test; where the number of pairs alone forbids a small p-value, it is said."""
    least = least_pvalue(pairs)
    return p_text(value, corrected) + (f", never < {least:.2g}" if least > ALPHA else "")


def compare(
    records: Sequence[Record],
    *,
    split: str = "test",
    against: str | None = None,
    to: float | None = None,
    equal_within: float | None = None,
    until_decided: bool = False,
) -> list[Comparison]:
    """A comparison for each dataset. `against`: the label of the way that all others are tested against; None: all pairs.
    `to`: a validation score whose cost is reported. `equal_within`: the largest difference that does not matter, in
    percentage points of accuracy or in other scores' own unit. `until_decided`: also read the seeds one at a time, to
    decide whether to stop.

    UserError where a way has two runs with one seed, or `against` is none of the ways.
    """
    by_dataset = defaultdict(list)
    for record in records:
        by_dataset[record.dataset, record.task].append(record)
    known = sorted({record.label for record in records})
    if against is not None and against not in known:
        raise UserError(f"--against {against}: must be one of {'; '.join(map(repr, known))}")
    upward = any(record.task.direction > 0 for record in records)
    if to is not None and not 0 < to <= (1 if upward else math.inf):
        raise UserError(f"--to {to:g}: a validation score above 0 and at most 1 (0.97 for 97 %)")
    if equal_within is not None and not 0 < equal_within < math.inf:
        raise UserError(f"--equal-within {equal_within:g}: a difference above 0, such as 0.1 (points of accuracy)")
    return [_compare(of, split, against, to, equal_within, until_decided) for of in by_dataset.values()]


def _compare(
    records: list[Record],
    split: str,
    against: str | None,
    to: float | None,
    equal_within: float | None,
    until_decided: bool,
) -> Comparison:
    task, ways = records[0].task, ways_of(records)
    metric, within = task.column(split), None if equal_within is None else Within.of(equal_within, task)
    tests = tests_of(ways, metric, against, within)
    read = {record.folder.path: record.metrics for record in records}
    metrics = _equally_often(read)
    curves = {
        cost: {
            way.label: [_curve(record, metrics[record.folder.path], column) for record in way.records] for way in ways
        }
        for cost, column in COSTS.items()
    }
    numbers = _numbers(ways, metric, curves)
    if to is not None:
        numbers = numbers.join(reaching.reached(ways, to))
    notes = [*taken_back(numbers), *verdict_note(tests, within), *power_note(tests, within), *notes_of(ways, tests)]
    if task.direction < 0:
        notes.insert(0, f"Lower is better: a negative first − second means that the first has fewer {task.label}.")
    if nothing_held_out(records[0].config):  # nor in any other: it is part of the dataset's name
        notes.insert(0, "Nothing was held out (dataset.validation=0): validation scores here are training scores.")
    if to is not None:
        notes.append(
            "Cost of reaching a score: mean ± standard deviation over the seeds that reached it, at the first evaluation "
            "that saw it; more frequent evaluations see it sooner. Each run's learning rate follows its own budget, so "
            "another length would give other costs."
        )
        notes.append(reaching.NOTE)
    return Comparison(
        *(records[0].dataset, metric, task, ways, tests, numbers, curves, notes, to, within),
        cautions=cautions_of(ways, tests),
        decisions=_decided(tests, within) if until_decided else None,
        sooner=[] if to is None else reaching.sooner(tests, to),
    )


def _decided(tests: list[Test], within: Within | None) -> list[Decision]:
    differences = [test.differences for test in tests]
    return decide(differences, within.delta if within else None, within.words if within else "")


def _equally_often(read: dict[Path, pd.DataFrame]) -> dict[Path, pd.DataFrame]:
    """Each run's evaluations, thinned to the interval of the run that has the fewest: more evaluations find a better best."""
    distance = max(float(m["epoch"].iloc[-1]) / len(m) for m in read.values())
    return {path: _thinned(m, distance) for path, m in read.items()}


def _thinned(metrics: pd.DataFrame, distance: float) -> pd.DataFrame:
    """The first row at or after each multiple of this many epochs, and the last."""
    marks = (metrics["epoch"] / distance + 1e-6).astype(int)
    kept = (marks > marks.shift(fill_value=0)) | (metrics.index == metrics.index[-1])
    return metrics[kept]


def _curve(record: Record, metrics: pd.DataFrame, column: str) -> tuple[list[float], list[float]]:
    """The best validation score so far; until the first evaluation that of a guess: one class of all, or the mean."""
    sign, scores = record.task.direction, metrics[record.task.column("val")]
    guess = record.task.guess(int(record.summary["architecture"]["outputs"]))
    xs, ys = statistics.anytime(metrics[column].tolist(), (sign * scores).tolist(), sign * guess)
    return xs, [sign * y for y in ys]


def _numbers(
    ways: list[Way], metric: str, curves: dict[str, dict[str, list[tuple[list[float], list[float]]]]]
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for way in ways:
        scores = list(way.scores(metric).values())
        low, high = statistics.interval(scores)
        rows.append(
            {
                "way": way.label,
                "trigger": way.trigger,
                "control": way.control or "",
                "seeds": len(scores),
                "mean": fmean(scores),
                "sd": stdev(scores) if len(scores) > 1 else math.nan,
                "low": low,
                "high": high,
            }
            | {key: fmean(way.values(key)) for key in ("parameters", "flops_per_sample", "training_flops")}
            | {key: fmean(way.values(key)) for key in ("growth_flops", "seconds", "growth_seconds", "steps")}
            | {"events": fmean(way.values("events")), "undone": fmean(r.summary.get("undone", 0) for r in way.records)}
        )
    for cost, column in COSTS.items():
        budget = max(xs[-1] for runs in curves[cost].values() for xs, _ in runs)
        for row, way in zip(rows, ways, strict=True):
            row[f"anytime_{column}"] = fmean(statistics.area(xs, ys, budget) for xs, ys in curves[cost][way.label])
    means = [ways[0].records[0].task.direction * float(row["mean"]) for row in rows]
    for name, key in (("parameters", "parameters"), ("flops", "training_flops")):
        for row, on in zip(rows, statistics.front([float(r[key]) for r in rows], means), strict=True):
            row[f"front_{name}"] = on
    return pd.DataFrame(rows)
