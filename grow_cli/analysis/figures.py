"""Shared by all pictures and pages: figures that need no window, and files that are written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from grow_cli.errors import UserError
from grow_cli.files import write_atomically
from grow_cli.records.pictures import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")


def empty(width: float, height: float) -> Figure:
    """A figure of this size in inches, which needs no window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, output: Path) -> Path:
    """Write the figure and return its path; UserError where it cannot be written."""
    return _filled(output, lambda temporary: render(figure, temporary, output.suffix[1:], 130))


def save_page(page: str, output: Path) -> Path:
    """The same of an HTML page."""
    return _filled(output, lambda temporary: temporary.write_text(page, encoding="utf-8"))


def _filled(output: Path, write: Callable[[Path], object]) -> Path:
    try:
        write_atomically(output, write)
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror}): choose another place with -o FILE") from error
    return output


def short(widths: str) -> str:
    """Hidden widths joined by `-` as they fit a title: `9-8-…-5 (7 layers)`."""
    each = widths.split("-")
    return widths if len(each) <= 4 else f"{each[0]}-{each[1]}-…-{each[-1]} ({len(each)} layers)"
