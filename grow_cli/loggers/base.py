"""The interface of loggers, and code shared by those of other programs. Imports neither torch nor a logger's package."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from grow_cli.console import warn
from grow_cli.errors import UserError, first_line
from grow_cli.files import is_there, make_folder, write_text
from grow_cli.records import reading
from grow_cli.records.events import growth_events
from grow_cli.records.flat import plain
from grow_cli.records.folder import RunFolder
from grow_cli.records.reading import damaged, json_data, whole
from grow_cli.registry import Option

if TYPE_CHECKING:
    from grow_cli.config import Config

_COUNTED = {"rows": "step", "events": "growth/units_added"}
"""The number that each row, and each event, has: by it those that arrived are counted."""


class Logger:
    """Receives every row of metrics.csv, every line of growth.jsonl, and summary.json."""

    def resume(self, rows: int, events: int) -> None:
        """The run continues from a checkpoint with `rows` rows and `events` events: later ones are sent again."""

    def metrics(self, row: dict[str, Any]) -> None:
        """A row of metrics.csv."""

    def growth(self, event: dict[str, Any]) -> None:
        """A line of growth.jsonl."""

    def summary(self, summary: dict[str, Any]) -> None:
        """summary.json, of a run that finished."""

    def close(self) -> None:
        """Flush and release."""


class Remote(Logger):
    """Passes on to another program, each row and event once.

    A resumed run repeats what came after its checkpoint, to the last bit, so what was passed on before the kill is left
    out. How far that was stands in `sent.json`, in the logger's own folder. Where passing on fails (a server went away),
    the run continues without it: metrics.csv has every row, and a resumed run passes on what is missing.
    """

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = RunFolder(folder.parent)
        folder.parent.mkdir(parents=True, exist_ok=True)
        make_folder(folder)
        self._file = folder / "sent.json"
        self.sent: dict[str, Any] = {"rows": 0, "events": 0} | self._known()
        self._rows = self._events = 0
        self._lost = False
        # killed between telling a thing and noting it, a run does not know whether it was told
        self._doubtful = {"rows", "events"} if is_there(self._file) else set()
        self.finished = False

    def _known(self) -> dict[str, Any]:
        if not is_there(self._file):
            return {}
        known = json_data(self._file, self._file.parent.parent)
        if not isinstance(known, dict) or not all(whole(known.get(name, 0)) for name in ("rows", "events")):
            raise damaged(self._file, "it does not say how many rows and events were sent")
        return known

    def send(self, numbers: dict[str, float], step: int, **documents: dict[str, Any]) -> None:
        """Numbers of a step, and as a document the event (`growth`) or the `summary` that they are from."""
        raise NotImplementedError

    def held(self, name: str) -> int:
        """How many numbers of this name the other program has; 0 where it cannot be asked."""
        return 0

    def finish(self) -> None:
        """Flush and release; `self.finished` says whether the run came to its end."""
        raise NotImplementedError

    def note(self, **known: Any) -> None:
        """Remember across a resume."""
        self.sent |= known
        write_text(self._file, json.dumps(self.sent) + "\n")

    def resume(self, rows: int, events: int) -> None:
        """Also sends what the checkpoint has and the other program never received, from metrics.csv and growth.jsonl."""
        self._rows, self._events = min(rows, self.sent["rows"]), min(events, self.sent["events"])
        if self._rows < rows:
            for row in told_rows(self.folder)[self._rows : rows]:
                self.metrics(row)
        if self._events < events:
            for event in growth_events(self.folder)[self._events : events]:
                self.growth(event.to_json())

    def metrics(self, row: dict[str, Any]) -> None:
        self._rows += 1
        if self._rows > self.sent["rows"]:
            told, step = numbers(row), int(row["step"])
            self._try(lambda: self._once("rows", told, step), rows=self._rows)

    def growth(self, event: dict[str, Any]) -> None:
        self._events += 1
        if self._events > self.sent["events"]:
            told, step = plain(event), int(event["step"])
            added = {_COUNTED["events"]: told["units_added"]}
            self._try(lambda: self._once("events", added, step, growth=told), events=self._events)

    def _once(self, kind: str, told: dict[str, float], step: int, **documents: dict[str, Any]) -> None:
        doubtful = kind in self._doubtful
        self._doubtful.discard(kind)
        if not (doubtful and self.held(_COUNTED[kind]) > self.sent[kind]):
            self.send(told, step, **documents)

    def summary(self, summary: dict[str, Any]) -> None:
        final = {f"final/{name}": value for name, value in numbers(summary).items()}
        self._try(lambda: self.send(final, int(summary["steps"]), summary=plain(summary)))
        self.finished = True

    def close(self) -> None:
        self._try(self.finish)

    def _try(self, send: Callable[[], None], **known: int) -> None:
        if self._lost:
            return
        try:
            send()
            if known:
                self.note(**known)
        except Exception as error:  # whatever their network or disk runs into must not end a training
            self._lost = True
            warn(
                f"logger={self.name} has failed and is disabled for this run ({first_line(error)}); metrics.csv has every row"
            )


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """Its finite numbers: the others are words, or were not measured."""
    return {name: value for name, value in row.items() if reading.number(value)}


def told_rows(folder: RunFolder) -> list[dict[str, Any]]:
    """The rows of metrics.csv as loggers received them: numbers are numbers again, and what was not measured is left out."""

    def number(cell: str) -> float | str:
        try:
            return float(cell)
        except ValueError:
            return cell

    lines = reading.text(folder.metrics, folder.path).splitlines()
    return [{name: number(cell) for name, cell in row.items() if cell} for row in csv.DictReader(lines)]


def sweep_of(folder: RunFolder) -> str | None:
    """What the sweep that a run is a job of is called; None of a single run."""
    path = folder.hydra / "hydra.yaml"
    found = reading.yaml_data(path, folder.path) if is_there(path) else None
    hydra = found.get("hydra") if isinstance(found, dict) else None
    swept = isinstance(hydra, dict) and str(hydra.get("mode")).endswith("MULTIRUN")
    return folder.path.absolute().parent.name if swept else None


@dataclass
class LoggerOption(Option):
    """Base of every logger."""

    group_name: ClassVar[str] = "logger"

    def build(self, run_folder: Path) -> Logger:
        """The logger of one run."""
        raise NotImplementedError


@dataclass
class Packaged(LoggerOption):
    """One whose package, of the same name, is an extra of the same name."""

    def check_run(self, config: Config) -> list[str]:
        self._check_package()
        return []

    def _check_package(self) -> None:
        if find_spec(self.name) is None:
            raise UserError(
                f"logger={self.name} needs a package that is not installed: pip install 'grow-cli[{self.name}]'"
            )

    def build(self, run_folder: Path) -> Logger:
        self._check_package()  # `grow resume` asks no `check_run`
        try:
            return self.start(run_folder)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"logger={self.name} cannot start ({first_line(error)}): check its settings, or use logger=csv"
            ) from error

    def start(self, run_folder: Path) -> Logger:
        """`build`, the package being there."""
        raise NotImplementedError
