"""A logger: a line of text for each row and event, in the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grow_cli.loggers.base import Logger, LoggerOption
from grow_cli.registry import option


class Diary(Logger):
    def __init__(self, file: Path) -> None:
        self.file = file

    def _write(self, line: str) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def resume(self, rows: int, events: int) -> None:
        lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True) if self.file.exists() else []
        self.file.write_text("".join(lines[: rows + events]), encoding="utf-8")

    def metrics(self, row: dict[str, Any]) -> None:
        self._write(f"step {row['step']}: {row['val_loss']}")

    def growth(self, event: dict[str, Any]) -> None:
        self._write(f"grew by {event['units_added']}")


@option("logger", "diary")
@dataclass
class DiaryOption(LoggerOption):
    """diary.txt in the run folder."""

    def build(self, run_folder: Path) -> Logger:
        return Diary(run_folder / "diary.txt")
