"""`logger=csv`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grow_cli.loggers.base import Logger, LoggerOption
from grow_cli.registry import option


@option("logger", "csv")
@dataclass
class Csv(LoggerOption):
    """metrics.csv and growth.jsonl, which every run writes anyway."""

    def build(self, run_folder: Path) -> Logger:
        return Logger()
