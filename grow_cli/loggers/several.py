"""`logger=[csv,tensorboard]`: several at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.loggers.base import Logger, LoggerOption
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.config import Config


class Many(Logger):
    """Tells each of them."""

    def __init__(self, loggers: list[Logger]) -> None:
        self.loggers = loggers

    def resume(self, rows: int, events: int) -> None:
        for logger in self.loggers:
            logger.resume(rows, events)

    def metrics(self, row: dict[str, Any]) -> None:
        for logger in self.loggers:
            logger.metrics(row)

    def growth(self, event: dict[str, Any]) -> None:
        for logger in self.loggers:
            logger.growth(event)

    def summary(self, summary: dict[str, Any]) -> None:
        for logger in self.loggers:
            logger.summary(summary)

    def close(self) -> None:
        for logger in self.loggers:
            logger.close()


@option("logger", "several")
@dataclass
class Several(LoggerOption):
    """Made of `logger=[NAME,NAME]`; the keys of each are below its name (logger.of.wandb.project)."""

    of: dict[str, Any] = key(make=dict)
    """Name → logger."""

    @property
    def _parts(self) -> list[LoggerOption]:
        for name, part in self.of.items():
            if not isinstance(part, LoggerOption):
                raise UserError(f"logger.of.{name}={part} is not a logger: write logger=[csv,{name}] to add one")
        return list(self.of.values())

    def check_run(self, config: Config) -> list[str]:
        return [sentence for part in self._parts for sentence in part.check_run(config)]

    def build(self, run_folder: Path) -> Logger:
        return Many([part.build(run_folder) for part in self._parts])
