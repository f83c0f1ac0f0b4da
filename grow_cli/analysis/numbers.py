"""Numbers of a comparison as text."""

from __future__ import annotations

import math


def short_number(number: float) -> str:
    """1234567 → 1.23M."""
    for power, letter in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 0.9995 * 10**power:
            return f"{number / 10**power:.3g}{letter}"
    return f"{number:.0f}"


def cost_text(kind: str, mean: float, spread: float) -> str:
    def text(number: float) -> str:
        return short_number(number) if kind == "FLOPs" else f"{number:,.{kind == 'seconds':d}f}"

    return " ± ".join(text(number) for number in (mean, spread) if not math.isnan(number)) or "–"


def p_text(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def interval_text(low: float, high: float, digits: int) -> str:
    return "–" if math.isnan(low) else f"{low:+.{digits}f} to {high:+.{digits}f}"
