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
from grow_cli.surgery.undo import Undo

if TYPE_CHECKING:
    from grow_cli.training.metrics import Gathered
    from grow_cli.training.session import Session

FORMAT = 1
"""Raised when what a checkpoint holds changes its meaning."""


def capture(session: Session, gathered: Gathered) -> dict[str, Any]:
    """Everything from which the run continues to the last bit: plain data and tensors."""
    return _net(session) | {
        "version": grow_cli.__version__,
        "inputs": session.data.inputs(),
        "data": session.data.identity,
        "measured": session.measured,
        "undo": None if session.undo is None else session.undo.state_dict(),
        "history": None if session.history is None else session.history.state_dict(),
        **{name: part.state_dict() for name, part in _parts(session, gathered).items()},
    }


def _net(session: Session) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "architecture": session.model.architecture(),
        "model": session.model.state_dict(),
    }


def _parts(session: Session, gathered: Gathered) -> dict[str, Any]:
    """Those with a state of their own, in the order in which it is given back: nothing may draw after the streams."""
    names = ("optimizer", "method", "trigger", "batches", "progress", "streams")
    return {"gathered": gathered} | {name: getattr(session, name) for name in names}


def save_net(folder: Path, session: Session, event: int) -> None:
    """The net alone, as it is before the event of this number: architecture, weights and step."""
    folder.mkdir(exist_ok=True)
    state = _net(session) | {"step": session.progress.step}
    write_atomically(folder / f"before-{event}.pt", lambda temporary: torch.save(state, temporary))


def restore(state: dict[str, Any], session: Session, gathered: Gathered) -> None:
    """The inverse of `capture`, on a session whose model was rebuilt from the checkpoint's architecture."""
    session.model.load_state_dict(state["model"])
    session.measured = state["measured"]
    undo = state.get("undo")  # absent in older checkpoints
    session.undo = None if undo is None else Undo.from_state(undo)
    parts = _parts(session, gathered)
    streams = parts.pop("streams")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    if session.history is not None:
        session.history.watch(dict(session.method.frontier(session.model).named_parameters()))
        session.history.load_state_dict(state["history"])
    streams.load_state_dict(state["streams"])


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
