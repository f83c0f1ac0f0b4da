"""The page around the charts: one file, no network, on a screen, a phone and paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from grow_cli.analysis.in_words import in_words
from grow_cli.analysis.report.charts import Chart
from grow_cli.analysis.report.keys import legend
from grow_cli.analysis.report.look import document
from grow_cli.analysis.report.reading import COLUMNS
from grow_cli.analysis.report.script import scripts
from grow_cli.records.flat import plain

if TYPE_CHECKING:
    import pandas as pd

    from grow_cli.analysis.comparison import Comparison


@dataclass
class Page:
    """A title and the parts below it, top to bottom."""

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
        """Append charts; `half` ones are placed side by side."""
        figures = []
        for chart in charts:
            self.charts[chart.name] = chart
            note = f'<p class="note">{escape(chart.note)}</p>' if chart.note else ""
            figures.append(
                f'<figure class="{"half" if chart.half else "full"}"><figcaption>{escape(chart.title)}</figcaption>'
                f"{legend(chart)}"
                f'<div class="chart" id="{chart.name}" style="height:{chart.layout["height"]}px"></div>{note}</figure>'
            )
        if figures:
            self.add('<div class="charts">\n' + "\n".join(figures) + "\n</div>")

    def compare(self, comparison: Comparison) -> None:
        """The verdict in words, then its tables and notes."""
        self.verdict(in_words(comparison))
        self.add(_frame_table(comparison.table))
        self.add("<h3>Best validation score so far, averaged over the cost</h3>" + _frame_table(comparison.anytime))
        for caution in comparison.cautions:
            self.note(f"Careful: {caution}")
        if len(comparison.tests):
            self.add("<h3>Tests</h3>" + _frame_table(comparison.tests))
        for note in comparison.notes:
            self.note(note)

    def verdict(self, sentences: Sequence[str]) -> None:
        """Sentences that answer the reader's first question, the first of them above the others."""
        if sentences:
            first, *others = map(escape, sentences)
            told = f"<ul>{''.join(f'<li>{sentence}</li>' for sentence in others)}</ul>" if others else ""
            self.add(f'<div class="verdict"><p>{first}</p>{told}</div>')

    def axis_buttons(self) -> None:
        """What all curves below are drawn against."""
        buttons = "".join(
            f'<button type="button" data-axis="{key}" aria-pressed="{str(key == "step").lower()}">{escape(name)}</button>'
            for key, name in COLUMNS.items()
        )
        self.add(f'<nav class="axes" aria-label="Horizontal axis"><span>against</span>{buttons}</nav>')

    def html(self) -> str:
        """The whole file."""
        charts = plain({name: chart.json for name, chart in self.charts.items()})
        missing = '<noscript><p class="note">The charts need JavaScript; the tables do not.</p></noscript>'
        body = "\n".join([missing, *self.parts])
        return document(self.title, self.facts, body, scripts=scripts(charts) if charts else "")


def _frame_table(frame: pd.DataFrame) -> str:
    """A frame of text."""
    return table([str(name) for name in frame.columns], [[str(cell) for cell in row] for row in frame.to_numpy()])


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = (), safe: Sequence[int] = ()
) -> str:
    """A table that scrolls on its own on a phone.

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
