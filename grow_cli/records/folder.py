"""The run folder (its layout is a public interface): claimed once, appended to, never overwritten."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import math
import os
from pathlib import Path
from typing import IO, Any

from omegaconf import OmegaConf

from grow_cli.errors import UserError
from grow_cli.files import write_text


class InUse(UserError):
    """Another process holds the folder's lock."""


class RunFolder:
    """One run's files. Used by one process at a time (a lock that a kill releases)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None
        self.columns: list[str] = []

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def growth(self) -> Path:
        return self.path / "growth.jsonl"

    def create(self, hydra_files: dict[str, Any]) -> None:
        """Claim a new folder and write `.hydra/`; UserError if it holds a run already or cannot be written."""
        try:
            (self.path / ".hydra").mkdir(parents=True, exist_ok=True)
            self._acquire()
            self._refuse_a_run()
            self._remove_leftovers()
            for name, content in hydra_files.items():
                write_text(self.path / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(content))
        except OSError as error:
            raise UserError(
                f"the run folder {self.path} cannot be written ({error.strerror}): choose another with run_dir=PATH"
            ) from error

    @property
    def begun(self) -> bool:
        """Whether there is a run to go on with: a whole `last.pt`, which is renamed to its name when it is written."""
        return (self.checkpoints / "last.pt").is_file()

    @property
    def holds_a_run(self) -> bool:
        """Whether it is begun, or what a run has left whose checkpoints were removed."""
        return self.begun or self.metrics.exists() or (self.path / "summary.json").exists()

    def _refuse_a_run(self) -> None:
        if not self.holds_a_run:
            return
        status = self.read_summary().get("status", "interrupted")
        go_on = f"go on with `grow resume {self.path}` or " if self.begun and status != "finished" else ""
        raise UserError(
            f"{self.path} already holds a run ({status}) and is not overwritten: {go_on}choose another run_dir"
        )

    @property
    def claimed(self) -> bool:
        """Whether `grow train` made it."""
        return (self.path / ".hydra" / "config.yaml").is_file()

    def open(self) -> None:
        """Claim an existing folder, to go on with its run."""
        if not self.claimed:
            raise UserError(
                f"{self.path} is not a run folder (it has no .hydra/config.yaml): name a folder that `grow train` wrote"
            )
        try:
            self._acquire()
        except OSError as error:
            raise UserError(f"the run folder {self.path} cannot be written ({error.strerror})") from error
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Files that a kill left half-written."""
        for folder in (self.path, self.path / ".hydra", self.checkpoints):
            for stale in folder.glob(".*.tmp"):
                stale.unlink(missing_ok=True)

    def _acquire(self) -> None:
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            raise InUse(f"another process is using {self.path}: wait for it, or stop it first") from None

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def discard_unless_trained(self) -> None:
        """Take back what `create` wrote, where nothing was trained: another try may then have the same name."""
        if self._lock is not None and not self.holds_a_run:
            self._remove_leftovers()
            for path in (*(self.path / ".hydra").glob("*.yaml"), self.path / ".lock"):
                path.unlink(missing_ok=True)
            _remove_if_empty(self.path / ".hydra")
            _remove_if_empty(self.checkpoints)
        self.close()
        _remove_if_empty(self.path)

    def config(self) -> dict[str, Any]:
        """The run's config as plain data."""
        try:
            raw = OmegaConf.to_container(OmegaConf.load(self.path / ".hydra" / "config.yaml"))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}/.hydra/config.yaml cannot be read ({error})") from error
        except Exception as error:  # yaml's own errors have no common public base with the above
            if type(error).__module__.split(".")[0] not in ("yaml", "omegaconf"):
                raise
            raise UserError(f"{self.path}/.hydra/config.yaml is damaged: {str(error).splitlines()[0]}") from error
        if not isinstance(raw, dict):
            raise UserError(f"{self.path}/.hydra/config.yaml is damaged: it does not hold a configuration")
        return {str(key): value for key, value in raw.items()}

    def overrides(self) -> list[str]:
        """What was given on the command line."""
        path = self.path / ".hydra" / "overrides.yaml"
        return [str(o) for o in OmegaConf.load(path)] if path.exists() else []

    def trim(self, rows: int, lines: int) -> None:
        """Cut metrics and growth log back to what the checkpoint knows: `rows` evaluations, `lines` firings."""
        for path, keep in ((self.metrics, rows + 1 if rows else 0), (self.growth, lines)):
            whole = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
            if len(whole) < keep or (keep and not whole[keep - 1].endswith("\n")):
                raise UserError(
                    f"{path} has {len(whole)} lines and the checkpoint knows {keep}: restore the file from a copy, "
                    "or train anew"
                )
            if len(whole) > keep or path.exists():
                write_text(path, "".join(whole[:keep]))
        if rows:
            with self.metrics.open(encoding="utf-8", newline="") as file:
                self.columns = next(csv.reader(file))

    def append_metrics(self, row: dict[str, Any]) -> None:
        """A row of metrics.csv, on the disk when this returns; its first call sets the columns."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        if not self.columns:
            self.columns = list(row)
            writer.writerow(self.columns)
        missing = set(row) ^ set(self.columns)
        assert not missing, f"metrics.csv has fixed columns; {missing} differ"
        writer.writerow([_cell(row[name]) for name in self.columns])
        _append(self.metrics, buffer.getvalue())

    def append_growth(self, event: dict[str, Any]) -> None:
        """A line of growth.jsonl, on the disk when this returns."""
        _append(self.growth, json.dumps(plain(event)) + "\n")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """summary.json, whole."""
        write_text(self.path / "summary.json", json.dumps(plain(summary), indent=1) + "\n")

    def read_summary(self) -> dict[str, Any]:
        """summary.json; empty where there is none yet (a run that was killed)."""
        path = self.path / "summary.json"
        if not path.exists():
            return {}
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is damaged: {error}") from error
        return migrate(dict(summary))


# last word of `ended_by` → the rule that it told of, before the summary had `ended`
_RULES = {"epochs": "epochs", "steps": "steps", "seconds": "seconds", "FLOPs": "flops"}


def migrate(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary of an earlier grow with the fields that it lacks."""
    if "ended_by" in summary and "ended" not in summary:
        words = str(summary["ended_by"]).split()
        summary["ended"] = {"rule": _RULES.get(words[-1], ""), "value": None}
    return summary


def runs_below(path: Path) -> list[Path]:
    """The run folders at and below a path, in order; none where it is no folder."""
    return sorted(p.parent.parent for p in path.glob("**/.hydra/config.yaml")) if path.is_dir() else []


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is not there, not empty, or not ours
        folder.rmdir()


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _cell(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return ""
    return value


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: null instead."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
