"""Checkpoints: the whole state of a run in one file, written at once or not at all."""

from __future__ import annotations

import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import grow_cli
from grow_cli.errors import UserError
from grow_cli.files import sync, write_atomically
from grow_cli.training.rollback import Undo

if TYPE_CHECKING:
    from grow_cli.methods.base import Method
    from grow_cli.training.gathering import Gathered
    from grow_cli.training.state import Run
    from grow_cli.triggers.base import Trigger

FORMAT = 1
"""Raised when what a checkpoint holds changes its meaning."""


def capture(run: Run, method: Method, trigger: Trigger, gathered: Gathered) -> dict[str, Any]:
    """Everything from which the run continues to the last bit: plain data and tensors."""
    return {
        "format": FORMAT,
        "version": grow_cli.__version__,
        "architecture": run.model.architecture(),
        "model": run.model.state_dict(),
        "inputs": run.data.inputs(),
        "optimizer": run.optimizer.state_dict(),
        "method": method.state_dict(),
        "trigger": trigger.state_dict(),
        "batches": run.batches.state_dict(),
        "streams": run.streams.state_dict(),
        "gathered": gathered.state_dict(),
        "progress": run.progress.state_dict(),
        "measured": run.measured,
        "undo": None if run.undo is None else run.undo.state_dict(),
        "history": None if run.history is None else run.history.state_dict(),
    }


def save_net(folder: Path, run: Run, event: int) -> None:
    """The net alone, as it is before the event of this number: architecture, weights and step."""
    folder.mkdir(exist_ok=True)
    state = {
        "format": FORMAT,
        "architecture": run.model.architecture(),
        "model": run.model.state_dict(),
        "step": run.progress.step,
    }
    write_atomically(folder / f"before-{event}.pt", lambda temporary: torch.save(state, temporary))


def restore(state: dict[str, Any], run: Run, method: Method, trigger: Trigger, gathered: Gathered) -> None:
    """The inverse of `capture`, on a run whose model was rebuilt from the checkpoint's architecture."""
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    method.load_state_dict(state["method"])
    trigger.load_state_dict(state["trigger"])
    run.batches.load_state_dict(state["batches"])
    gathered.load_state_dict(state["gathered"])
    run.progress.load_state_dict(state["progress"])
    run.measured = state["measured"]
    undo = state.get("undo")  # absent in older checkpoints
    run.undo = None if undo is None else Undo.from_state(undo)
    if run.history is not None:
        run.history.watch(dict(method.frontier(run.model).named_parameters()))
        run.history.load_state_dict(state["history"])
    run.streams.load_state_dict(state["streams"])  # last: nothing may draw after it


def save(folder: Path, state: dict[str, Any], *, best: bool) -> None:
    """`last.pt`, and `best.pt` as a second name of the same file."""
    folder.mkdir(exist_ok=True)
    last = folder / "last.pt"

    def write(temporary: Path) -> None:
        torch.save(state, temporary)
        if best:  # best.pt first: a kill in between leaves it newer than last.pt, never older
            sync(temporary)
            second = folder / f".best.{os.getpid()}.tmp"
            second.unlink(missing_ok=True)
            try:
                os.link(temporary, second)
            except OSError:  # a file system without hard links
                shutil.copyfile(temporary, second)
            os.replace(second, folder / "best.pt")

    try:
        write_atomically(last, write)
    except RuntimeError as error:  # torch's words for a disk that is full
        raise OSError(f"no checkpoint could be written: {error}") from error


def load(path: Path) -> dict[str, Any]:
    """A checkpoint's state on the CPU; UserError if it is missing, damaged or of another format."""
    if not path.is_file():
        raise UserError(f"there is no checkpoint at {path}: is this a run folder of `grow train`?")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what is then refused anyway
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        other = path.with_name("last.pt" if path.name == "best.pt" else "best.pt")
        raise UserError(
            f"{path} is cut short or damaged ({type(error).__name__}): restore it from a copy, or from {other.name} "
            "beside it"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else None
        raise UserError(
            f"{path} has checkpoint format {found} and this grow {grow_cli.__version__} reads format {FORMAT}: "
            "use the version of grow that wrote it (summary.json, `versions`)"
        )
    return state
