"""Runs as rows of a table: read quickly; damaged runs are reported and not fatal."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from grow_cli.config import GROUP_KEYS
from grow_cli.errors import UserError
from grow_cli.files import is_there, open_plainly, open_to_read
from grow_cli.records.flat import flatten
from grow_cli.records.folder import RunFolder
from grow_cli.records.named import begun_at, scan
from grow_cli.tasks import Task, task_in

SORTS = ("when", "val", "name", "parameters", "growths", "seconds", "steps")
"""What `grow runs --sort` takes."""


@dataclass(frozen=True)
class Listed:
    """A run folder, as far as a table needs it."""

    folder: RunFolder
    name: str
    """Below the folder that was listed."""
    when: float
    """Seconds since 1970 at which it was begun."""
    summary: dict[str, Any]
    state: str
    """Its summary's status; without one `running` or `killed`; `damaged`."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """Flat; read on first use, and empty if damaged."""
        try:
            return flatten(self.folder.config())
        except UserError:
            return {}

    @cached_property
    def last(self) -> dict[str, str]:
        """The last whole row of metrics.csv, as text; empty where there is none."""
        return last_row(self.folder)

    def value(self, key: str) -> Any:
        """The key's value in the summary, or else in the config; `method` and `method.name` are the same."""
        if key in self.summary:
            return self.summary[key]
        return self.config.get(f"{key}.name" if key in GROUP_KEYS else key)

    @property
    def task(self) -> Task:
        return task_in(self.summary or self.last)

    @property
    def val(self) -> float | None:
        """The validation score at the end, or at the last evaluation so far."""
        name = self.task.column("val")
        found = self.summary.get(name)
        if found is None:
            with contextlib.suppress(ValueError):
                found = float(self.last.get(name, ""))
        return found

    @property
    def parameters(self) -> int | None:
        last = self.last.get("parameters", "") if "parameters" not in self.summary else ""
        return self.summary.get("parameters", int(last) if last.isdigit() else None)

    @property
    def growths(self) -> int | None:
        """Events that added something."""
        return self.summary.get("events")


def listed(folder: Path) -> list[Listed]:
    """The runs at and below a folder, controls left out, as they were begun; UserError where there are none."""
    paths = [path for path in scan(folder) if "controls" not in path.relative_to(folder).parts]
    if not paths:
        raise UserError(f"there is no run below {folder}: train one with `grow train`, or name another folder")
    return sorted((_listed(path, folder) for path in paths), key=lambda run: (run.when, run.name))


def _listed(path: Path, root: Path) -> Listed:
    folder, name = RunFolder(path), path.relative_to(root).as_posix()
    try:
        summary: dict[str, Any] = folder.read_summary()
        state = state_of(folder, summary)
    except UserError:
        summary, state = {}, "damaged"
    return Listed(folder, name if name != "." else str(path), begun_at(path), summary, state)


def state_of(folder: RunFolder, summary: dict[str, Any]) -> str:
    """`finished`, `failed`, `crashed`, `interrupted`; `running` while a process holds its lock; else `killed`."""
    status = str(summary.get("status", ""))
    if status in ("finished", "failed"):
        return status
    return "running" if locked(folder) else status or "killed"


def locked(folder: RunFolder) -> bool:
    """Whether a process trains in it now."""
    try:
        lock = open_plainly(folder.path / ".lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def last_row(folder: RunFolder) -> dict[str, str]:
    """The last whole row of metrics.csv; empty where there is none. Only the file's ends are read."""
    if not is_there(folder.metrics):
        return {}
    try:
        with open_to_read(folder.metrics, folder.path) as file:
            columns = file.readline().decode("utf-8", "replace").strip().split(",")
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65536))
            lines = file.read().decode("utf-8", "replace").split("\n")[:-1]
    except OSError:
        return {}
    values = lines[-1].split(",") if lines else []
    return dict(zip(columns, values, strict=True)) if len(values) == len(columns) and values != columns else {}


def chosen(runs: Iterable[Listed], filters: Iterable[str]) -> list[Listed]:
    """Those of which all of `KEY=VALUE` hold; UserError for a key that none of them has."""
    runs = list(runs)
    for one in filters:
        key, equals, wanted = one.partition("=")
        if not equals:
            raise UserError(f"--filter {one}: write KEY=VALUE, such as method=tiny or state=finished")
        if key == "state":
            runs = [run for run in runs if run.state == wanted]
            continue
        if runs and all(run.value(key) is None and key not in run.config for run in runs):
            raise UserError(f"--filter {one}: no run has the key {key}; `grow show RUN` lists the keys of a run")
        runs = [run for run in runs if _same(run.value(key), wanted)]
    return runs


def _same(value: Any, wanted: str) -> bool:
    if isinstance(value, bool) or value is None:
        return str(value).lower() == wanted.lower() or (value is None and wanted == "null")
    if isinstance(value, int | float):
        try:
            return float(wanted) == value
        except ValueError:
            return False
    return str(value) == wanted


def ordered(runs: list[Listed], by: str) -> list[Listed]:
    """By one of `SORTS`; scores best first, tasks separately, runs without a value last."""

    def place(run: Listed) -> tuple[bool, str, float]:
        value = run.val if by == "val" else getattr(run, by) if by in ("parameters", "growths") else run.summary.get(by)
        task = run.task.name if by == "val" else ""
        return value is None, task, -run.task.direction * value if by == "val" and value is not None else value or 0.0

    if by in ("when", "name"):
        return sorted(runs, key=lambda run: (getattr(run, by), run.name))
    return sorted(runs, key=place)
