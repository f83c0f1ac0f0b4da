"""`grow resume`: continue an interrupted run, or a finished one to a higher limit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from grow_cli import console, launched
from grow_cli.commands import extending
from grow_cli.commands.overrides import config_of, existing, only
from grow_cli.commands.train import go_on, show
from grow_cli.config import Config
from grow_cli.errors import Interrupted, UserError
from grow_cli.records.folder import RunFolder
from grow_cli.schema import keys_with

if TYPE_CHECKING:
    from grow_cli.training.ranks import Ranks


def parser() -> console.Parser:
    """The command's arguments."""
    parser = console.Parser(
        prog="grow resume",
        description="Continue an interrupted run, across growth events, as if it had not been interrupted. A higher "
        "limit (stop.epochs=200) also extends a finished run, whose former summary is kept as summary-1.json.",
        epilog="example: grow resume latest stop.epochs=200",
    )
    parser.add_run()
    parser.add_overrides("stop.* (a higher limit), and keys for paths, devices and display")
    return parser


def to_go_on(folder: RunFolder, overrides: list[str]) -> tuple[Config, list[str]]:
    """The config with which a run continues, and the overrides that move a limit; UserError if it cannot."""
    allowed = [*keys_with("place", "data", "shown"), "evaluate.batch_size", "dataset.storage", "stop"]
    only(overrides, allowed, "a resumed run keeps its configuration")
    moved = extending.limits(overrides)
    summary = folder.read_summary()
    if summary.get("status") == "finished" and not moved:
        raise UserError(
            f"{folder.path} is finished: there is nothing to resume; to extend it, give a higher limit: `grow resume "
            f"{folder.path} stop.epochs=N`"
        )
    config = config_of(folder, overrides)
    if moved:
        extending.check(folder, config, summary)
    return config, moved


def main(arguments: list[str]) -> int:
    """Train to the end."""
    options = parser().parse(arguments)
    folder = existing(options.run)
    config, moved = to_go_on(folder, options.overrides)
    from grow_cli.training.ranks import joined  # torch: not before the config is known to be good

    try:
        with joined(config) as ranks:  # all have read the folder, before the first writes into it
            if not ranks.first:
                go_along(config, ranks)
                return 0
            summary = go_on(config, folder, moved, ranks=ranks)
    except (Interrupted, KeyboardInterrupt):
        if not launched.rank():
            console.err.print(f"interrupted: continue with `grow resume {folder.path}`")
        raise
    show(folder, summary)
    return 0


def go_along(config: Config, ranks: Ranks) -> None:
    """Train a run that rank 0 goes on with; what this process writes is thrown away."""
    from grow_cli import run

    with tempfile.TemporaryDirectory(prefix="grow-rank-") as scratch:
        run.train(config, RunFolder(Path(scratch)), ranks=ranks)
