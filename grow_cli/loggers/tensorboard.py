"""`logger=tensorboard`. No torch at the top."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grow_cli.loggers.base import Logger, Packaged, Remote
from grow_cli.registry import option


class TensorBoard(Remote):
    """Scalars against steps; config, growth events and summary as text."""

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import FileWriter

        super().__init__(folder)
        self._folder = str(folder)
        self._writer = FileWriter(self._folder)
        if "config" not in self.sent:
            self.send({}, 0, config=self.folder.config())
            self.note(config=True)

    def send(self, numbers: dict[str, float], step: int, **documents: dict[str, Any]) -> None:
        """As one record, of which a kill leaves all or nothing; it is there when `sent.json` says that it was sent."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from torch.utils.tensorboard.summary import scalar, text

        made = [scalar(name, value) for name, value in numbers.items()]
        made += [text(name, f"```json\n{json.dumps(data, indent=1)}\n```") for name, data in documents.items()]
        self._writer.add_summary(Summary(value=[value for one in made for value in one.value]), step)
        self._writer.flush()

    def held(self, name: str) -> int:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

        # all of them, and not a sample; by default what a resumed run repeats would hide what it went on from
        read = EventAccumulator(self._folder, size_guidance={SCALARS: 0}, purge_orphaned_data=False).Reload()
        return len(read.Scalars(name)) if name in read.Tags()[SCALARS] else 0

    def finish(self) -> None:
        self._writer.close()


@option("logger", "tensorboard")
@dataclass
class TensorBoardOption(Packaged):
    """Needs the extra `tensorboard`."""

    def start(self, run_folder: Path) -> Logger:
        return TensorBoard(run_folder / "tensorboard")
