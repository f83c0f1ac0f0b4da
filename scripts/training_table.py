"""Runs of a study: trained one after the other in a few processes, each finished one a row of a table that is committed.

A study of hours can be stopped and gone on with at any time, on another machine too: what has a row is not trained again. A
row knows its recipe, so that one of a study that has changed since is not taken for one of the study as it is, and its data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import ROOT, record, recorded

# data: what the uncut training part and the test part are
MEASURED = (
    "widths",
    "parameters",
    "training_flops",
    "events",
    "grown_at",
    "steps",
    "seconds",
    "torch",
    "commit",
    "data",
)

Key = tuple[str, ...]
Row = dict[str, str]


def arguments(about: str | None, seeds: int) -> argparse.ArgumentParser:
    """What every study is asked on the command line.

    :param about: its module's docstring
    :param seeds: how many are planned
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--finished", action="store_true", help="train nothing")
    return parser


def recipe(words: Iterable[str]) -> str:
    """What tells the words of a run from those of another, its seed left out."""
    told = json.dumps(sorted(word for word in words if not word.startswith("seed=")))
    return hashlib.sha256(told.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Table:
    """docs/results/data/<name>.csv.

    :param name: of the study
    :param keys: the columns that tell a run
    :param scores: the columns of what is measured, of which the first is printed after each run
    :param words: the words of `grow train` for a key, those that say where the data are left out; None where the study has no
        such run
    :param apart: how many of the first columns tell runs on different data, which may differ
    """

    name: str
    keys: Key
    scores: tuple[str, ...]
    words: Callable[..., list[str] | None]
    apart: int = 0

    @property
    def path(self) -> Path:
        return ROOT / "docs" / "results" / "data" / f"{self.name}.csv"

    def rows(self) -> dict[Key, Row]:
        """The finished runs of the study as it is now. ValueError where some that are compared are on different data."""
        found: dict[Key, Row] = {}
        for (*key, of), row in recorded(self.path, (*self.keys, "recipe")).items():
            words = self.words(*key)
            if words is not None and of == recipe(words):
                self._refuse_other_data(found, key, row["data"])
                found[tuple(key)] = row
        return found

    def _refuse_other_data(self, rows: Mapping[Key, Row], key: Sequence[str], data: str) -> None:
        other = {row["data"] for known, row in rows.items() if known[: self.apart] == tuple(key[: self.apart])} - {data}
        if other:
            raise ValueError(
                f"{', '.join(key)} is on other data ({data}) than the runs of {self.path} ({', '.join(other)}), and cannot be "
                "compared with them"
            )

    def add(self, key: Key, found: Mapping[str, Any]) -> None:
        """The row of a run that has just ended. ValueError where it is on other data than those it would be compared with."""
        self._refuse_other_data(self.rows(), key, found["data"])
        columns = (*self.scores, *MEASURED)
        told = dict(zip(self.keys, key, strict=True)) | {"recipe": recipe(self.words(*key) or ())}
        record(self.path, (*self.keys, "recipe"), told | {column: found[column] for column in columns})

    def train(self, keys: Iterable[Key], jobs: int, more: Sequence[str] = (), *, trials: bool = False) -> None:
        """Train what has no row yet, on one thread each. Runs that fail are named at the end.

        :param more: words that say where the data are, or the device, of every run
        :param trials: whether a run that diverges is worth a row without scores, as one of a search is
        """
        known, failed = self.rows(), []
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            try:
                waiting = {
                    pool.submit(trained, [*(self.words(*key) or ()), *more], trial=trials): key
                    for key in keys
                    if key not in known
                }
                for done in as_completed(waiting):
                    if (error := done.exception()) is not None:
                        failed.append(f"{', '.join(waiting[done])}: {error}")
                        continue
                    found = dict.fromkeys(self.scores if trials else (), math.nan) | done.result()
                    self.add(waiting[done], found)
                    score, seconds = found[self.scores[0]], found["seconds"]
                    print(f"{self.name} {', '.join(waiting[done])}: {score:.4g} ({seconds:.0f} s)", flush=True)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if failed:
            raise SystemExit("\n".join(failed))


def trained(words: list[str], *, trial: bool = False) -> dict[str, Any]:
    """A run's summary, and by which part of its FLOPs it grew first; its folder goes, for its words tell it to the last bit.

    :param trial: whether a run that diverges has a summary, too, without scores
    """
    import grow_cli as grow
    from grow_cli.errors import Crashed

    with tempfile.TemporaryDirectory() as folder:
        try:
            run = grow.train([*words, "threads=1", "progress=off", f"run_dir={folder}/run"])
        except grow.TrainingFailed as error:
            if not trial or isinstance(error, Crashed):
                raise
            run = grow.load(f"{folder}/run")
        found, metrics, growth = run.summary, run.metrics.set_index("step"), run.growth
    if found["status"] == "failed":  # the summary is that of its last good checkpoint
        found["training_flops"] = metrics["flops"].iloc[-1]
    data = found["data"]
    part = metrics["flops"][growth["step"].iloc[0]] / found["training_flops"] if len(growth) else ""
    return found | {
        "grown_at": f"{part:.4f}" if part else "",
        "torch": found["versions"]["torch"],
        "commit": (found["commit"] or "")[:8],
        "data": f"{data['hash'][:8]} {data['test_hash'][:8]}",
    }
