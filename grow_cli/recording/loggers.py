"""Loggers beside the run folder's own files; `csv` adds none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grow_cli.registry import Option, option


class Logger:
    """Is told every row of metrics.csv and every event of growth.jsonl."""

    def metrics(self, row: dict[str, float | int | str]) -> None:
        """A row of metrics.csv."""

    def growth(self, event: dict[str, object]) -> None:
        """A line of growth.jsonl."""

    def close(self) -> None:
        """Flush and release."""


@dataclass
class LoggerOption(Option):
    """Base of every logger's schema."""

    def build(self, run_folder: Path) -> Logger:
        """The logger of one run."""
        raise NotImplementedError


@option("logger", "csv")
@dataclass
class CsvOption(LoggerOption):
    """metrics.csv and growth.jsonl, which every run writes."""

    def build(self, run_folder: Path) -> Logger:
        return Logger()


class TensorBoard(Logger):
    """Scalars against steps; growth events as text."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def metrics(self, row: dict[str, float | int | str]) -> None:
        for name, value in row.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, int(row["step"]))

    def growth(self, event: dict[str, object]) -> None:
        self._writer.add_text("growth", f"{event['kind']} at {event['site']}", int(str(event["step"])))

    def close(self) -> None:
        self._writer.close()


@option("logger", "tensorboard")
@dataclass
class TensorBoardOption(LoggerOption):
    """Needs the extra `tensorboard`."""

    def build(self, run_folder: Path) -> Logger:
        from importlib.util import find_spec

        from grow_cli.errors import UserError

        if find_spec("tensorboard") is None:
            raise UserError(
                "logger=tensorboard needs a package that is not installed: pip install 'grow-cli[tensorboard]'"
            )
        return TensorBoard(run_folder / "tensorboard")
