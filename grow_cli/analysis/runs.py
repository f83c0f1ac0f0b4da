"""Run folders as records that can be compared: found, read, and labelled by the keys in which they differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grow_cli.console import warn
from grow_cli.errors import UserError
from grow_cli.keys import OF_THE_RUN
from grow_cli.records.flat import flatten as flat_keys
from grow_cli.records.folder import RunFolder, runs_below
from grow_cli.records.metrics import read_metrics
from grow_cli.records.reading import Fields, damaged, whole
from grow_cli.records.words import are
from grow_cli.schema import role_of
from grow_cli.tasks import Task, task_in

if TYPE_CHECKING:
    import pandas as pd

# Of summary.json, what every run must have to be compared.
_NUMBERS = (
    *("seed", "parameters", "flops_per_sample", "training_flops", "growth_flops"),
    *("seconds", "growth_seconds", "steps", "events"),
)


@dataclass(frozen=True)
class Record:
    """A finished run."""

    folder: RunFolder
    summary: dict[str, Any]
    config: dict[str, Any]
    dataset: str
    """Its name, and what part of it was used."""
    label: str
    """What it is called: its `label` or method, and the keys in which it differs from others of that name. Runs of one dataset
    and label differ by their seeds only."""
    control: str | None = None
    """Which control it is."""
    of: Record | None = None
    """The run that it is a control of."""
    metrics: pd.DataFrame = field(kw_only=True, repr=False, compare=False)
    """metrics.csv."""

    @property
    def seed(self) -> int:
        return int(self.summary["seed"])

    @property
    def task(self) -> Task:
        return task_in(self.summary, "test")


def find_runs(paths: Iterable[Path]) -> list[RunFolder]:
    """The run folders at and below these paths, controls included, each once; UserError where there are none."""
    found: dict[Path, RunFolder] = {}
    for path in paths:
        below = runs_below(path)
        if not below:
            raise UserError(
                f"{path} holds no run: name a run folder that `grow train` wrote, or a folder of run folders"
            )
        for folder in below:
            found.setdefault(folder.resolve(), RunFolder(folder))
    return list(found.values())


def read_records(paths: Iterable[Path]) -> list[Record]:
    """The finished runs at and below these paths; a warning names those that are not finished, or whose files are damaged."""
    read: list[Record] = []
    unfinished = []
    for folder in find_runs(paths):
        try:
            summary = folder.read_summary()
            if summary.get("status") != "finished":
                unfinished.append(str(folder.path))
            else:
                read.append(_finished(folder, summary))
        except UserError as error:
            warn(f"{folder.path} is left out: {error}")
    if unfinished:
        some = ", ".join(unfinished[:3]) + (", …" if len(unfinished) > 3 else "")
        are_not = f"{are(len(unfinished))} not finished and {are(len(unfinished))} left out"
        warn(f"{len(unfinished)} of the runs {are_not}: {some}; `grow resume RUN` continues one")
    return _named(read)


def _finished(folder: RunFolder, summary: Fields) -> Record:
    """A run without its label; Damaged where something is missing that a comparison needs: an earlier grow's run, or one
    without a score."""
    task = task_in(summary, "test")
    for key in (task.column("test"), task.column("val"), *_NUMBERS):
        if not isinstance(summary[key], int | float):
            raise damaged(summary.path, f"it has no {key}")
    for key in ("method", "trigger", "device"):
        summary[key]
    if not whole(summary["architecture"].get("outputs")):
        raise damaged(summary.path, "architecture has no outputs")
    config = folder.config()
    for group in ("dataset", "model", "method", "trigger"):
        config[group]
    metrics = read_metrics(folder, (task.column("val"),))
    control = summary.get("control") or None
    return Record(folder, summary, config, dataset_name(config, summary), "", control, metrics=metrics)


def _named(read: list[Record]) -> list[Record]:
    own = [one for one in read if one.control is None]
    named = labels([(one.dataset, base_name(one.summary), flatten(one.config)) for one in own])
    label_of = {one.folder.path: named[number] for number, one in enumerate(own)}
    records: dict[Path, Record] = {}
    # a control lies below its run: runs come before their controls
    for one in sorted(read, key=lambda r: len(r.folder.path.resolve().parts)):
        place = one.folder.path.resolve()
        if one.control is None:
            records[place] = replace(one, label=label_of[one.folder.path])
        elif (parent := records.get(place.parent.parent)) is not None:
            records[place] = replace(one, label=f"{parent.label} · {one.control}", of=parent)
        else:
            warn(
                f"{one.folder.path} is the control of a run that is not among the finished runs here, so it is left out"
            )
    if not records:
        raise UserError("none of the runs is finished: there is nothing to compare")
    return list(records.values())


def base_name(summary: dict[str, Any]) -> str:
    """What a run is called before anything tells it apart from others."""
    return str(summary.get("label") or summary["method"])


def dataset_name(config: dict[str, Any], summary: dict[str, Any]) -> str:
    """What cannot be compared with each other has different names."""
    dataset, part = config["dataset"], config.get("subset")
    corpus = ((summary.get("data") or {}).get("corpus") or {}).get("sha256")
    cut = f", corpus {str(corpus)[:8]}" if corpus else ""
    place = dataset.get("path") or dataset.get("root")
    folder = f" {Path(place).name}" if place else ""
    cut += ", validation=0" if nothing_held_out(config) else ""
    return str(dataset["name"]) + folder + ("" if part is None else f", subset={part}") + cut


def nothing_held_out(config: dict[str, Any]) -> bool:
    """Whether a run's validation scores are those of the samples that it was trained on."""
    return bool(config["dataset"].get("validation") == 0)  # absent from what an older grow wrote


def flatten(config: dict[str, Any]) -> dict[str, Any]:
    """Nested keys as `optimizer.lr`, without those that tell no ways apart: where, how fast and under what name it ran, seeds."""
    return {key: value for key, value in flat_keys(config).items() if key != "seed" and role_of(key) in OF_THE_RUN}


def differing(configs: list[dict[str, Any]]) -> list[str]:
    """Keys whose values are not the same in all; one that some lack (an older grow wrote them) does not count."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({repr(config[key]) for config in configs if key in config}) > 1]


def labels(runs: Sequence[tuple[str, str, dict[str, Any]]]) -> dict[int, str]:
    """Number of a run (its dataset, name and flat config) → its label; those of one dataset and name follow each other."""
    alike: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for number, (dataset, name, config) in enumerate(runs):
        alike[dataset, name][number] = config
    found = {}
    for (_, name), configs in alike.items():
        for number, told in zip(configs, _telling(list(configs.values())), strict=True):
            found[number] = ", ".join([name, *told])
    return found


def _telling(alike: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Of each run `key=value` of the keys that differ; of another option of a group its name, and what differs among its own
    kind."""
    keys = differing(alike)
    own: dict[tuple[str, Any], set[str]] = {}

    def differs(key: str, config: dict[str, Any]) -> bool:
        name = f"{key.split('.')[0]}.name"
        if name not in keys or key == name:
            return True
        kind = (name, config.get(name))
        if kind not in own:
            own[kind] = set(differing([c for c in alike if c.get(name) == kind[1]]))
        return key in own[kind]

    for config in alike:
        yield [f"{key.removesuffix('.name')}={config[key]}" for key in keys if key in config and differs(key, config)]
