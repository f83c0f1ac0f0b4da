"""Charts as plain data for plotly.js: the traces, and their positions on each selectable axis."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from grow_cli.analysis.report.look import SERIES

COLOURS = SERIES
DASHES = ["solid", "dash", "dot", "dashdot"]
# of whichever paper the page is on
INK, GREY, PAPER = "var(--ink)", "var(--soft)", "var(--paper)"
GREEN, RED = "var(--right)", "var(--wrong)"


@dataclass(frozen=True)
class Key:
    """How a curve looks, beside its name."""

    name: str
    colour: str
    dash: str
    symbol: str
    curve: int
    """Its trace's number: its band, if it has one, is the next."""


@dataclass
class Chart:
    """One chart of a page."""

    name: str
    """Its id in the page."""
    title: str
    data: list[dict[str, Any]]
    """Traces; where there are several axes, without their places."""
    layout: dict[str, Any]
    note: str = ""
    """A sentence below it, as text."""
    axes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Axis → `title`, `x` and perhaps `y` (a list for each trace), and `lines` (places of the vertical lines)."""
    keys: list[Key] = field(default_factory=list)
    """A legend above it that wraps; without any, plotly draws its own inside."""
    half: bool = False
    """Whether two fit beside each other on a wide screen."""

    def __post_init__(self) -> None:
        """Traces stand on the axis that is shown first, where there are several."""
        shown = self.axes.get("step", {})
        for coordinate in [name for name in ("x", "y") if name in shown]:
            for trace, places in zip(self.data, shown[coordinate], strict=True):
                trace[coordinate] = places

    @property
    def json(self) -> dict[str, Any]:
        """What the page's script reads."""
        return {"data": self.data, "layout": self.layout, "axes": self.axes}


def layout(height: int, **changes: Any) -> dict[str, Any]:
    """The look that all charts share; `xaxis`, `yaxis`, ... are merged into it."""
    shared: dict[str, Any] = {
        "height": height,
        "autosize": True,
        "margin": {"l": 56, "r": 14, "t": 14, "b": 46},
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "colorway": list(COLOURS),
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": PAPER, "font": {"size": 12, "color": INK}},
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1,
            "yanchor": "bottom",
            "font": {"size": 11},
            "traceorder": "normal",
        },
        "dragmode": False,
    }
    for key, value in changes.items():
        shared[key] = _axis(value) if key[1:].startswith("axis") else value
    return shared


def _axis(changes: dict[str, Any]) -> dict[str, Any]:
    title = changes.get("title", "")
    axis = {
        "gridcolor": "var(--grid)",
        "zeroline": False,
        "linecolor": GREY,
        "tickcolor": GREY,
        "automargin": True,
        "exponentformat": "SI",
    }
    return axis | changes | {"title": {"text": title, "standoff": 8}}


def line(name: str, y: Sequence[Any], **changes: Any) -> dict[str, Any]:
    """A curve; one of few points shows them."""
    mode = "lines+markers" if sum(value is not None for value in y) < 40 else "lines"
    return {"type": "scatter", "mode": mode, "name": name, "y": list(y), "marker": {"size": 4}} | changes


def stack(
    names: Sequence[Any], parts: Sequence[dict[str, Any]], **shape: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Bars on top of each other, and their layout: of each part its `name`, its `y`, a value for each name, and what else is its
    own; a part has a colour of its own unless it brings one."""
    data = []
    for i, part in enumerate(parts):
        colour = {"color": COLOURS[i % len(COLOURS)], "line": {"color": PAPER, "width": 1}}
        data.append({"type": "bar", "x": list(names), "marker": colour} | part)
    gap = min(0.8, max(0.15, 1 - len(names) / 6))  # few bars stay narrow
    return data, layout(300, barmode="stack", bargap=gap, **shape)


def vertical(places: Sequence[float], colours: Sequence[str]) -> list[dict[str, Any]]:
    """Lines over the whole height."""
    return [
        {
            "type": "line",
            "xref": "x",
            "yref": "paper",
            "x0": x,
            "x1": x,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"color": colour, "width": 1, "dash": "dot"},
        }
        for x, colour in zip(places, colours, strict=True)
    ]


def scale(values: Sequence[float | None], *, decades: float = 1.0) -> dict[str, Any]:
    """A logarithmic axis where all values are positive and span at least `decades` powers of ten."""
    known = [v for v in values if v is not None]
    if not known or min(known) <= 0 or (span := math.log10(max(known) / min(known))) < decades:
        return {"type": "linear"}
    step = "D2" if span < 2.5 else 1 if span < 8 else None  # by itself plotly labels every digit
    exponents = "none" if span < 4 else "power"
    return {"type": "log", "dtick": step, "minorloglabels": "complete", "exponentformat": exponents}


def categories(title: str, names: Sequence[Any]) -> dict[str, Any]:
    """An axis of names in their order, whichever trace has which; upright where they are many and long."""
    level = len(set(names)) <= 6 or max(len(str(name)) for name in names) <= 5
    order = {"categoryorder": "array", "categoryarray": list(dict.fromkeys(names))}
    return {"title": title, "type": "category", "tickangle": 0 if level else -90} | order


def words(text: Any) -> str:
    """Text from a file, safe in a chart: plotly reads a few tags, and only some entities."""
    return escape(str(text), quote=False)


def wrapped(text: str, length: int) -> str:
    """Escaped, in lines of about this many characters."""
    return "<br>".join(map(words, textwrap.wrap(text, length, break_long_words=False, break_on_hyphens=False)))


def number(value: Any, form: str = ".4g") -> str:
    """A number for a reader; – where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:{form}}"


def points(name: str, found: list[tuple[Any, float, str]], marker: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A trace of points, each with its own hover text."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [x for x, _, _ in found],
        "y": [y for _, y, _ in found],
        "text": [text for _, _, text in found],
        "hovertemplate": "%{text}<br>%{y:.4g}<extra></extra>",
        "marker": marker,
    } | changes
