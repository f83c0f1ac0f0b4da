"""The look of ways: a colour and a marker for each method, a dash and an open marker for each control; and their legend."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from grow_cli.analysis.report.charts import COLOURS, Chart, Key

if TYPE_CHECKING:
    from grow_cli.analysis.ways import Way

_SHAPES = {
    "circle": "M5 0A5 5 0 1 1-5 0A5 5 0 1 1 5 0Z",
    "square": "M-4.5-4.5H4.5V4.5H-4.5Z",
    "diamond": "M0-6L6 0L0 6L-6 0Z",
    "triangle-up": "M0-5.5L5.5 4.5H-5.5Z",
    "triangle-down": "M0 5.5L5.5-4.5H-5.5Z",
    "pentagon": "M0-5.5L5.2-1.7L3.2 4.5H-3.2L-5.2-1.7Z",
    "cross": "M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
    "triangle-left": "M-5.5 0L4.5-5.5V5.5Z",
    "star": "M0-6L1.8-1.9L6-1.6L2.8 1.2L3.7 5.4L0 3.2L-3.7 5.4L-2.8 1.2L-6-1.6L-1.8-1.9Z",
    "triangle-right": "M5.5 0L-4.5-5.5V5.5Z",
    "x": "M-5-3L-3-5L0-2L3-5L5-3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0Z",
    "hourglass": "M-5-5H5L-5 5H5Z",
}
"""plotly's name of a marker → its outline, about 0."""
SYMBOLS = tuple(_SHAPES)
CONTROL_DASHES = ("6px,3px", "2px,2px", "8px,2px,2px,2px", "11px,4px", "11px,3px,2px,3px,2px,3px", "4px,5px")


def keys_of(ways: Sequence[Way]) -> list[Key]:
    """A key per way, in order: of one source the colour; a control has its kind's dash and open marker."""
    sources = list(dict.fromkeys(way.source for way in ways))
    kinds = list(dict.fromkeys(way.control for way in ways if way.control))
    keys = []
    for number, way in enumerate(ways):
        place, control = sources.index(way.source), way.control
        colour = COLOURS[place % len(COLOURS)]
        if control is None:  # beyond twelve the colours come again with other markers
            dash, symbol = "solid", SYMBOLS[(place + place // len(COLOURS)) % len(SYMBOLS)]
        else:
            kind = kinds.index(control)
            dash, symbol = CONTROL_DASHES[kind % len(CONTROL_DASHES)], f"{SYMBOLS[kind % len(SYMBOLS)]}-open"
        keys.append(Key(way.label, colour, dash, symbol, number))
    return keys


def legend(chart: Chart) -> str:
    """Its keys as buttons that show a curve's band; empty without keys."""
    buttons = (
        f'<button type="button" aria-pressed="false" data-chart="{chart.name}" data-curve="{key.curve}">'
        f"{_swatch(key)}<span>{escape(key.name)}</span></button>"
        for key in chart.keys
    )
    return f'<div class="keys">{"".join(buttons)}</div>' if chart.keys else ""


def _swatch(key: Key) -> str:
    """A piece of the curve with its marker."""
    shape = key.symbol.removesuffix("-open")
    filled = "var(--paper)" if key.symbol.endswith("-open") else key.colour
    dash = "" if key.dash == "solid" else f' stroke-dasharray="{key.dash.replace("px", "")}"'
    return (
        f'<svg width="36" height="14" viewBox="-18 -7 36 14" aria-hidden="true"><path d="M-18 0H18" fill="none" '
        f'stroke="{key.colour}" stroke-width="2"{dash}/><path d="{_SHAPES[shape]}" style="fill: {filled}" '
        f'stroke="{key.colour}" stroke-width="1.3"/></svg>'
    )
