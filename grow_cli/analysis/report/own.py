"""Charts of what a method logged about its growth; they depend only on the log, so a new method's is drawn as well."""

from __future__ import annotations

import base64
from html import escape
from itertools import zip_longest
from typing import Any

from grow_cli.analysis.report.charts import (
    COLOURS,
    DASHES,
    GREY,
    Chart,
    categories,
    layout,
    number,
    points,
    scale,
    stack,
    words,
)
from grow_cli.analysis.report.events import colour
from grow_cli.analysis.report.page import folded
from grow_cli.analysis.report.reading import RunData
from grow_cli.analysis.report.spectra import spectra_charts
from grow_cli.records.mistakes import Neuron, has_mistakes, read_mistakes
from grow_cli.records.reading import reading

_KINDS = {"width": ("a new unit", "circle"), "depth": ("a new layer", "square")}
_PICTURES = 60


def own_charts(run: RunData) -> list[Chart]:
    """Those for which the growth log has something."""
    with reading(run.folder.growth):  # what a method writes down, it alone knows
        charts = (*spectra_charts(run), _candidates(run), _mistakes(run), _phases(run))
        return [chart for chart in charts if chart is not None]


def _candidates(run: RunData) -> Chart | None:
    """How much the best new unit and layer would have raised the natural expansion score at each visit."""
    found_of: dict[str, list[tuple[Any, float, str]]] = {}
    hidden = 0
    for event in run.events:
        for entry in event.details.get("candidates") or []:
            ratio = entry.get("ratio")
            if ratio is None or ratio <= 0:
                hidden += 1
                continue
            told = "<br>".join(f"{words(key)} {words(number(value))}" for key, value in entry.items())
            text = f"<b>event {event.event}</b>, step {event.step:,}<br>{told}"
            found_of.setdefault(str(entry.get("kind")), []).append((event.step, ratio, text))
    if not found_of:
        return None
    data = []
    ratios: list[float | None] = [ratio for found in found_of.values() for _, ratio, _ in found]
    for i, (kind, found) in enumerate(found_of.items()):
        name, symbol = _KINDS.get(kind, (kind, "diamond"))
        data.append(points(words(name), found, {"color": COLOURS[i], "symbol": symbol, "size": 8}))
    tau = (run.config.get("method") or {}).get("tau")
    if isinstance(tau, int | float) and tau > 1:
        ends = [run.events[0].step, run.events[-1].step]
        style = {"color": GREY, "dash": DASHES[1]}
        name = f"threshold τ − 1 = {tau - 1:g}"
        data.append({"type": "scatter", "mode": "lines", "name": name, "x": ends, "y": [tau - 1] * 2, "line": style})
    shape = layout(340, xaxis={"title": "steps"}, yaxis={"title": "Δη′/η of a proposal", **scale(ratios)})
    note = f"{hidden} more are not shown: not positive, or without a score to compare with." if hidden else ""
    return Chart("candidates", "Natural expansion score of what could have been added", data, shape, note)


def _mistakes(run: RunData) -> Chart | None:
    """How many mistakes each event found, in which clusters."""
    found = [event for event in run.events if event.details.get("clusters")]
    if not found:
        return None
    names = [f"{event.event}<br>step {event.step:,}" for event in found]
    clusters = list(zip_longest(*(event.details["clusters"] for event in found)))
    data, shape = stack(
        names,
        [
            {
                "name": f"cluster {i}",
                "y": list(counts),
                "hovertemplate": f"cluster {i}: %{{y:,}} mistakes<extra></extra>",
            }
            for i, counts in enumerate(clusters, 1)
        ],
        showlegend=len(clusters) <= 10,
        xaxis=categories("growth event", names),
        yaxis={"title": "mistakes", "rangemode": "tozero"},
    )
    return Chart("mistakes", "Mistakes before each event, by cluster", data, shape, half=True)


def _phases(run: RunData) -> Chart | None:
    """Where the time of growing went."""
    spent = [(event, {p["phase"]: p["seconds"] for p in event.phases if p.get("seconds")}) for event in run.events]
    names = list(dict.fromkeys(name for _, phases in spent for name in phases))
    if not names:
        return None
    alone = len(names) == 1  # then colours tell which events added something
    data, shape = stack(
        [str(event.event) for event, _ in spent],
        [
            {
                "name": words(name),
                "y": [phases.get(name) for _, phases in spent],
                "marker": {"color": [colour(event) for event, _ in spent] if alone else COLOURS[i % len(COLOURS)]},
                "hovertemplate": f"event %{{x}}<br>{words(name)}: %{{y:.3g}} s<extra></extra>",
            }
            for i, name in enumerate(names)
        ],
        xaxis={"title": "event", "type": "category"},
        yaxis={"title": "seconds", "rangemode": "tozero"},
        showlegend=not alone,
    )
    note = "Grey: nothing was added." if alone and any(not event.units_added for event, _ in spent) else ""
    return Chart("phases", "Seconds of growing", data, shape, note, half=True)


def state_of(neuron: Neuron) -> tuple[str, str]:
    """The look and the words of what became of the mistake that a neuron was grown for."""
    if neuron.row["rolled_back"] == "1":
        return "back", "taken back"
    known = {"1": ("right", "corrected"), "0": ("wrong", "still wrong")}
    return known.get(str(neuron.row["right_at_end"]), ("", "not known yet"))


def picture_of(png: bytes, alt: str) -> tuple[str, str]:
    """The HTML of a picture that is part of the page, and its figure's class: `wide` for a chart, nothing for an image.

    :param alt: HTML
    """
    wide = "wide" if int.from_bytes(png[16:20], "big") > 300 else ""  # its width in pixels
    return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{alt}">', wide


def own_html(run: RunData) -> str:
    """The mistakes that neurons were grown for, as a gallery; empty where there are none."""
    if not has_mistakes(run.folder):
        return ""
    neurons = read_mistakes(run.folder)
    shown = [neuron for neuron in neurons if neuron.png is not None][:_PICTURES]
    cards = []
    for neuron in shown:
        row = {key: escape(str(value)) for key, value in neuron.row.items()}
        picture, wide = picture_of(neuron.png or b"", f"the mistake of neuron {row['neuron']}")
        kind, state = state_of(neuron)
        cards.append(
            f'<figure class="{wide}">{picture}<p>neuron {row["neuron"]}, event {row["event"]}</p>'
            f"<p><b>{row['predicted']} → {row['true']}</b> <span class='{kind}'>{state}</span></p></figure>"
        )
    if not cards:
        return ""
    more = f" (the first {len(cards)} of {len(neurons)})" if len(cards) < len(neurons) else ""
    legend = '<p class="note">Predicted → true, before the neuron came. `grow explain` has the whole page.</p>'
    title = f"The mistakes that neurons were grown for{more}"
    return folded(title, f'{legend}<div class="gallery">{"".join(cards)}</div>', opened=True)
