"""What the runs of a trial came to, read from their folders; and the folder's answer: tune.json and the winners' files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from grow_cli.records import plain_yaml
from grow_cli.records.folder import RunFolder
from grow_cli.tasks import Task, task_in
from grow_cli.tuning.space import Space, overrides_of, to_json
from grow_cli.tuning.study import Result, Trial, winner

FIRST_SEED = 1000
"""Trials train with the seeds from here on, so that no seed of a comparison (0, 1, ...) was tuned on."""


def seeds(count: int) -> list[int]:
    """Those that every trial trains with."""
    return list(range(FIRST_SEED, FIRST_SEED + count))


def run_folder(trial: Trial, seed: int) -> RunFolder:
    """The folder of one of its runs."""
    return RunFolder(trial.folder / f"seed-{seed}")


def summaries(trial: Trial) -> list[dict[str, Any]]:
    """The summaries of its finished runs, in the order of their seeds."""
    found = [RunFolder(path).read_summary() for path in sorted(trial.folder.glob("seed-*"))]
    return [summary for summary in found if summary.get("status") in ("finished", "failed")]


def score_of(summary: dict[str, Any]) -> float | None:
    """A run's best validation score, in the score's own unit; None where its training failed."""
    value = summary.get(f"best_{task_in(summary).column('val')}")
    fine = summary.get("status") == "finished" and value is not None and math.isfinite(value)
    return float(value) if fine and value is not None else None


def pruned(summary: dict[str, Any]) -> bool:
    """Whether a run was given up by its search."""
    return dict(summary.get("ended") or {}).get("rule") == "pruned"


def result(found: Sequence[dict[str, Any]]) -> Result:
    """What a trial whose runs ended so came to: the mean over its seeds, more is better."""
    given_up = [summary for summary in found if pruned(summary)]
    if given_up:
        return Result(None, f"after {given_up[0]['ended_by'].partition(' (')[0]}", pruned=True)
    scores = [score_of(summary) for summary in found]
    failed = [summary for summary, score in zip(found, scores, strict=True) if score is None]
    if failed:
        return Result(None, str(failed[0].get("error") or "it has no validation score"))
    task = task_in(found[0])
    return Result(task.direction * math.fsum(s for s in scores if s is not None) / len(scores))


@dataclass(frozen=True)
class Tuned:
    """One method's search."""

    name: str
    """As it was typed after `method=`."""
    space: Space
    overrides: list[str]
    """Of the recipe that was tuned, the method among them."""
    seeds: list[int]
    trials: list[Trial]
    pruner: str = "none"

    @property
    def best(self) -> Trial | None:
        return winner(self.trials)

    @property
    def task(self) -> Task:
        return next((task_in(s) for trial in self.trials for s in summaries(trial)), task_in(()))

    @property
    def words(self) -> list[str]:
        """The winner's overrides."""
        return [*self.overrides, *overrides_of(self.best.values)] if self.best else []

    def flops(self, trial: Trial | None = None) -> float:
        """What a trial cost, or all of them; a run that failed or was pruned counts as far as it came."""
        of = self.trials if trial is None else [trial]
        return math.fsum(float(s.get("training_flops") or 0) for one in of for s in summaries(one))

    def shown(self, score: float | None) -> str:
        """A trial's value for a reader: `97.2` percent, `1.532`."""
        if score is None:
            return ""
        value = self.task.direction * score
        return f"{100 * value:.2f}" if self.task.percent else f"{value:.4g}"

    @property
    def score_name(self) -> str:
        """`validation accuracy, %`."""
        return f"validation {self.task.words}" + (", %" if self.task.percent else "")

    def rows(self) -> list[list[str]]:
        """The rows of the trials' table: number, values, score, FLOPs, and a remark."""
        rows = []
        for trial in self.trials:
            said = "best" if trial == self.best else trial.state * (trial.state != "finished")
            values = [word.partition("=")[2] for word in overrides_of(dict(sorted(trial.values.items())))]
            cost = self.flops(trial)
            told = f"{cost:.3g}" if cost else ""
            rows.append([str(trial.number), *values, self.shown(trial.score), told, said])
        return rows

    def headers(self) -> list[str]:
        """The headers of the same table."""
        keys = sorted(sorted(self.space), key=lambda key: "." in key)
        return ["trial", *keys, self.score_name, "FLOPs", ""]

    def cost(self) -> dict[str, Any]:
        """What a run of the winner says of its tuning."""
        mark = sha256(json.dumps(to_json(self.space), sort_keys=True).encode()).hexdigest()[:8]
        cost = {"trials": len(self.trials), "seeds": len(self.seeds), "flops": self.flops(), "space": mark}
        return cost | ({"pruner": self.pruner} if self.pruner != "none" else {})

    def to_json(self, experiment: str | None) -> dict[str, Any]:
        """Its part of tune.json."""
        sign, best = self.task.direction, self.best
        trials = [
            {
                "number": trial.number,
                "state": trial.state,
                "values": trial.values,
                "score": None if trial.score is None else sign * trial.score,
                "scores": [score_of(s) for s in summaries(trial)],
                "flops": self.flops(trial),
            }
            for trial in self.trials
        ]
        chosen = {"number": best.number, "values": best.values, "overrides": self.words} if best else None
        if chosen is not None and best is not None and best.score is not None:
            chosen |= {"score": sign * best.score, "experiment": experiment}
        return {
            "space": to_json(self.space),
            "score": self.task.score,
            "trials": trials,
            "flops": self.flops(),
            "winner": chosen,
        }


def experiment_file(choices: dict[str, str], keys: dict[str, Any], comment: str) -> str:
    """The text of an experiment: the chosen options, and the keys in which it differs from them (`optimizer.lr` → value)."""
    nested: dict[str, Any] = {}
    for key, value in keys.items():
        *path, leaf = key.split(".")
        place = nested
        for name in path:
            place = place.setdefault(name, {})
        place[leaf] = value
    defaults = {"defaults": [{f"override /{group}": name} for group, name in choices.items()]}
    return f"# @package _global_\n# {comment}\n{plain_yaml.dump(defaults)}\n{plain_yaml.dump(nested) if nested else ''}"
