"""Numbers and widths in words, for logs, terminals and pages."""

from __future__ import annotations

from collections.abc import Sequence

from grow_cli.words import are, counted, were

__all__ = ["are", "counted", "were", "widths_of", "widths_text"]


def widths_text(widths: Sequence[int]) -> str:
    """The hidden widths in order, joined by `-`."""
    return "-".join(map(str, widths))


def widths_of(text: str) -> list[int]:
    """The inverse of `widths_text`."""
    return [int(width) for width in text.split("-")] if text else []
