"""The ranking that ends a sweep: its ways ordered by validation score, the mean over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from grow_cli import console
from grow_cli.analysis.runs import base_name, dataset_name, flatten, labels
from grow_cli.errors import UserError
from grow_cli.records.folder import RunFolder
from grow_cli.tasks import Task, task_in

_SHOWN = 20  # ways of a dataset in the table


@dataclass(frozen=True)
class Ranked:
    """The finished runs that differ by their seeds only, or by what makes no other run."""

    label: str
    """As `grow compare` calls them."""
    task: Task
    summaries: list[dict[str, Any]]

    @property
    def scores(self) -> list[float]:
        """On the validation split, at the end of each run."""
        return [float(summary[self.task.column("val")]) for summary in self.summaries]

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of its row in the table."""
        scores = self.scores
        spread = f" ± {stdev(scores):.4f}" if len(scores) > 1 else ""
        parameters = fmean(summary["parameters"] for summary in self.summaries)
        return f"{fmean(scores):.4f}{spread}", str(len(scores)), f"{parameters:,.0f}", self.label


def ranking(folders: Iterable[RunFolder]) -> dict[str, list[Ranked]]:
    """Dataset → its ways, the best first. A run that is not finished, or cannot be read, is left out."""
    runs: list[tuple[str, str, dict[str, Any]]] = []
    summaries: list[dict[str, Any]] = []
    for folder in folders:
        try:
            summary, config = folder.read_summary(), folder.config()
            if summary.get("status") == "finished" and summary.get(task_in(summary).column("val")) is not None:
                runs.append((dataset_name(config, summary), base_name(summary), flatten(config)))
                summaries.append(dict(summary))
        except UserError:
            continue
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for number, label in labels(runs).items():
        found[runs[number][0]][label].append(summaries[number])
    return {
        dataset: sorted(
            (Ranked(label, task_in(alike[0]), alike) for label, alike in ways.items()),
            key=lambda way: -way.task.direction * fmean(way.scores),
        )
        for dataset, ways in found.items()
    }


def show_ranking(folders: Iterable[RunFolder]) -> None:
    """A table for each dataset that has two ways to rank."""
    for dataset, ways in ranking(folders).items():
        if len(ways) < 2:
            continue
        console.say(f"{dataset}: validation {ways[0].task.words}, best first; `grow compare` shows test scores")
        rows = [(str(place), *way.cells) for place, way in enumerate(ways[:_SHOWN], 1)]
        headers = ("", ways[0].task.label, "runs", "parameters", "way")
        console.table(headers, rows, right=headers[:4])
        if len(ways) > _SHOWN:
            console.say(f"and {len(ways) - _SHOWN:,} more: `grow compare` shows all")
        console.out.print()
