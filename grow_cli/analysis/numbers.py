"""Numbers as text, the same in tables, pages and pictures: 1,200 · 12.3 G · 39.7 s · 97.13 %."""

from __future__ import annotations

import math

from grow_cli.tasks import Task


def short_number(number: float) -> str:
    """1234567 → 1.23 M; below 10,000 whole: 1,202."""
    if number < 9999.5:
        return f"{number:,.0f}"
    for power, letter in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 0.9995 * 10**power:
            scaled = number / 10**power
            return f"{scaled:,.0f} {letter}" if scaled >= 999.5 else f"{scaled:.3g} {letter}"
    raise AssertionError(number)


def seconds_text(seconds: float) -> str:
    """39.7 s; from a hundred on whole: 1,200 s; below a tenth two digits: 0.012 s."""
    if seconds >= 99.95:
        return f"{seconds:,.0f} s"
    return f"{seconds:.1f} s" if seconds >= 0.0995 or seconds == 0 else f"{seconds:.2g} s"


def score_text(task: Task, score: float | None) -> str:
    """97.13 %, or 0.9713 if the task's score is not a share; – without a score."""
    if score is None or not math.isfinite(score):
        return "–"
    return f"{100 * score:.2f} %" if task.percent else f"{score:.4f}"


def cost_text(kind: str, *numbers: float) -> str:
    """A cost, `never` if it is infinite, or a mean and its spread; – where there is neither."""

    def text(number: float) -> str:
        if math.isinf(number):
            return "never"
        return short_number(number) if kind == "FLOPs" else f"{number:,.{kind == 'seconds':d}f}"

    return " ± ".join(text(number) for number in numbers if not math.isnan(number)) or "–"


def p_text(value: float, corrected: float) -> str:
    """`0.012 (0.024)`."""
    raw, after = ("–" if math.isnan(p) else f"{p:.3f}" if p >= 0.001 else f"{p:.0e}" for p in (value, corrected))
    return f"{raw} ({after})"


def interval_text(low: float, high: float, digits: int) -> str:
    return "–" if math.isnan(low) else f"{low:+.{digits}f} to {high:+.{digits}f}"
