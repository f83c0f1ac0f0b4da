"""Runs of a study: trained one after the other in a few processes, each finished one a row of a table that is committed.

A study of hours can be stopped and gone on with at any time, on another machine too: nothing that has a row is trained again.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import ROOT, record, recorded

MEASURED = ("parameters", "training_flops", "events", "steps", "seconds")


@dataclass(frozen=True)
class Table:
    """docs/results/data/<name>.csv.

    :param name: of the study
    :param keys: the columns that tell a run
    :param score: what is measured on the validation and on the test part: `loss`, `accuracy`
    """

    name: str
    keys: tuple[str, ...]
    score: str

    @property
    def path(self) -> Path:
        return ROOT / "docs" / "results" / "data" / f"{self.name}.csv"

    def rows(self) -> dict[tuple[str, ...], dict[str, str]]:
        """The finished runs, each by the texts of its key. ValueError where they are of different data."""
        rows = recorded(self.path, self.keys)
        if len({row["data"] for row in rows.values()}) > 1:
            raise ValueError(f"{self.path} has runs on different data, which cannot be compared")
        return rows

    def add(self, key: Sequence[str], found: Mapping[str, Any]) -> None:
        """The row of a run that has just ended."""
        columns = (f"val_{self.score}", f"test_{self.score}", *MEASURED, "torch", "data")
        record(self.path, self.keys, dict(zip(self.keys, key, strict=True)) | {column: found[column] for column in columns})

    def train(self, runs: Mapping[tuple[str, ...], list[str]], jobs: int) -> None:
        """Train what has no row yet, on one thread each: key → the words of `grow train`."""
        known = self.rows()
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            waiting = {pool.submit(_trained, words): key for key, words in runs.items() if key not in known}
            for done in as_completed(waiting):
                key, found = waiting[done], done.result()
                self.add(key, found)
                print(
                    f"{self.name} {', '.join(key)}: {found[f'val_{self.score}']:.4f} ({found['seconds']:.0f} s)",
                    flush=True,
                )


def _trained(words: list[str]) -> dict[str, Any]:
    """A run's summary; its folder goes, as its command and seed tell it to the last bit."""
    import grow_cli as grow

    with tempfile.TemporaryDirectory() as folder:
        found = grow.train([*words, "threads=1", "progress=off", f"run_dir={folder}/run"]).summary
    return found | {"torch": found["versions"]["torch"], "data": found["data"]["hash"][:8]}
