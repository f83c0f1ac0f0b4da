"""Reading the files of a run folder, for every command: always as data, whatever is in their place.

A folder may come from anywhere. Damage raises `Damaged`, with the file, the line and the remedy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grow_cli.errors import UserError, first_line
from grow_cli.files import read_bytes
from grow_cli.records import plain_yaml

# bytes: far above what any run writes, far below what would fill a machine's memory
_TABLE, _DATA, _PICTURE = 2**30, 2**25, 2**25
LARGEST = 1e100
"""No number of a run comes near it, and its square is finite."""
_PNG = b"\x89PNG\r\n\x1a\n"


class Damaged(UserError):
    """A file of a run folder is not what grow writes."""


def damaged(path: Path, what: str, *, line: int | None = None) -> Damaged:
    """The error, to be raised."""
    place = "" if line is None else f"line {line}: "
    return Damaged(f"{path} is damaged ({place}{what}): restore it from a copy")


class Fields(dict[str, Any]):
    """What a file holds. A missing field is Damaged; `get` where a run may lack one."""

    def __init__(self, path: Path, found: dict[str, Any]) -> None:
        super().__init__(found)
        self.path = path

    def __missing__(self, name: str) -> Any:
        raise damaged(self.path, f"it has no {name}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Damaged for whatever data of an unexpected shape run into: for what only one method or option knows the shape of."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise damaged(path, f"{type(error).__name__}: {first_line(error)}") from error


def text(path: Path, root: Path, most: int = _TABLE) -> str:
    """A text file; Damaged where it is a link, no file, too large, or no UTF-8."""
    try:
        return read_bytes(path, most, root).decode("utf-8")
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise damaged(path, "it is no UTF-8", line=line) from error


def lines(path: Path, root: Path) -> tuple[list[str], bool]:
    """The whole lines of a text file, and whether an incomplete one follows: a kill leaves the last as far as it came."""
    *whole, rest = text(path, root).replace("\r\n", "\n").split("\n")
    return whole, bool(rest)


def yaml_data(path: Path, root: Path) -> Any:
    """A YAML file as plain data, of which nothing is resolved."""
    try:
        return plain_yaml.load(text(path, root, _DATA))
    except ValueError as error:
        raise damaged(path, first_line(error)) from error


def json_data(path: Path, root: Path) -> Any:
    """A JSON file."""
    try:
        return parsed(text(path, root, _DATA))
    except ValueError as error:
        raise damaged(path, first_line(error)) from error


def parsed(content: str) -> Any:
    """JSON whose numbers are finite; ValueError otherwise."""
    try:
        found = json.loads(content, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_numbers(found, "")
    return found


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _check_numbers(value: Any, name: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_numbers(inner, key)
    elif isinstance(value, list):
        for inner in value:
            _check_numbers(inner, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        limit = LARGEST if isinstance(value, float) else 2**63
        if not -limit < value < limit:
            raise ValueError(f"{name} is {float(value):g}" if abs(value) < 2**1000 else f"{name} is too large a number")


def png(path: Path, root: Path) -> bytes:
    """A picture; Damaged where it is something else."""
    try:
        content = read_bytes(path, _PICTURE, root)
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error
    if not content.startswith(_PNG):
        raise damaged(path, "it is no PNG")
    return content


def number(value: Any) -> bool:
    """Whether it is a number, and a finite one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def whole(value: Any) -> bool:
    """Whether it is a whole number, 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def widths(value: Any) -> bool:
    """Whether it is text as `words.widths_text` writes it."""
    return isinstance(value, str) and (
        not value or all(w.isascii() and w.isdigit() and len(w) < 10 for w in value.split("-"))
    )


def check_fields(
    path: Path, found: dict[str, Any], kinds: dict[str, tuple[Callable[[Any], bool], str]], *, line: int | None = None
) -> None:
    """Damaged for the first field that is there, is not null, and is not of its kind (a test, and what it must be)."""
    for name, (holds, what) in kinds.items():
        value = found.get(name)
        if value is not None and not holds(value):
            raise damaged(path, f"{name} is {_short(value)} and must be {what}", line=line)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:40] + "…"


def of_type(*types: type) -> Callable[[Any], bool]:
    """A test of a field's type."""
    return lambda value: isinstance(value, types)


TEXT = (of_type(str), "text")
NUMBER = (number, "a finite number")
WHOLE = (whole, "a whole number")
WIDTHS = (widths, "widths like 64-64")
OBJECT = (of_type(dict), "an object")
