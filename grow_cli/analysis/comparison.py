"""`grow compare`: ways of coming to a net, held against each other on the seeds that they share."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from grow_cli.analysis import statistics
from grow_cli.analysis.runs import Record, differing, flatten, nothing_held_out
from grow_cli.errors import UserError

COSTS = {"steps": "step", "FLOPs": "flops", "seconds": "seconds", "parameters": "parameters"}
"""What the anytime curves are drawn against → its column of metrics.csv."""
# a net's sizes are what is compared, what else the model is belongs to the recipe
_SIZES = {f"model.{key}" for key in ("hidden", "channels", "width", "stream", "classifier", "dim", "mlp")}
_RECIPE = (
    "dataset",
    "model",
    "optimizer",
    "schedule",
    "batch_size",
    "stop",
    "label_smoothing",
    "clip_norm",
    "precision",
)
# what the split into training and validation follows
_CUT = ("validation", "split_seed")
_FEW = 10


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


@dataclass(frozen=True)
class Comparison:
    """All ways on one dataset. The frames are text, for terminals and pages; `numbers` is for machines."""

    title: str
    metric: str
    ways: list[Way]
    tests_made: list[Test]
    numbers: pd.DataFrame
    """A row per way."""
    curves: dict[str, dict[str, list[tuple[list[float], list[float]]]]]
    """Cost → label → the anytime curve (xs, ys) of each run."""
    notes: list[str] = field(default_factory=list)
    to: float | None = None
    """The validation score that `reaching` is about."""

    @property
    def percent(self) -> bool:
        return "accuracy" in self.metric

    @property
    def table(self) -> pd.DataFrame:
        """What each way reached and what it cost."""
        rows = []
        for _, r in self.numbers.iterrows():
            rows.append(
                {
                    "way": r["way"],
                    "trigger": r["trigger"],
                    "seeds": f"{r['seeds']}",
                    self.metric.replace("_", " ") + (", %" if self.percent else ""): self._spread(r),
                    "parameters": f"{r['parameters']:,.0f}",
                    "FLOPs/sample": _short(r["flops_per_sample"]),
                    "FLOPs": _short(r["training_flops"]),
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
        scale = 100 if self.percent else 1
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
                | {cost: _cost(cost, r[f"to_{column}"], r[f"to_{column}_sd"]) for cost, column in COSTS.items()}
                for _, r in self.numbers.iterrows()
            ]
        )

    @property
    def tests(self) -> pd.DataFrame:
        """Mean differences with interval and p-values."""
        scale = 100 if self.percent else 1
        digits = 2 if self.percent else 4
        return pd.DataFrame(
            [
                {
                    "first − second": f"{t.first.label} − {t.name_of_second}",
                    "n": f"{t.found.n}",
                    "Δ": f"{scale * t.found.difference:+.{digits}f}",
                    f"{statistics.LEVEL:.0%}": _interval(scale * t.found.low, scale * t.found.high, digits),
                    "bootstrap": _interval(scale * t.found.bootstrap_low, scale * t.found.bootstrap_high, digits),
                    "t: p (Holm)": f"{_p(t.found.t_pvalue)} ({_p(t.t_holm)})",
                    "rank: p (Holm)": f"{_p(t.found.wilcoxon_pvalue)} ({_p(t.wilcoxon_holm)})",
                }
                for t in self.tests_made
            ]
        )

    def _spread(self, row: pd.Series) -> str:
        scale, digits = (100, 2) if self.percent else (1, 4)
        mean = f"{scale * row['mean']:.{digits}f}"
        return mean if math.isnan(row["sd"]) else f"{mean} ± {scale * row['sd']:.{digits}f}"


def compare(
    records: Sequence[Record], *, split: str = "test", against: str | None = None, to: float | None = None
) -> list[Comparison]:
    """A comparison for each dataset. `against`: the label of the way that all others are tested against; None: all pairs.
    `to`: a validation score, for what it cost to reach it.

    UserError where a way has two runs with one seed, or `against` is none of the ways.
    """
    by_dataset = defaultdict(list)
    for record in records:
        by_dataset[record.dataset, record.score].append(record)
    known = sorted({record.label for record in records})
    if against is not None and against not in known:
        raise UserError(f"--against {against}: must be one of {'; '.join(map(repr, known))}")
    if to is not None and not 0 < to <= 1:
        raise UserError(f"--to {to:g}: a validation score above 0 and at most 1 (0.97 for 97 %)")
    return [_compare(name, f"{split}_{score}", of, against, to) for (name, score), of in by_dataset.items()]


def _compare(dataset: str, metric: str, records: list[Record], against: str | None, to: float | None) -> Comparison:
    ways = _ways(records)
    tests = _tests(ways, metric, against)
    read = {record.folder.path: pd.read_csv(record.folder.metrics) for record in records}
    metrics = _equally_often(read)
    curves = {
        cost: {
            way.label: [_curve(record, metrics[record.folder.path], column) for record in way.records] for way in ways
        }
        for cost, column in COSTS.items()
    }
    numbers = _numbers(ways, metric, curves)
    if to is not None:
        numbers = numbers.join(_reached(ways, read, to))
    notes = [*_taken_back(numbers), *_notes(ways, tests)]
    if nothing_held_out(records[0].config):  # nor in any other: it is part of the dataset's name
        notes.insert(0, "Nothing was held out (dataset.validation=0): validation scores here are those of training.")
    if to is not None:
        notes.append(
            "Cost of reaching a score: mean ± standard deviation over the seeds that did, at the first evaluation that saw it; "
            "more frequent ones see it sooner. Each run's rate follows its own budget: another length would give other costs."
        )
    return Comparison(dataset, metric, ways, tests, numbers, curves, notes, to)


def _ways(records: list[Record]) -> list[Way]:
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


def _tests(ways: list[Way], metric: str, against: str | None) -> list[Test]:
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


def _equally_often(read: dict[Path, pd.DataFrame]) -> dict[Path, pd.DataFrame]:
    """Of every run, the evaluations at the distance of whichever run has the fewest: more looks find a better best."""
    distance = max(float(m["epoch"].iloc[-1]) / len(m) for m in read.values())
    return {path: _thinned(m, distance) for path, m in read.items()}


def _thinned(metrics: pd.DataFrame, distance: float) -> pd.DataFrame:
    """The first row at or after each multiple of so many epochs, and the last."""
    marks = (metrics["epoch"] / distance + 1e-6).astype(int)
    kept = (marks > marks.shift(fill_value=0)) | (metrics.index == metrics.index[-1])
    return metrics[kept]


def _curve(record: Record, metrics: pd.DataFrame, column: str) -> tuple[list[float], list[float]]:
    """The best validation score so far; until the first evaluation that of a guess: one class of all, or the mean."""
    guess = 1 / int(record.summary["architecture"]["outputs"]) if record.score == "accuracy" else 0.0
    return statistics.anytime(metrics[column].tolist(), metrics[f"val_{record.score}"].tolist(), guess)


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
                "control": way.records[0].control or "",
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
    means = [float(row["mean"]) for row in rows]
    for name, key in (("parameters", "parameters"), ("flops", "training_flops")):
        for row, on in zip(rows, statistics.front([float(r[key]) for r in rows], means), strict=True):
            row[f"front_{name}"] = on
    return pd.DataFrame(rows)


def _reached(ways: list[Way], metrics: dict[Path, pd.DataFrame], to: float) -> pd.DataFrame:
    """A row per way: how many of its runs came to that validation score, and the mean and spread of what it had cost them."""
    rows: list[dict[str, float]] = []
    for way in ways:
        reads = [(metrics[record.folder.path], f"val_{record.score}") for record in way.records]
        first = pd.DataFrame([of[of[score] >= to].iloc[0] for of, score in reads if (of[score] >= to).any()])
        row: dict[str, float] = {"to": to, "reached": len(first)}
        for column in COSTS.values():
            costs = first[column].tolist() if len(first) else []
            row[f"to_{column}"] = fmean(costs) if costs else math.nan
            row[f"to_{column}_sd"] = stdev(costs) if len(costs) > 1 else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _taken_back(numbers: pd.DataFrame) -> list[str]:
    some = numbers[numbers["undone"] > 0]
    each = "; ".join(f"{row['way']}: {row['undone']:.1f} of {row['events']:.1f}" for _, row in some.iterrows())
    return [f"Of the growth events some were taken back ({each})."] if each else []


def _notes(ways: list[Way], tests: list[Test]) -> list[str]:
    """What a careful reader must know before believing the tables."""
    notes = []
    seeds = {way.label: [r.seed for r in way.records] for way in ways}
    if len({tuple(s) for s in seeds.values()}) > 1:
        unlike = "; ".join(f"{label}: {', '.join(map(str, s))}" for label, s in seeds.items())
        notes.append(
            f"Not all ways have the same seeds ({unlike}): tests use those that a pair shares, means all that a way has."
        )
    if tests:
        fewest = min(t.found.n for t in tests)
        least = 2.0 ** (1 - fewest)
        notes.append(
            f"Two-sided tests, paired by seed; Holm's correction over the {len(tests)} of this table, for each kind of test. "
            f"The least p-value that the signed-rank test (rank) can give for {fewest} pairs is {least:.2g}, and "
            f"{min(1.0, len(tests) * least):.2g} after Holm. Intervals belong to the t-test and are not corrected for the number "
            "of tests"
            + (
                "; bootstrapped ones (BCa) are too narrow for so few seeds (of five they hold the truth in 81 % of cases)."
                if fewest < _FEW
                else "."
            )
        )
        cuts = {repr([r.config["dataset"].get(key) for key in _CUT]) for way in ways for r in way.records}
        notes.append(
            "All runs share one split into training, validation and test: what is said holds for other seeds, not for other data."
            if len(cuts) == 1
            else f"The runs do not share one split into training and validation ({', '.join(_CUT)}): that makes differences, too."
        )
    elif len(ways) > 1:
        notes.append("No two ways share two seeds: nothing can be tested. Train each with several, seed=0,1,2,3,4.")
    recipes = {way.label: _recipe(way) for way in ways if way.records[0].control is None}
    # the kind of model first, what else differs of it last
    keys = sorted(
        differing(list(recipes.values())), key=lambda k: (k.startswith("model.") - 2 * (k == "model.name"), k)
    )
    if keys:
        shown = "; ".join(
            f"{key} is "
            + ", ".join(f"{_typed(recipe.get(key, '–'))} for {_quoted(label)}" for label, recipe in recipes.items())
            for key in keys[:4]
        )
        notes.append(f"The recipes differ: {shown}{'; …' if len(keys) > 4 else ''}.")
    devices = sorted({str(r.summary["device"]) for way in ways for r in way.records})
    if len(devices) > 1:
        notes.append(f"Seconds are of different machines ({', '.join(devices)}).")
    notes.append(
        "front: no other way has a better mean with no more parameters (P), with no more training FLOPs (F). Anytime: the best "
        "validation score so far, averaged over costs from 0 to the largest that any of these runs spent, what a run has reached "
        "kept; against parameters a net counts from its size on, so a static one has nothing before. All runs are read as often "
        "as the one with the fewest evaluations. Steps leave out those in which a new block is trained alone."
    )
    return notes


def _recipe(way: Way) -> dict[str, object]:
    flat = flatten(way.records[0].config)
    left_out = {"dataset.name", *_SIZES}
    return {key: value for key, value in flat.items() if key.split(".")[0] in _RECIPE and key not in left_out}


def _typed(value: object) -> object:
    """As it is typed."""
    return "null" if value is None else value


def _quoted(label: str) -> str:
    return f"'{label}'" if "," in label else label


def _short(number: float) -> str:
    """1234567 → 1.23M."""
    for power, letter in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 0.9995 * 10**power:
            return f"{number / 10**power:.3g}{letter}"
    return f"{number:.0f}"


def _cost(kind: str, mean: float, spread: float) -> str:
    def text(number: float) -> str:
        return _short(number) if kind == "FLOPs" else f"{number:,.{kind == 'seconds':d}f}"

    return " ± ".join(text(number) for number in (mean, spread) if not math.isnan(number)) or "–"


def _p(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _interval(low: float, high: float, digits: int) -> str:
    return "–" if math.isnan(low) else f"{low:+.{digits}f} to {high:+.{digits}f}"
