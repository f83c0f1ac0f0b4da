"""Output for people: results go to stdout, warnings and errors to stderr."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import os
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.markup import escape

from grow_cli.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


# What grow prints beside ASCII, and how it is spelt where the terminal has ASCII only.
_ASCII = {
    "→": "->", "×": "x", "…": "...", "–": "-", "—": "-", "−": "-", "·": "-", "±": "+-", "≤": "<=", "≥": ">=", "≈": "~",
    "Δ": "d", "δ": "delta", "√": "sqrt", "█": "#", "‖": "||",
}  # fmt: skip
_SPELT = str.maketrans(_ASCII)


def _spelt_or_marked(error: UnicodeError) -> tuple[str, int]:
    """Replaces characters that a stream's encoding lacks by ASCII, or by ?."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII.get(c, "?") for c in error.object[error.start : error.end]), error.end


codecs.register_error("grow.spelt", _spelt_or_marked)


def spell_out(stream: Any) -> None:
    """Make a stream write `->` for → if its encoding lacks it, whoever prints."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="grow.spelt")


def _c_locale() -> bool:
    """Whether the user asked for the C locale: Python writes UTF-8 there, which its terminals need not show."""
    if os.environ.get("PYTHONIOENCODING") or os.environ.get("PYTHONUTF8"):
        return False
    asked = [os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)]
    return asked[:1] in (["C"], ["POSIX"])


class _Console(Console):
    """Replaces characters that the encoding lacks before the layout is measured."""

    @property
    def encoding(self) -> str:
        """rich draws its boxes and bars with - and | where it is ASCII."""
        found = super().encoding
        try:
            "".join(_ASCII).encode(found)
        except (UnicodeEncodeError, LookupError):
            return "ascii"
        return "ascii" if _c_locale() else found

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(spelt(text, self), **options)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would end the process, and a training with it


class _LastResort(_Console):
    """Words that cannot be written here can be written nowhere: they are lost, and nothing else is."""

    def print(self, *objects: Any, **options: Any) -> None:
        with contextlib.suppress(OSError):
            super().print(*objects, **options)


out = _Console(highlight=False)
err = _LastResort(stderr=True, highlight=False, soft_wrap=True)


def spelt(text: str, terminal: Console | None = None) -> str:
    """The same as a terminal (stdout's, where none is given) can show it."""
    return text.translate(_SPELT) if (terminal or out).encoding == "ascii" else text


@contextlib.contextmanager
def whatever_happens_to_the_terminal() -> Iterator[None]:
    """What is done is done, though nobody can read of it: a closed pipe, a full disk behind `>`, a terminal that is gone."""
    with contextlib.suppress(OSError):
        yield


def broken(text: str, terminal: Console, indent: str = "") -> str:
    """Prose in lines as wide as the terminal, broken between words: a path stays whole, to be copied. Elsewhere as it is.

    :param indent: what the lines after the first begin with
    """
    if not terminal.is_terminal:
        return text
    how: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": indent}
    return "\n".join("\n".join(textwrap.wrap(line, terminal.width, **how)) for line in text.split("\n"))


def say(text: str, style: str = "") -> None:
    """Prose, to stdout; brackets in it are no markup."""
    out.print(broken(text, out), style=style, markup=False, soft_wrap=True)


def line(text: str) -> None:
    """To stdout as it is, however long: a command can be copied from it."""
    out.print(text, markup=False, soft_wrap=True)


def warn(sentence: str) -> None:
    """Print a warning; the run continues."""
    if out.quiet:  # another process of the run says it
        return
    _tell("warning:", "yellow", sentence)


def note(sentence: str) -> None:
    """What was chosen for the user, beside the results."""
    err.print(escape(sentence))


def error(sentence: str) -> None:
    """Why the command stops."""
    _tell("error:", "red", sentence)


def _tell(word: str, colour: str, sentence: str) -> None:
    told = broken(f"{word} {sentence}", err).removeprefix(word)
    err.print(f"[{colour}]{word}[/{colour}]{escape(told)}")


def uncut(table: Table) -> None:
    """Print a rich table without cutting anything: a word wider than its column continues on the next line."""
    for column in table.columns:
        column.overflow = "fold"
    out.print(table)


class Parser(argparse.ArgumentParser):
    """Parses a command's arguments; a mistake is one sentence, as everywhere."""

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
        """Which of its two checkpoints: `options.which`."""
        about = "the checkpoint with the best validation instead of the last"
        self.add_argument("--best", dest="which", action="store_const", const="best", default="last", help=about)

    def add_overrides(self, about: str | None) -> None:
        """KEY=VALUE words."""
        self.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=about)

    def add_output(self, metavar: str | None, about: str) -> None:
        """Where to write."""
        self.add_argument("-o", "--output", type=Path, metavar=metavar, help=about)

    def add_jobs(self, about: str, **how: Any) -> None:
        """How many to train side by side."""
        self.add_argument("-j", "--jobs", metavar="N", help=about, **how)

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


def table(headers: Sequence[str], rows: Sequence[Sequence[str] | str], right: Collection[str] = ()) -> None:
    """Print a table without cutting anything: if it is wider than the terminal, each row's last cells get their own line.

    In a pipe a row is one line, however long. A row that is a string is printed between the others unchanged.

    :param right: headers of the columns of numbers
    """
    full = [row for row in (headers, *rows) if not isinstance(row, str)]
    widths = [max(len(spelt(row[i])) for row in full) for i in range(len(headers))]
    kept = _fitting(widths, out.width) if out.is_terminal else len(widths)
    for number, row in enumerate((headers, *rows)):
        if isinstance(row, str):
            say(row, "dim")
            continue
        cells = [
            cell.rjust(width) if header in right else cell.ljust(width)
            for cell, width, header in zip(map(spelt, row), widths, headers, strict=True)
        ]
        for line in ("  ".join(cells[:kept]).rstrip(), broken("  ".join(["", *map(spelt, row[kept:])]), out, "  ")):
            if line.strip():
                out.print(line, style="bold" if not number else "", markup=False, soft_wrap=True)


def _fitting(widths: Sequence[int], room: int) -> int:
    """How many columns, two apart, fit side by side; at least one."""
    return max(1, *(n for n in range(len(widths) + 1) if sum(widths[:n]) + 2 * (n - 1) <= room))


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
        raise UserError(f"{output}: a page's name must end in .html")
    return output
