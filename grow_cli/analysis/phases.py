"""The nets at the ends of a run's phases: just before each growth event, and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from grow_cli.analysis.figures import short
from grow_cli.console import warn
from grow_cli.data.identity import Trained
from grow_cli.data.tensors import Data, load_data
from grow_cli.errors import UserError
from grow_cli.files import is_there
from grow_cli.models.base import restored
from grow_cli.records.events import growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.records.reading import reading, whole
from grow_cli.records.words import counted, widths_text
from grow_cli.training import checkpoint

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.models.modules.network import GrowableModel

T = TypeVar("T")


@dataclass(frozen=True)
class Phase:
    """A net as it was when a phase of training ended."""

    step: int
    model: GrowableModel
    """In evaluation mode, on the CPU."""
    trained: Trained
    """What its checkpoint says of its data; in checkpoints from which a run continues."""

    @property
    def title(self) -> str:
        """Its step and its widths."""
        widths = widths_text(self.model.widths())
        return f"step {self.step:,}, " + (f"widths {short(widths)}" if widths else "no hidden layer")


def load_phases(folder: RunFolder) -> list[Phase]:
    """Every phase's net whose checkpoint was kept, in order, and the last net; a warning if some were not kept."""
    grown = [event.event for event in growth_events(folder) if event.units_added]
    kept = [path for path in (folder.checkpoints / f"before-{n}.pt" for n in grown) if is_there(path)]
    if len(kept) < len(grown):
        warn(
            f"{folder.path} kept {len(kept)} of the {counted(len(grown), 'net')} from before its growth events, and only "
            "those can be drawn: train with checkpoint.events=true to keep all"
        )
    return [*(load_phase(path) for path in kept), load_last(folder)]


def load_last(folder: RunFolder) -> Phase:
    """The last net, read first to see whether a picture fits the run; UserError without one."""
    last = folder.checkpoints / "last.pt"
    if not is_there(last):
        raise UserError(f"there is no checkpoint at {last}: wait until the run has written one, or name another run")
    return load_phase(last)


def checkpoint_of(folder: RunFolder, which: str) -> Path:
    """The file of a run's `last` or `best` checkpoint; UserError where there is none."""
    file = folder.checkpoints / f"{which}.pt"
    if not is_there(file):
        raise UserError(
            f"there is no checkpoint at {file}: "
            + ("leave --best out for the last one" if which == "best" else "wait for the run's first")
        )
    return file


def data_of(config: Config, phase: Phase) -> Data:
    """The data that a phase's net was trained on, on the CPU, as it takes them; UserError where they are others now."""
    cpu = torch.device("cpu")
    return load_data(
        config.dataset,
        data_dir=config.data_folder,
        subset=config.subset,
        device=cpu,
        trained=phase.trained,
        seed=config.seed,
        dtype=next(phase.model.parameters()).dtype,
    )


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most `most` (2 or more) of them, the first and the last kept."""
    gaps = len(items) - 1
    if gaps < most:
        return list(items)
    return [items[i * gaps // (most - 1)] for i in range(most)]


def load_phase(path: Path) -> Phase:
    """The net of one checkpoint; UserError where it is damaged."""
    state = checkpoint.read(path)
    with reading(path):
        step = state["step"] if "step" in state else state["progress"]["step"]
        if not whole(step):
            raise TypeError("its step is no number")
    model = restored(state["architecture"], state["model"])
    return Phase(step, model.eval(), Trained.of(state))
