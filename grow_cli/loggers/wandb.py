"""`logger=wandb`: Weights & Biases."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grow_cli.keys import key
from grow_cli.loggers.base import Logger, Packaged, Remote, sweep_of
from grow_cli.registry import option


class WandB(Remote):
    """A run of Weights & Biases: rows as history, events in it as JSON, the summary as its summary."""

    name = "wandb"

    def __init__(self, option: WandBOption, run_folder: Path) -> None:
        import wandb

        super().__init__(run_folder / "wandb")
        if "id" not in self.sent:
            self.note(id=secrets.token_hex(4))
        self._run = wandb.init(
            project=option.project,
            entity=option.entity,
            group=option.group or sweep_of(self.folder),
            mode=option.mode,
            dir=str(run_folder),
            id=self.sent["id"],
            name=run_folder.name,
            resume="allow" if option.mode == "online" else None,  # offline, `wandb sync` joins parts of one id
            config=self.folder.config(),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def send(self, numbers: dict[str, float], step: int, **documents: dict[str, Any]) -> None:
        if "summary" in documents:
            self._run.summary.update(documents["summary"])
        else:
            texts = {f"{kind}/event": json.dumps(data) for kind, data in documents.items()}
            self._run.log(numbers | texts, step=step)

    def finish(self) -> None:
        self._run.finish(exit_code=0 if self.finished else 1)


@option("logger", "wandb")
@dataclass
class WandBOption(Packaged):
    """Needs the extra `wandb`."""

    project: str = "grow"
    """The project at W&B in which the run appears."""
    mode: str = key("offline", one_of=("offline", "online", "disabled"))
    """`offline` (files in the run folder, which `wandb sync` uploads), `online` (needs an account), or `disabled`."""
    entity: str | None = None
    """User or team; null: the account's default."""
    group: str | None = None
    """The run's group; null: its sweep, if it belongs to one."""

    def start(self, run_folder: Path) -> Logger:
        return WandB(self, run_folder)
