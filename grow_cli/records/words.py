"""Numbers and widths in words, for logs, terminals and pages."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int | float, word: str) -> str:
    """`1 unit`, `2 units`, `1,234 steps`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def widths_text(widths: Sequence[int]) -> str:
    """The hidden widths in order, joined by `-`."""
    return "-".join(map(str, widths))


def widths_of(text: str) -> list[int]:
    """The inverse of `widths_text`."""
    return [int(width) for width in text.split("-")] if text else []
