"""The control `static-best`: the best static size of a ladder, each at the run's FLOPs, chosen by validation over all seeds.

plan     one ladder for the runs that differ by their seeds
search   its rungs trained, wholly or by successive halving, in RUN/controls/.tried
adopt    the chosen rung becomes RUN/controls/static-best, and its test split is read, for the first and only time
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grow_cli import run
from grow_cli.controls import NotPossible, built, control_folder
from grow_cli.errors import UserError
from grow_cli.files import write_text
from grow_cli.records.flat import plain
from grow_cli.records.folder import TRIED, RunFolder
from grow_cli.sizes.ladder import Rung
from grow_cli.sizes.rungs import KIND, judged, over, plan, tried_folder, write_plan
from grow_cli.sizes.search import Found, Scores, search
from grow_cli.tasks import task_in

Jobs = Callable[[list[tuple[RunFolder, str]], float], None]
"""Trains these rungs (a run and the name of one), or continues them, to a fraction of their budgets."""


@dataclass(frozen=True)
class Searched:
    """The ladder of some runs, trained and judged."""

    runs: list[RunFolder]
    rungs: list[Rung]
    found: Found
    halving: bool

    @property
    def chosen(self) -> Rung:
        return self.rungs[self.found.best]

    @property
    def seeds(self) -> list[int]:
        return [int(folder.read_summary()["seed"]) for folder in self.runs]

    def cost(self, runs: Sequence[RunFolder] | None = None) -> dict[str, float]:
        """FLOPs and seconds of all that was trained for it, or of some runs' part."""
        summaries = [tried_folder(folder, rung).read_summary() for folder in runs or self.runs for rung in self.rungs]
        return {key: math.fsum(float(s[f]) for s in summaries) for key, f in _COSTS.items()} | {
            "trained": len(summaries)
        }

    def halving_flops(self) -> float:
        """What successive halving costs, or would have cost: each rung as far as it was trained when it was dropped."""
        return math.fsum(
            judged_at(folder, tried_folder(folder, rung), self.found.reached[i])[1]
            for folder in self.runs
            for i, rung in enumerate(self.rungs)
        )

    def to_json(self) -> dict[str, Any]:
        """As ladder.json has it: scores as the task has them."""
        first = tried_folder(self.runs[0], self.chosen).read_summary()
        task = task_in(first)
        rows = []
        for i, rung in enumerate(self.rungs):
            summaries = [tried_folder(folder, rung).read_summary() for folder in self.runs]
            values = self.found.last(i, range(len(self.runs)))
            rows.append(
                rung.to_json()
                | {
                    "widths": summaries[0].get("widths"),
                    "fraction": self.found.reached[i],
                    "scores": [task.direction * value if math.isfinite(value) else None for value in values],
                    "training_flops": [float(s["training_flops"]) for s in summaries],
                    "seconds": [float(s["seconds"]) for s in summaries],
                }
            )
        return {
            "rungs": rows,
            "chosen": self.chosen.name,
            "chosen_by": task.column("val"),
            "seeds": self.seeds,
            "halving": self.halving,
            "cost": self.cost(),
        }


_COSTS = {"flops": "training_flops", "seconds": "seconds"}


def judged_at(folder: RunFolder, target: RunFolder, fraction: float) -> tuple[float, float]:
    """`judged`, of what must have been trained so far."""
    found = judged(folder, target, fraction)
    if found is None:
        raise UserError(
            f"{target.path} was not trained to the end of its budget: run the same command again to continue the ladder"
        )
    return found


def search_ladder(
    runs: list[RunFolder], count: int, jobs: Jobs, *, halving: bool, most: Mapping[str, int | None] | None = None
) -> Searched:
    """Plan, train and judge one ladder for runs that differ by their seeds; NotPossible where they have none.

    :param most: of a rung's `parameters` and `flops_per_sample`; larger sizes are left out
    """
    given = {name: limit for name, limit in (most or {}).items() if limit is not None}
    rungs = [rung for rung in plan(runs, count) if all(getattr(rung, name) <= limit for name, limit in given.items())]
    if len(rungs) < 2:
        raise NotPossible(
            "fewer than two of its sizes have at most "
            + " and ".join(f"{limit:,} {name.replace('_', ' ')}" for name, limit in given.items())
        )
    content = {"asked": count, "rungs": [rung.to_json() for rung in rungs]}
    for folder in runs:
        write_plan(folder, content)

    def train(wanted: Sequence[tuple[int, int]], fraction: float) -> Scores:
        jobs([(runs[seed], rungs[rung].name) for rung, seed in wanted], fraction)
        return {
            (rung, seed): judged_at(runs[seed], tried_folder(runs[seed], rungs[rung]), fraction)[0]
            for rung, seed in wanted
        }

    found = search(len(rungs), range(len(runs)), train, halving=halving)
    searched = Searched(runs, rungs, found, halving)
    if not all(map(math.isfinite, found.last(found.best, range(len(runs))))):
        raise NotPossible(
            "no size of its ladder could be trained with every seed: see summary.json of each in controls/.tried"
        )
    for folder in runs:
        write_plan(folder, content | searched.to_json())
    return searched


def adopt(searched: Searched, folder: RunFolder, settings: dict[str, Any]) -> str:
    """Make the chosen rung the control of one of the runs; says what was done."""
    target, rung = control_folder(folder, KIND), searched.chosen
    there = target.read_summary()
    if there:
        if there.get("parameters") == rung.parameters:
            return "exists already"
        raise UserError(
            f"{target.path} has {there.get('parameters'):,} parameters, but over these seeds {rung.parameters:,} are best: "
            "remove that folder to use the other size, and report that the choice was made twice"
        )
    source = tried_folder(folder, rung)
    assert over(source)
    temporary = folder.path / "controls" / TRIED / ".adopted.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source.path, temporary, symlinks=True, ignore=shutil.ignore_patterns(".lock"))
    copied = RunFolder(temporary)
    summary = dict(source.read_summary()) | _test(copied, settings)
    own = searched.cost([folder])
    summary |= {"ladder_flops": own["flops"], "ladder_seconds": own["seconds"], "ladder_rungs": len(searched.rungs)}
    copied.write_summary(summary)
    write_text(temporary / "ladder.json", json.dumps(plain(searched.to_json() | {"own_cost": own}), indent=1) + "\n")
    temporary.rename(target.path)
    return f"taken from a ladder of {len(searched.rungs)}: {rung.parameters:,} parameters"


def _test(folder: RunFolder, settings: dict[str, Any]) -> dict[str, Any]:
    """The fields that the summary lacks, of the test split, which was not read before."""
    config = built(dict(folder.config()), settings, folder.hydra / "config.yaml")
    measured = run.evaluate(config, folder, "last", splits=("test",))
    return {key: value for key, value in measured.items() if key.startswith("test_")}
