"""Numbers and widths in words, for logs, terminals and pages."""

from __future__ import annotations

from collections.abc import Sequence

from grow_cli.words import are, counted, were

__all__ = ["are", "counted", "were", "widths_of", "widths_text"]


def fixed(value: float, digits: int) -> str:
    """`0.0123`, or `3.1e-09` where `digits` decimals would show only zeros."""
    return f"{value:.1e}" if 0 < abs(value) < 0.5 * 10**-digits else f"{value:.{digits}f}"


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
