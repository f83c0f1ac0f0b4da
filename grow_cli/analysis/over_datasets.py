"""`grow compare --over-datasets`: the ways that all datasets share, compared over all of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.markup import escape

from grow_cli import console
from grow_cli.analysis import across, statistics
from grow_cli.analysis.comparing import literal, markdown_table, show_frame, write_into
from grow_cli.analysis.comparison import Comparison, rank_text
from grow_cli.analysis.figures import empty, save
from grow_cli.analysis.numbers import interval_text
from grow_cli.analysis.signed_rank import wilcoxon
from grow_cli.errors import UserError
from grow_cli.tasks import Task

_THRESHOLDS = 300

NOTE = (
    "Interquartile mean: the mean of the middle half of all runs of all datasets; datasets with widely spread scores move "
    "it more. Improvement: how often a run of the first beats one of the second on the same dataset, a tie counted "
    "as half, averaged over datasets. Intervals are stratified bootstraps: they describe other seeds on these datasets, are "
    "too narrow below ten seeds, and give no verdict. The signed-rank test takes the mean difference on each dataset as one "
    "pair, and describes other datasets of this kind."
)


@dataclass(frozen=True)
class OverDatasets:
    """All datasets of one task."""

    metric: str
    task: Task
    datasets: list[str]
    left_out: list[str]
    """Labels of ways that some datasets lack."""
    scores: dict[str, list[np.ndarray]]
    """Label → of each dataset (seeds,) scores, turned so that more is better."""
    ways: pd.DataFrame
    """A row per way, for machines."""
    pairs: pd.DataFrame
    """A row per pair, for machines."""

    @property
    def ways_table(self) -> pd.DataFrame:
        scale, digits = (100, 2) if self.task.percent else (1, 4)
        return pd.DataFrame(
            [
                {
                    "way": r["way"],
                    "runs": f"{r['runs']}",
                    "interquartile mean": f"{scale * r['iqm']:.{digits}f}",
                    "95%": f"{scale * r['low']:.{digits}f} to {scale * r['high']:.{digits}f}",
                }
                for _, r in self.ways.iterrows()
            ]
        )

    @property
    def pairs_table(self) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {
                    "first over second": f"{r['first']} over {r['second']}",
                    "improvement": f"{r['improvement']:.2f}",
                    "95%": interval_text(r["low"], r["high"], 2).replace("+", ""),
                    "rank over datasets: p (Holm)": rank_text(r["rank_pvalue"], r["rank_holm"], len(self.datasets)),
                }
                for _, r in self.pairs.iterrows()
            ]
        )

    def frames(self) -> list[tuple[str, pd.DataFrame]]:
        """Titles and tables for readers."""
        kind = self.metric.replace("_", " ") + (", %" if self.task.percent else "")
        return [
            (f"Over {len(self.datasets)} datasets ({', '.join(self.datasets)}): {kind}", self.ways_table),
            ("Probability of improvement over all datasets", self.pairs_table),
        ]

    def notes(self) -> list[str]:
        """The notes below the tables."""
        gone = [f"Left out, because not trained on all datasets: {'; '.join(self.left_out)}."]
        return [*(gone if self.left_out else []), NOTE]


def over_datasets(comparisons: list[Comparison]) -> list[OverDatasets]:
    """One for each task with two datasets or more; UserError where there is none, or no way is on all of them."""
    by_task = defaultdict(list)
    for comparison in comparisons:
        by_task[comparison.metric].append(comparison)
    found = [_over(of) for of in by_task.values() if len(of) > 1]
    if not found:
        raise UserError(
            "--over-datasets needs finished runs on two datasets or more with the same kind of score: train the ways on "
            "another one (dataset=NAME), and name that folder as well"
        )
    return found


def _over(comparisons: list[Comparison]) -> OverDatasets:
    labels = list(dict.fromkeys(way.label for c in comparisons for way in c.ways))
    by_label = [{way.label: way for way in c.ways} for c in comparisons]
    common = [label for label in labels if all(label in of for of in by_label)]
    datasets = [c.title for c in comparisons]
    if not common:
        raise UserError(
            f"--over-datasets: no way was trained on each of {', '.join(datasets)} (there are {'; '.join(labels)}): give the "
            "runs that belong together one label=NAME"
        )
    first = comparisons[0]
    sign = first.task.direction
    found = {label: [of[label].scores(first.metric) for of in by_label] for label in common}
    scores = {label: [sign * np.array(list(of.values())) for of in each] for label, each in found.items()}
    ways = []
    for label in common:
        of = across.aggregate(scores[label])
        low, high = sorted((sign * of.low, sign * of.high))
        runs = sum(map(len, scores[label]))
        ways.append({"way": label, "runs": runs, "iqm": sign * of.value, "low": low, "high": high})
    pairs = pd.DataFrame(_pairs(comparisons, common, scores))
    left_out = [label for label in labels if label not in common]
    return OverDatasets(first.metric, first.task, datasets, left_out, scores, pd.DataFrame(ways), pairs)


def _pairs(
    comparisons: list[Comparison], common: list[str], scores: dict[str, list[np.ndarray]]
) -> list[dict[str, object]]:
    """A row for each pair of ways that the datasets' own tables test."""
    tested: dict[frozenset[str], tuple[str, str]] = {}
    for test in (test for c in comparisons for test in c.tests_made):
        a, b = test.first.label, test.second.label
        if a in common and b in common:
            tested.setdefault(frozenset((a, b)), (a, b))
    rows: list[dict[str, object]] = []
    pvalues = []
    for a, b in tested.values():
        of = across.improvement(scores[a], scores[b])
        means = [round(float(x.mean() - y.mean()), 12) for x, y in zip(scores[a], scores[b], strict=True)]
        pvalues.append(wilcoxon(means))
        rows.append({"first": a, "second": b, "improvement": of.value, "low": of.low, "high": of.high})
    for row, p, corrected in zip(rows, pvalues, statistics.holm(pvalues), strict=True):
        row |= {"rank_pvalue": p, "rank_holm": corrected}
    return rows


