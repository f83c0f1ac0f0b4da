"""Runs from Python: train, resume, load, compare, by the same functions as the commands, without printing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from grow_cli import console
from grow_cli.api.guard import composing, interruptible, silent, undisturbed
from grow_cli.api.overrides import typed
from grow_cli.commands import resume as resuming
from grow_cli.commands.composition import composed, refuse_two_folders, take_hydra
from grow_cli.commands.hydra_errors import explained
from grow_cli.commands.mistyped import refuse_mistyped
from grow_cli.commands.overrides import existing
from grow_cli.commands.train import begin, checked, go_on
from grow_cli.config import Config
from grow_cli.errors import UserError
from grow_cli.files import expanded
from grow_cli.records.folder import RunFolder

if TYPE_CHECKING:
    from torch import nn

    from grow_cli.analysis.comparison import Comparison
    from grow_cli.api.results import Run
    from grow_cli.models.modules.traced import Template


def train(overrides: str | Iterable[str] = (), /, **keys: Any) -> Run:
    """Train as `grow train OVERRIDES...` does, into a run folder, and return the run.

        grow.train(["method=tiny", "dataset=digits", "stop.epochs=3"])
        grow.train(method="tiny", dataset="digits", stop={"epochs": 3})

    UserError for a mistake, TrainingFailed where training failed by itself. Ctrl-C raises KeyboardInterrupt between two
    steps, and `resume` continues from there.
    """
    words = typed(overrides, keys)
    with composing():
        raw, folder, hydra_section = prepared(words)
        config = checked(raw)
    return trained(config, folder, {"config": raw, "hydra": hydra_section, "overrides": words})


def prepared(words: list[str], *, dataset: str | None = None) -> tuple[DictConfig, RunFolder, DictConfig]:
    """The composed config of KEY=VALUE words, the folder that its run is to have, and Hydra's own section.

    :param dataset: what the data are called, where it is not the option's name
    """
    refuse_mistyped(words)
    refuse_two_folders(words)
    with explained(words):
        raw = composed(words, with_hydra=True)
        if dataset is not None:
            raw.dataset.name = dataset
        folder = RunFolder(Path(raw.hydra.run.dir))
    return raw, folder, take_hydra(raw)


def trained(
    config: Config,
    folder: RunFolder,
    files: dict[str, Any],
    *,
    template: Template | None = None,
    resume: bool = False,
    again: str = "",
) -> Run:
    """Train a checked config in a new folder, or continue an interrupted run in its folder.

    :param template: builds its net, if that is not an option of the configuration
    :param again: how to continue it after an interruption, if not by `grow.resume`
    """
    from grow_cli.api.results import Run

    if config.progress == "auto" and not console.out.is_terminal:  # a program's output is its own
        config = replace(config, progress="off")
    with undisturbed(), interruptible(folder.path, again):
        if resume:
            go_on(config, folder)
        else:
            begin(config, folder, files)
    return Run(folder, template=template)


def resume(run: Run | str | os.PathLike[str], *overrides: str) -> Run:
    """Go on with an interrupted run, as `grow resume` does."""
    folder = folder_of(run)
    with composing(), undisturbed(), interruptible(folder.path), silent():
        resuming.main([str(folder.path), *overrides])
    return load(folder.path)


def load(run: str | os.PathLike[str], *, best: bool = False, module: nn.Module | None = None) -> Run:
    """The run in a folder; its net is that of the last checkpoint, or of the best validation.

    :param module: of a run of `grow.fit`: a module like the one that was given there
    """
    from grow_cli.api.results import Run

    found = Run(folder_of(run), "best" if best else "last")
    if module is not None:
        found.made_of(module)
    return found


def compare(
    runs: Iterable[Run | str | os.PathLike[str]],
    *,
    split: str = "test",
    against: str | None = None,
    to: float | None = None,
    equal_within: float | None = None,
    until_decided: bool = False,
) -> list[Comparison]:
    """The results of `grow compare`, one comparison per dataset; the arguments are its options.

    Each has DataFrames: `table` (a row per way), `tests` (a row per pair), `anytime` and `reaching` as the command shows
    them, and `numbers`, the unrounded ones. `notes` and `cautions` are printed with them.
    """
    from grow_cli.analysis import comparison
    from grow_cli.analysis.runs import read_records

    if split not in ("test", "val"):
        raise UserError(f"split={split!r}: must be 'test' or 'val'")
    given = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    records = read_records([path_of(run) for run in given])
    return comparison.compare(
        records, split=split, against=against, to=to, equal_within=equal_within, until_decided=until_decided
    )


def path_of(run: Run | str | os.PathLike[str]) -> Path:
    """A run's folder, or a folder of runs."""
    return expanded(os.fspath(run)) if isinstance(run, str | os.PathLike) else run.folder


def folder_of(run: Run | str | os.PathLike[str]) -> RunFolder:
    """The folder of an existing run; UserError that names others if there is none."""
    return existing(path_of(run))
