"""The run folder (its layout is a public interface): claimed once, appended to, never overwritten."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grow_cli.console import warn
from grow_cli.errors import UserError
from grow_cli.files import append_text, is_plain, is_there, make_folder, open_lock, write_text, write_texts
from grow_cli.records import plain_yaml, reading
from grow_cli.records.flat import plain
from grow_cli.records.grammar import key_of
from grow_cli.records.summary import read_summary
from grow_cli.records.words import counted

# what grow itself makes in a run folder: none of it may be a link, or it would write, or look, elsewhere
_OURS = (
    *(".hydra", ".lock", "checkpoints", "controls", "growth.jsonl", "metrics.csv", "mistakes", "summary.json"),
    *("trajectory.bin", "tensorboard", "wandb", "mlflow"),
)
# how often, and how far apart, a lock is tried: whoever looks whether it is taken holds it for a moment
_TRIES, _LOOK_SECONDS = 3, 0.01
# of the config, what commands read without its schema
_GROUPS = ("dataset", "model", "method", "trigger")


class InUse(UserError):
    """Another process holds the folder's lock."""


class RunFolder:
    """One run's files. Used by one process at a time (a lock that a kill releases)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._overrides: list[str] | None = None
        self._said: set[str] = set()
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

    @property
    def hydra(self) -> Path:
        return self.path / ".hydra"

    def create(self, hydra_files: dict[str, Any]) -> None:
        """Claim a new folder and write `.hydra/`; UserError if it holds a run already or cannot be written.

        :param hydra_files: name → plain data, or a config, which is written as it is after interpolation
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_links()
            make_folder(self.hydra)
            self._acquire()
            self._refuse_a_run()
            self._remove_leftovers()
            texts = {f"{name}.yaml": plain_yaml.dump(_plain_data(name, what)) for name, what in hydra_files.items()}
            write_texts(self.hydra, texts)
        except OSError as error:
            raise UserError(
                f"the run folder {self.path} cannot be written ({error.strerror}): choose another with run_dir=PATH"
            ) from error
        self.overrides()

    @property
    def begun(self) -> bool:
        """Whether there is a run to continue: a whole `last.pt`, which is renamed to its name when it is written."""
        return is_plain(self.checkpoints / "last.pt")

    @property
    def holds_a_run(self) -> bool:
        """Whether it is begun, or what a run has left whose checkpoints were removed."""
        return self.begun or self.metrics.exists() or (self.path / "summary.json").exists()

    def _refuse_a_run(self) -> None:
        if not self.holds_a_run:
            return
        status = self.read_summary().get("status", "interrupted")
        go_on = f"continue with `grow resume {self.path}` or " if self.begun and status != "finished" else ""
        raise UserError(
            f"{self.path} already holds a run ({status}) and is not overwritten: {go_on}choose another run_dir"
        )

    @property
    def claimed(self) -> bool:
        """Whether `grow train` made it."""
        return is_there(self.hydra / "config.yaml")

    def open(self) -> None:
        """Claim an existing folder, to continue its run."""
        if not self.claimed:
            raise UserError(
                f"{self.path} is not a run folder (it has no .hydra/config.yaml): name a folder that `grow train` wrote"
            )
        self.overrides()  # now: nothing that can fail is left for the end of training
        try:
            self._refuse_links()
            self._acquire()
            self._remove_leftovers()
        except OSError as error:
            raise UserError(f"the run folder {self.path} cannot be written ({error.strerror})") from error

    def _refuse_links(self) -> None:
        for name in _OURS:
            if (self.path / name).is_symlink():
                raise UserError(
                    f"{self.path / name} is a symbolic link, and grow does not write through links: replace it by what it "
                    "points to, or remove it"
                )

    def _remove_leftovers(self) -> None:
        """The temporary files of a process that was killed."""
        for folder in (self.path, self.hydra, self.checkpoints, self.path / "mistakes"):
            for stale in folder.glob(".*.tmp"):
                stale.unlink(missing_ok=True)

    def _acquire(self) -> None:
        self._lock = open_lock(self.path / ".lock")
        for left in reversed(range(_TRIES)):
            try:
                return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if left:  # it may be one who only looks whether somebody trains here
                    time.sleep(_LOOK_SECONDS)
        self.close()
        raise InUse(f"another process is using {self.path}: wait for it, or stop it first")

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def discard_unless_trained(self) -> None:
        """Take back what `create` wrote, where nothing was trained: another try may then have the same name."""
        if self._lock is not None and not self.holds_a_run:
            self._remove_leftovers()
            for path in (*self.hydra.glob("*.yaml"), self.path / ".lock"):
                path.unlink(missing_ok=True)
            _remove_if_empty(self.hydra)
            _remove_if_empty(self.checkpoints)
        self.close()
        _remove_if_empty(self.path)

    def config(self) -> reading.Fields:
        """The run's config as plain data: text in it is text, whatever it looks like. Damaged where it is no config."""
        path = self.hydra / "config.yaml"
        raw = reading.yaml_data(path, self.path)
        if not isinstance(raw, dict):
            raise reading.damaged(path, "it does not hold a configuration")
        for group in _GROUPS:
            if group in raw and not (isinstance(raw[group], dict) and isinstance(raw[group].get("name"), str)):
                raise reading.damaged(path, f"{group} is no option")
        return reading.Fields(path, raw)

    def config_text(self) -> str:
        """The same as it stands in the file."""
        return reading.text(self.hydra / "config.yaml", self.path)

    def overrides(self) -> list[str]:
        """What was given on the command line, as it was typed; of a claimed folder, when it was claimed."""
        if self._overrides is None:
            path = self.hydra / "overrides.yaml"
            found = reading.yaml_data(path, self.path) if is_there(path) else []
            if not isinstance(found, list):
                raise reading.damaged(path, "it is no list")
            self._overrides = [str(override) for override in found]
        return self._overrides

    def say_once(self, sentence: str) -> None:
        """A warning about one of its files, which a command may read several times."""
        if sentence not in self._said:
            self._said.add(sentence)
            warn(sentence)

    def trim(self, rows: int, lines: int) -> None:
        """Cut metrics and growth log back to what the checkpoint knows: `rows` evaluations, `lines` firings."""
        for path, keep in ((self.metrics, rows + 1 if rows else 0), (self.growth, lines)):
            there = is_there(path)
            whole = reading.text(path, self.path).splitlines(keepends=True) if there else []
            if len(whole) < keep or (keep and not whole[keep - 1].endswith("\n")):
                raise UserError(
                    f"{path} has {counted(len(whole), 'line')} but the checkpoint expects {keep}: restore the file from a "
                    "copy, or train again"
                )
            if there:
                write_text(path, "".join(whole[:keep]))
            if path == self.metrics and rows:
                self.columns = next(csv.reader(whole[:1]), [])

    def append_metrics(self, row: dict[str, Any]) -> None:
        """A row of metrics.csv, on the disk when this returns; its first call sets the columns."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        if not self.columns:
            self.columns = list(row)
            writer.writerow(self.columns)
        missing = set(row) ^ set(self.columns)
        if missing:
            raise reading.damaged(self.metrics, f"its columns are not the run's: {', '.join(sorted(missing))}", line=1)
        writer.writerow([_cell(row[name]) for name in self.columns])
        append_text(self.metrics, buffer.getvalue())

    def append_growth(self, event: dict[str, Any]) -> None:
        """A line of growth.jsonl, on the disk when this returns."""
        append_text(self.growth, json.dumps(plain(event)) + "\n")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """summary.json, whole."""
        write_text(self.path / "summary.json", json.dumps(plain(summary), indent=1) + "\n")

    def extend(self, config: Any, moved: Sequence[str]) -> None:
        """Give a claimed folder another config, which moves its limits; the former files stay beside it, numbered.

        The summary goes first: killed in between, the run ends again where it did.
        """
        number = 1
        while is_there(self.hydra / f"config-{number}.yaml") or is_there(self.path / f"summary-{number}.json"):
            number += 1
        typed = [*(o for o in self.overrides() if key_of(o) not in map(key_of, moved)), *moved]
        try:
            if is_there(self.path / "summary.json"):
                os.rename(self.path / "summary.json", self.path / f"summary-{number}.json")
            write_text(self.hydra / f"config-{number}.yaml", self.config_text())
            write_text(self.hydra / "overrides.yaml", plain_yaml.dump(typed))
            write_text(self.hydra / "config.yaml", plain_yaml.dump(_plain_data("config", config)))
        except OSError as error:
            raise UserError(f"the run folder {self.path} cannot be written ({error.strerror})") from error
        self._overrides = typed

    def read_summary(self) -> reading.Fields:
        """summary.json; empty where there is none yet (a run that was killed). Damaged where it is no summary."""
        path = self.path / "summary.json"
        return read_summary(path, self.path) if is_there(path) else reading.Fields(path, {})


TRIED = ".tried"
"""The folder of runs that were trained to choose among them: none is a result, and no test split was read for one."""


def runs_below(path: Path) -> list[Path]:
    """The run folders at and below a path, in order, those in `TRIED` left out; none where it is no folder."""
    found = [p.parent.parent for p in path.glob("**/.hydra/config.yaml")] if path.is_dir() else []
    return sorted(p for p in found if TRIED not in p.relative_to(path).parts)


def _plain_data(name: str, content: Any) -> Any:
    """The config is written as it holds in this run; what was typed, and Hydra's own section, stay as they are."""
    from omegaconf import OmegaConf  # here: `grow list` loads this module too

    if not OmegaConf.is_config(content):
        return content
    return OmegaConf.to_container(content, resolve=name == "config", enum_to_str=True)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is not there, not empty, or not ours
        folder.rmdir()


def _cell(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return ""
    return value
