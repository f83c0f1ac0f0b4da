"""The page around the charts: one file, no network, on a screen, a phone and paper."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from grow_cli.analysis.report.charts import Chart
from grow_cli.analysis.report.reading import COLUMNS
from grow_cli.records.flat import plain

if TYPE_CHECKING:
    import pandas as pd

    from grow_cli.analysis.comparison import Comparison


@dataclass
class Page:
    """A title and what stands below it, top to bottom."""

    title: str
    facts: str
    """A line below the title, as text."""
    parts: list[str] = field(default_factory=list)
    """HTML."""
    charts: dict[str, Chart] = field(default_factory=dict)

    def add(self, html: str) -> None:
        """Append HTML that is safe already."""
        self.parts.append(html)

    def heading(self, text: str) -> None:
        self.add(f"<h2>{escape(text)}</h2>")

    def note(self, text: str) -> None:
        self.add(f'<p class="note">{escape(text)}</p>')

    def draw(self, charts: Sequence[Chart]) -> None:
        """Append charts; those that are `half` stand beside each other."""
        figures = []
        for chart in charts:
            self.charts[chart.name] = chart
            note = f'<p class="note">{escape(chart.note)}</p>' if chart.note else ""
            figures.append(
                f'<figure class="{"half" if chart.half else "full"}"><figcaption>{escape(chart.title)}</figcaption>'
                f'<div class="chart" id="{chart.name}" style="height:{chart.layout["height"]}px"></div>{note}</figure>'
            )
        if figures:
            self.add('<div class="charts">\n' + "\n".join(figures) + "\n</div>")

    def compare(self, comparison: Comparison) -> None:
        """Its tables and notes."""
        self.add(_frame_table(comparison.table))
        self.add("<h3>Best validation score so far, averaged over the cost</h3>" + _frame_table(comparison.anytime))
        for caution in comparison.cautions:
            self.note(f"Careful: {caution}")
        if len(comparison.tests):
            self.add("<h3>Tests</h3>" + _frame_table(comparison.tests))
        for note in comparison.notes:
            self.note(note)

    def axis_buttons(self) -> None:
        """What all curves below are drawn against."""
        buttons = "".join(
            f'<button type="button" data-axis="{key}" aria-pressed="{str(key == "step").lower()}">{escape(name)}</button>'
            for key, name in COLUMNS.items()
        )
        self.add(f'<nav class="axes" aria-label="Horizontal axis"><span>against</span>{buttons}</nav>')

    def html(self) -> str:
        """The whole file."""
        from plotly.offline import get_plotlyjs

        # no `<`: nothing in the data can end the script
        data = json.dumps(plain({name: chart.json for name, chart in self.charts.items()}), allow_nan=False)
        script = f"const CHARTS = {data.replace('<', chr(92) + 'u003c')};\n{_SCRIPT}"
        library = f"<script>{get_plotlyjs()}</script>\n<script>\n{script}</script>\n" if self.charts else ""
        return _PAGE.format(
            title=escape(self.title),
            facts=escape(self.facts),
            style=_STYLE,
            body="\n".join(self.parts),
            library=library,
        )


def _frame_table(frame: pd.DataFrame) -> str:
    """A frame of text."""
    return table([str(name) for name in frame.columns], [[str(cell) for cell in row] for row in frame.to_numpy()])


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = (), safe: Sequence[int] = ()
) -> str:
    """A table that scrolls by itself on a phone.

    :param text: columns that are read from the left, other than numbers
    :param safe: columns whose cells are HTML
    """

    def cell(tag: str, i: int, content: str) -> str:
        side = ' class="text"' if i in text else ""
        return f"<{tag}{side}>{content}</{tag}>"

    head = "".join(cell("th", i, escape(name)) for i, name in enumerate(columns))
    body = "\n".join(
        "<tr>" + "".join(cell("td", i, value if i in safe else escape(value)) for i, value in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def pairs(facts: Sequence[tuple[str, str]]) -> str:
    """Names and values, as many beside each other as fit."""
    return (
        '<dl class="facts">'
        + "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
        + "</dl>"
    )


def folded(title: str, html: str, *, opened: bool = False) -> str:
    """What a reader may want to open."""
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{html}</details>"


_STYLE = """
:root { color-scheme: light; --line: #d5d9de; --soft: #57606a; }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1f24; background: white; margin: 2rem auto; max-width: 72rem;
  padding: 0 1rem; }
