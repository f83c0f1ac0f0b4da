"""`jobs.json` in a sweep's folder: which jobs it has, so that those to come are known, and where each one's folder is.

Written whole when a sweep begins, and once more when it ends if a job of it did not end well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from grow_cli.files import is_there, write_text
from grow_cli.records.reading import damaged, json_data

JOBS = "jobs.json"


def number_of(folder: str) -> int:
    """A job's number, with which its folder's name begins (`3-method=tiny`); -1 where it does not."""
    first = folder.partition("-")[0]
    return int(first) if first.isdigit() else -1


@dataclass(frozen=True)
class Entry:
    """A job, whether or not it has begun."""

    folder: str
    """Its name in the sweep's folder."""
    overrides: tuple[str, ...]
    """What identifies it."""
    told: str = ""
    """What makes it another job than the others: `method=tiny seed=1`."""
    became: str = ""
    """How it ended, where its folder need not say so: `failed`, `crashed` or `interrupted`."""
    sentence: str = ""
    """Why."""


@dataclass(frozen=True)
class Jobs:
    """All that were ever asked for in this folder."""

    entries: tuple[Entry, ...] = ()
    lines: tuple[tuple[str, ...], ...] = ()
    """What was typed after `grow train -m`, each line once, the folder left out."""

    @property
    def found(self) -> dict[tuple[str, ...], Entry]:
        """By what identifies them."""
        return {entry.overrides: entry for entry in self.entries}

    @property
    def named(self) -> dict[str, Entry]:
        """By their folders' names."""
        return {entry.folder: entry for entry in self.entries}


def read_jobs(sweep: Path) -> Jobs:
    """The jobs of a sweep's folder; empty if it has no such file. Damaged if the file is not one that grow writes."""
    path = sweep / JOBS
    if not is_there(path):
        return Jobs()
    raw = json_data(path, sweep)
    if not isinstance(raw, dict) or not all(isinstance(raw.get(name), list) for name in ("jobs", "lines")):
        raise damaged(path, "it does not hold jobs and lines")
    return Jobs(tuple(_entry(path, one) for one in raw["jobs"]), tuple(tuple(map(str, line)) for line in raw["lines"]))


def write_jobs(sweep: Path, jobs: Jobs) -> None:
    """Whole or not at all."""
    entries = [{name: value for name, value in asdict(entry).items() if value} for entry in jobs.entries]
    text = ",\n  ".join(json.dumps(entry) for entry in entries)
    write_text(sweep / JOBS, f'{{"lines": {json.dumps(jobs.lines)},\n "jobs": [\n  {text}]}}\n')


def with_ends(jobs: Jobs, ends: Iterable[tuple[str, str, str]]) -> Jobs:
    """The same, with how some ended: folder, what it became (empty: nothing is known), why."""
    known = {folder: (became, sentence) for folder, became, sentence in ends}

    def told(entry: Entry) -> Entry:
        became, sentence = known.get(entry.folder, (entry.became, entry.sentence))
        return entry if became == entry.became else replace(entry, became=became, sentence=sentence)

    return replace(jobs, entries=tuple(map(told, jobs.entries)))


def _entry(path: Path, raw: Any) -> Entry:
    words = ("folder", "told", "became", "sentence")
    if (
        not isinstance(raw, dict)
        or not all(isinstance(raw.get(name, ""), str) for name in words)
        or not isinstance(raw.get("overrides", []), list)
    ):
        raise damaged(path, "a job of it is no object of texts")
    folder = raw.get("folder", "")
    if folder in ("", ".", "..") or "/" in folder or "\0" in folder:
        raise damaged(path, f"{folder!r} is no folder's name")
    overrides = tuple(map(str, raw.get("overrides", [])))
    return Entry(folder, overrides, *(raw.get(name, "") for name in words[1:]))
