"""`logger=tensorboard`. No torch at the top."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grow_cli.loggers.base import Logger, Packaged, Remote, numbers
from grow_cli.registry import option


class TensorBoard(Remote):
    """Scalars against steps; config, growth events and summary as text."""

    name = "tensorboard"

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        super().__init__(folder)
        self._writer = SummaryWriter(str(folder))
        if "config" not in self.sent:
            self._text("config", config, 0)
            self.note(config=True)

    def _text(self, name: str, data: dict[str, Any], step: int) -> None:
        self._writer.add_text(name, f"```json\n{json.dumps(data, indent=1)}\n```", step)
        self._writer.flush()

    def _scalars(self, named: dict[str, float], step: int) -> None:
        for name, value in named.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a kill loses nothing that `sent.json` says was sent

    def send_row(self, numbers: dict[str, float], step: int) -> None:
        self._scalars(numbers, step)

    def send_event(self, event: dict[str, Any], step: int) -> None:
        self._scalars({"growth/units_added": event["units_added"]}, step)
        self._text("growth", event, step)

    def send_summary(self, summary: dict[str, Any], step: int) -> None:
        self._scalars({f"final/{name}": value for name, value in numbers(summary).items()}, step)
        self._text("summary", summary, step)

    def finish(self) -> None:
        self._writer.close()


@option("logger", "tensorboard")
@dataclass
class TensorBoardOption(Packaged):
    """Needs the extra `tensorboard`."""

    def start(self, run_folder: Path) -> Logger:
        from grow_cli.records.folder import RunFolder

        return TensorBoard(run_folder / "tensorboard", RunFolder(run_folder).config())
