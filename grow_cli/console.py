"""Where words for a person go: results to stdout, warnings and errors to stderr."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape

from grow_cli.errors import UserError


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would end the process, and a training with it


class _LastResort(_Console):
    """Words that cannot be written here can be written nowhere: they are lost, and nothing else is."""

    def print(self, *objects: Any, **options: Any) -> None:
        with contextlib.suppress(OSError):
            super().print(*objects, **options)


out = _Console(highlight=False)
err = _LastResort(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def whatever_happens_to_the_terminal() -> Iterator[None]:
    """What is done is done, though nobody can read of it: a closed pipe, a full disk behind `>`, a terminal that is gone."""
    with contextlib.suppress(OSError):
        yield


def warn(sentence: str) -> None:
    """A warning: the run goes on."""
    if out.quiet:  # another process of the run says it
        return
    err.print(f"[yellow]warning:[/yellow] {escape(sentence)}")


def error(sentence: str) -> None:
    """Why the command stops."""
    err.print(f"[red]error:[/red] {escape(sentence)}")


class Parser(argparse.ArgumentParser):
    """Of a command's arguments; a mistake is one sentence, as everywhere."""

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """The arguments, options and folders in any order."""
        run = next((a for a in self._actions if not a.option_strings and str(a.metavar).startswith("RUN")), None)
        asked = {"-h", "--help"} & set(arguments)
        if run is not None and not asked and all(word.startswith("-") for word in arguments):
            what, shape = (
                ("runs", "RUN...") if run.nargs == "+" and run.metavar == "RUN" else ("a run folder", run.metavar)
            )
            raise UserError(f"{self.prog} needs {what}: {self.prog} {shape}")
        return self.parse_intermixed_args(arguments)

    def add_run(self) -> None:
        """The run folder that a command is about."""
        self.add_argument("run", type=Path, metavar="RUN", help="a run folder")

    def add_best(self) -> None:
        """Which of its two checkpoints."""
        self.add_argument(
            "--best", action="store_true", help="the checkpoint with the best validation instead of the last"
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message} (`{self.prog} --help` says more)")


class OneOf:
    """The type of an option that takes one of some names; with `several`, a list of them with commas."""

    def __init__(self, option: str, choices: Iterable[str], *, several: bool = False) -> None:
        self.option, self.choices, self.several = option, list(choices), several

    def __call__(self, given: str) -> str:
        for name in given.split(",") if self.several else [given]:
            if name not in self.choices:
                raise UserError(
                    f"{self.option} {name}: must be {'among' if self.several else 'one of'} {', '.join(self.choices)}"
                )
        return given


def positive(option: str) -> Callable[[str], int]:
    """The type of an option that takes a whole number, 1 or more."""

    def read(given: str) -> int:
        if not (given.isascii() and given.isdigit() and 0 < int(given) < 2**31):
            raise UserError(f"{option} {given}: must be a whole number, 1 or more")
        return int(given)

    return read


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> None:
    """A table of which nothing is ever cut: where a line is wider than the terminal, its last cell has one of its own.

    Behind a pipe a row is one line, however long it is.

    :param right: headers of the columns of numbers
    """
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    own = out.is_terminal and sum(widths) + 2 * (len(widths) - 1) > out.width
    for number, row in enumerate((headers, *rows)):
        cells = [
            cell.rjust(width) if header in right else cell.ljust(width)
            for cell, width, header in zip(row, widths, headers, strict=True)
        ]
        line = "  ".join(cells[:-1] if own else cells).rstrip()
        out.print(line, style="bold" if not number else "", markup=False, soft_wrap=True)
        if own:
            out.print(f"  {row[-1]}", style="bold" if not number else "", markup=False, soft_wrap=True)


def columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A name and its value in each of several runs; where a row is wider than the terminal, each value has a line."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    if out.is_terminal and sum(widths) + 2 * (len(widths) - 1) > out.width:
        lines = [[name, *(f"  {h}  {value}" for h, value in zip(headers[1:], row, strict=True))] for name, *row in rows]
        text = [line for block in lines for line in block]
    else:
        text = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in (headers, *rows)]
    for line in text:
        out.print(line, markup=False, soft_wrap=True)


def page_name(output: Path) -> Path:
    """The same; UserError where it is no name of an HTML page."""
    if output.suffix not in (".html", ".htm"):
        raise UserError(f"{output}: the page's name ends in .html")
    return output
