"""Where words for a person go: results to stdout, warnings and errors to stderr."""

from __future__ import annotations

import argparse
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from grow_cli.errors import UserError


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would end the process, and a training with it


out = _Console(highlight=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def warn(sentence: str) -> None:
    """A warning: the run goes on."""
    err.print(f"[yellow]warning:[/yellow] {escape(sentence)}")


def error(sentence: str) -> None:
    """Why the command stops."""
    err.print(f"[red]error:[/red] {escape(sentence)}")


class Parser(argparse.ArgumentParser):
    """Of a command's arguments; a mistake is one sentence, as everywhere."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message} (`{self.prog} --help` says more)")