def show(over: list[OverDatasets]) -> None:
    """The tables on the terminal."""
    for of in over:
        for title, frame in of.frames():
            show_frame(title, frame)
        for note in of.notes():
            console.out.print(f"[dim]{escape(note)}[/dim]")
        console.out.print()


def write(over: list[OverDatasets], folder: Path, command: str) -> list[Path]:
    """Write over_datasets.md, two CSV files, and a picture for each task into an existing folder."""
    parts = ["# Over datasets", f"Made by `{command}`."]
    pictures = [folder / f"profiles{f'_{number + 1}' if number else ''}.png" for number in range(len(over))]
    for of, picture in zip(over, pictures, strict=True):
        for title, frame in of.frames():
            if len(frame):
                parts += [f"## {title}", markdown_table(frame)]
        parts += [*of.notes(), f"![profiles]({picture.name})"]
    texts = {
        "over_datasets.md": "\n\n".join(parts) + "\n",
        "over_datasets.csv": pd.concat([of.ways.assign(metric=of.metric) for of in over]).to_csv(index=False),
        "over_datasets_pairs.csv": pd.concat([of.pairs.assign(metric=of.metric) for of in over]).to_csv(index=False),
    }
    return [*write_into(folder, texts), *map(draw_profiles, over, pictures)]


def draw_profiles(over: OverDatasets, output: Path) -> Path:
    """The fraction of runs above each score, averaged over datasets, with pointwise intervals."""
    every = np.concatenate([of for each in over.scores.values() for of in each])
    thresholds = np.linspace(every.min(), every.max(), _THRESHOLDS)
    figure = empty(8, 5)
    axes = figure.subplots()
    sign = over.task.direction
    for number, (label, scores) in enumerate(over.scores.items()):
        fraction, low, high = across.profile_band(scores, thresholds)
        axes.plot(sign * thresholds, fraction, color=f"C{number % 10}", label=literal(label))
        axes.fill_between(sign * thresholds, low, high, color=f"C{number % 10}", alpha=0.15, lw=0)
    if sign < 0:
        axes.invert_xaxis()
    axes.set_xlabel(f"{over.metric.replace('_', ' ')}, τ")
    axes.set_ylabel("fraction of runs that are better than τ")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    axes.set_title(f"Performance profiles over {len(over.datasets)} datasets", fontsize=11)
    return save(figure, output)
