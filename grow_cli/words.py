"""Counts in words, for every part of the package."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int | float, word: str, several: str = "") -> str:
    """`1 unit`, `2 units`, `1,234 steps`; `several` where that is not the word with an s."""
    return f"{number:,} {word if number == 1 else several or word + 's'}"


def listed(names: Sequence[str], most: int = 20) -> str:
    """`a, b, c`, or the first of them `and 3 more`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def were(number: int | float) -> str:
    """The verb that follows a number of things."""
    return "was" if number == 1 else "were"


def are(number: int | float) -> str:
    """The verb that follows a number of things."""
    return "is" if number == 1 else "are"
