"""Checkpoints: the whole state of a run in one file, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import grow_cli
from grow_cli.data.identity import check_plain
from grow_cli.errors import UserError
from grow_cli.files import is_there, make_anew, make_folder, open_to_read, sync, write_atomically
from grow_cli.models.base import rebuild
from grow_cli.moment import Progress
from grow_cli.records.reading import Damaged, Fields, damaged, reading
from grow_cli.surgery.undo import Undo

if TYPE_CHECKING:
    from torch.optim import Optimizer

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
    make_folder(folder)
    state = _net(session) | {"step": session.progress.step}
    write_atomically(folder / f"before-{event}.pt", lambda temporary: torch.save(state, temporary))


def restore(state: dict[str, Any], session: Session, gathered: Gathered) -> None:
    """The inverse of `capture`, on a session whose model was rebuilt from the checkpoint's architecture.

    Damaged where a part's state is not what that part writes.
    """
    state = state if isinstance(state, Fields) else Fields(Path("last.pt"), state)
    with reading(state.path):
        session.model.load_state_dict(state["model"])
        session.measured = state["measured"]
        undo = state.get("undo")  # absent in older checkpoints
        session.undo = None if undo is None else Undo.from_state(undo)
        parts = _parts(session, gathered)
        streams = parts.pop("streams")
        for name, part in parts.items():
            _check_kinds(part.state_dict(), state[name], name)
            part.load_state_dict(state[name])
        if session.history is not None:
            session.history.watch(dict(session.method.frontier(session.model).named_parameters()))
            _check_kinds(session.history.state_dict(), state["history"], "history")
            session.history.load_state_dict(state["history"])
        _check_moments(session.optimizer)
        deepcopy(gathered).read()
        streams.load_state_dict(state["streams"])


def _check_kinds(mine: Any, theirs: Any, name: str) -> None:
    """TypeError where a saved value is of another kind than the one that stands there now, however deep."""
    if mine is None:  # it can become anything
        return
    number, found = isinstance(mine, int | float), isinstance(theirs, int | float)
    if number != found or not (number or isinstance(theirs, type(mine))):
        raise TypeError(f"{name} is a {type(theirs).__name__} and not a {type(mine).__name__}")
    if isinstance(mine, dict):
        for key in mine.keys() & theirs.keys():
            _check_kinds(mine[key], theirs[key], f"{name}.{key}")


# what torch's and our own optimizers remember of each number of a parameter
_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "direction")


def _check_moments(optimizer: Optimizer) -> None:
    for parameter, state in optimizer.state.items():
        for name in _MOMENTS:
            if state.get(name) is not None and state[name].shape != parameter.shape:
                raise ValueError(
                    f"optimizer: {name} of the shape {tuple(state[name].shape)} for {tuple(parameter.shape)}"
                )
    for group in optimizer.param_groups:
        _check_kinds(optimizer.defaults, group, "optimizer")


def save(folder: Path, state: dict[str, Any], *, best: bool) -> None:
    """`last.pt`, and `best.pt` as a second name of the same file."""
    make_folder(folder)
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
                make_anew(second)
                shutil.copyfile(temporary, second)
            os.replace(second, folder / "best.pt")

    try:
        write_atomically(last, write)
    except RuntimeError as error:  # torch's words for a disk that is full
        raise OSError(f"no checkpoint could be written: {error}") from error


def load(path: Path) -> Fields:
    """A checkpoint's state on the CPU, from which a run can continue; UserError or Damaged if it cannot."""
    state = read(path)
    for name in ("progress", "measured"):
        if not isinstance(state[name], dict):
            raise damaged(path, f"{name} is no dict")
    for name in ("step", "threads"):  # whoever goes on from it, or measures it, asks for these
        if name not in state["progress"]:
            raise damaged(path, f"its progress has no {name}")
    with reading(path):
        _check_kinds(Progress().state_dict(), state["progress"], "progress")
        if not all(isinstance(value, float | int) for value in state["measured"].values()):
            raise TypeError("measured holds what is no number")
    return state


def read(path: Path) -> Fields:
    """What a checkpoint holds, on the CPU: its net at least, whose weights fit its architecture.

    UserError if it is missing or of another format, Damaged if it is no checkpoint.
    """
    if not is_there(path):
        raise UserError(f"there is no checkpoint at {path}: name a run folder that `grow train` wrote")
    try:
        with open_to_read(path, path.parent.parent) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what is then refused anyway
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can run into anything
        other = {"best.pt": "last.pt", "last.pt": "best.pt"}.get(path.name)
        why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise Damaged(
            f"{path} is truncated or damaged ({why}): restore it from a copy"
            + (f", or from {other} beside it" if other else ", or remove it")
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else None
        raise UserError(
            f"{path} has checkpoint format {found} and this grow {grow_cli.__version__} reads format {FORMAT}: "
            "use the version of grow that wrote it (summary.json, `versions`)"
        )
    fields = Fields(path, state)
    _check_net(fields)
    return fields


def _fits(statistic: Any, shape: Sequence[int]) -> bool:
    """Whether it is one number for each channel or feature of inputs of this shape, or one for all of a text."""
    if not isinstance(statistic, torch.Tensor):
        return False
    own = (1, shape[0], *[1] * (len(shape) - 1))
    return tuple(statistic.shape) in (own, (1, 1)) and statistic.is_floating_point()


def _check_net(state: Fields) -> None:
    """Damaged where the net cannot be built, or its weights are another net's. Nothing as large as the net is made."""
    path, weights = state.path, state["model"]
    try:
        with reading(path), torch.device("meta"):
            net = rebuild(state["architecture"]).state_dict()
    except Damaged:
        raise
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(weights, dict) or weights.keys() != net.keys():
        raise damaged(path, "its weights are not those of its architecture")
    for name, tensor in net.items():
        if not isinstance(weights[name], torch.Tensor) or weights[name].shape != tensor.shape:
            raise damaged(path, f"{name} does not have the shape {tuple(tensor.shape)} of its architecture")
    inputs = state.get("inputs")
    with reading(path):
        if inputs is not None and not (
            all(_fits(inputs[name], state["architecture"]["input_shape"]) for name in ("mean", "std"))
            and isinstance(inputs["white"], int | float)
            and all(isinstance(name, str) for name in inputs["classes"])
            and isinstance(inputs.get("image"), dict | None)  # absent in older checkpoints
        ):
            raise TypeError("inputs are not what a dataset gives")
        if inputs is not None and inputs.get("table"):  # absent in older checkpoints
            from grow_cli.data import tables  # pandas

            tables.check_plain(inputs["table"])
        if state.get("data") is not None:  # absent in older checkpoints
            check_plain(state["data"])
