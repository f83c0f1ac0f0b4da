"""Numbers and widths in words, for logs, terminals and pages."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int | float, word: str, several: str = "") -> str:
    """`1 unit`, `2 units`, `1,234 steps`; `several` where that is not the word with an s."""
    return f"{number:,} {word if number == 1 else several or word + 's'}"


def were(number: int | float) -> str:
    """The verb that follows a number of things."""
    return "was" if number == 1 else "were"


def are(number: int | float) -> str:
    """The verb that follows a number of things."""
    return "is" if number == 1 else "are"


def lasting(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for most, unit, length in ((100, "s", 1), (6000, "min", 60), (172800, "h", 3600)):
        if seconds < most:
            return f"{seconds / length:.{int(length > 60)}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def widths_text(widths: Sequence[int]) -> str:
    """The hidden widths in order, joined by `-`."""
    return "-".join(map(str, widths))


def widths_of(text: str) -> list[int]:
    """The inverse of `widths_text`."""
    return [int(width) for width in text.split("-")] if text else []