h1 { font-size: 1.45rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem;
  overflow-wrap: anywhere; break-after: avoid; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
.where, .note { color: var(--soft); font-size: .87rem; margin: .35rem 0; overflow-wrap: anywhere; }
dl.facts { display: grid; gap: .5rem 1.2rem; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); margin: 1rem 0; }
dl.facts dt { color: var(--soft); font-size: .8rem; }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; }
th:first-child, td:first-child, th.text, td.text { text-align: left; }
td.text { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
.path { white-space: nowrap; }
tr { break-inside: avoid; }
nav.axes { position: sticky; top: 0; z-index: 5; background: white; padding: .5rem 0; display: flex; flex-wrap: wrap;
  gap: .35rem; align-items: center; }
nav.axes span { color: var(--soft); font-size: .87rem; }
nav.axes button { font: inherit; font-size: .87rem; color: inherit; background: white; border: 1px solid var(--line);
  border-radius: 1rem; padding: .2rem .75rem; cursor: pointer; }
nav.axes button[aria-pressed="true"] { background: #1b1f24; color: white; border-color: #1b1f24; }
.charts { display: grid; gap: 1rem; grid-template-columns: 1fr 1fr; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figure.full { grid-column: 1 / -1; }
figcaption { font-weight: 600; font-size: .93rem; margin: .5rem 0 .1rem; overflow-wrap: anywhere; }
.chart { width: 100%; }
details { margin: .8rem 0; }
summary { cursor: pointer; font-weight: 600; }
pre { background: #f6f8fa; padding: .8rem; overflow-x: auto; font-size: .8rem; }
.gallery { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); margin: .8rem 0; }
.gallery figure { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem; font-size: .83rem; }
.gallery figure.wide { grid-column: span 2; }
.gallery img { display: block; margin: 0 auto .4rem; max-width: 100%; image-rendering: pixelated; }
.gallery figure.wide img { image-rendering: auto; }
.gallery p { margin: .1rem 0; }
@media (hover: none), (max-width: 44rem) { .modebar { display: none !important; } }
@media (max-width: 44rem) { body { margin: 1rem auto; padding: 0 .75rem; } .charts { grid-template-columns: 1fr; } }
@media print {
  body { margin: 0; max-width: none; font-size: 11px; }
  nav.axes, .modebar { display: none !important; }
  .charts { display: block; }
  .scroll, pre { overflow: visible; }
  pre { white-space: pre-wrap; }
  td, th, .path { white-space: normal; }
  td, th, td.text { padding: .15rem .4rem; min-width: 0; }
}
"""

_SCRIPT = """
"use strict";
const CONFIG = {responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]]};
const drawn = Object.keys(CHARTS).map(id => Plotly.newPlot(id, CHARTS[id].data, CHARTS[id].layout, CONFIG));

function show(axis) {
  for (const [id, chart] of Object.entries(CHARTS)) {
    const at = chart.axes[axis];
    if (!at) continue;
    const data = at.y ? {x: at.x, y: at.y} : {x: at.x};
    const layout = {"xaxis.title.text": at.title, "xaxis.autorange": true};
    (at.lines || []).forEach((x, i) => { layout[`shapes[${i}].x0`] = x; layout[`shapes[${i}].x1`] = x; });
    Plotly.update(id, data, layout);
  }
  for (const button of document.querySelectorAll("nav.axes button"))
    button.setAttribute("aria-pressed", String(button.dataset.axis === axis));
}
for (const button of document.querySelectorAll("nav.axes button"))
  button.addEventListener("click", () => show(button.dataset.axis));

// paper is narrower than the screen, and the drawings have a width in pixels
window.addEventListener("beforeprint", () => {
  for (const id of Object.keys(CHARTS)) Plotly.relayout(id, {width: 680, autosize: false});
});
window.addEventListener("afterprint", () => {
  for (const id of Object.keys(CHARTS)) Plotly.relayout(id, {width: null, autosize: true});
});
Promise.all(drawn).then(() => document.documentElement.setAttribute("data-drawn", String(drawn.length)));
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="where">{facts}</p>
<noscript><p class="note">The charts need JavaScript; the tables do not.</p></noscript>
{body}
{library}</body>
</html>
"""
