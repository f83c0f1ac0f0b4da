"""`grow resume`: go on with an interrupted run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from grow_cli import console, launched
from grow_cli.commands.overrides import config_of, existing, only
from grow_cli.commands.train import go_on, show
from grow_cli.config import Config
from grow_cli.errors import Interrupted, UserError
from grow_cli.records.folder import RunFolder
from grow_cli.schema import keys_with


def parser() -> console.Parser:
    """Of its arguments."""
    parser = console.Parser(
        prog="grow resume",
        description="Go on with an interrupted run, across growth events, as if it had not been interrupted.",
    )
    parser.add_run()
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="where things are, and what is shown")
    return parser


def main(arguments: list[str]) -> int:
    """Train to the end."""
    options = parser().parse(arguments)
    folder = existing(options.run)
    if folder.read_summary().get("status") == "finished":
        raise UserError(f"{folder.path} is finished: there is nothing to resume")
    allowed = [*keys_with("place", "data", "shown"), "evaluate.batch_size"]
    only(options.overrides, allowed, "a resumed run goes on as it was configured")
    config = config_of(folder, options.overrides)
    from grow_cli.training.ranks import joined, refuse_config

    refuse_config(config, launched.world())
    try:
        with joined() as ranks:
            if not ranks.first:
                return _follow(config, ranks)
            summary = go_on(config, folder, ranks=ranks)
    except (Interrupted, KeyboardInterrupt):
        console.err.print(f"interrupted: go on with `grow resume {folder.path}`")
        raise
    show(folder, summary)
    return 0


def _follow(config: Config, ranks: Any) -> int:
    """Train along with rank 0, whose folder is the run's: what this one writes is thrown away."""
    from grow_cli import run

    with tempfile.TemporaryDirectory(prefix="grow-rank-") as scratch:
        run.train(config, RunFolder(Path(scratch)), ranks=ranks)
    return 0
