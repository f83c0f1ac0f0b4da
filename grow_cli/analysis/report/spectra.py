"""Spectra and coefficients: the numbers from which a method made new units or blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

from grow_cli.analysis.report.charts import (
    COLOURS,
    GREY,
    Chart,
    categories,
    layout,
    number,
    points,
    scale,
    words,
)
from grow_cli.analysis.report.reading import RunData, having
from grow_cli.records.events import GrowthEvent

_COEFFICIENTS = {"beta": "β, velocity", "gamma": "γ, acceleration", "eta": "η, escape"}


class _Spectrum(NamedTuple):
    """One of an event."""

    event: GrowthEvent
    of: str
    """The site or tensor."""
    values: Any
    taken: Any
    """How many of the first values were used."""
    threshold: Any = None


def spectra_charts(run: RunData) -> list[Chart | None]:
    """The spectra of sites for width growth; the modes, coefficients and signal of tensors for an extrapolation."""
    return [
        *(_spectra(run, key) for key in ("eigenvalues", "singular_values")),
        _modes(run),
        _coefficients(run),
        _signal(run),
    ]


class _Tensor(NamedTuple):
    """One that was extrapolated."""

    event: GrowthEvent
    name: str
    """With the block that it was made of where the event made several."""
    of: dict[str, Any]
    """What the log says of it."""
    noisy: bool
    """Whether a fallback took its place."""


def _tensors(run: RunData) -> Iterator[_Tensor]:
    for event in run.events:
        entries = list(having(event.details, "tensors"))
        for entry in entries:
            tensors = entry["tensors"] if isinstance(entry["tensors"], dict) else {}
            source = f"{entry.get('source', '')} " if len(entries) > 1 else ""
            for name, of in tensors.items():
                yield _Tensor(event, source + name, of, name in entry.get("noisy", ()))


def _spectra(run: RunData, key: str) -> Chart | None:
    """The spectrum from which each event took its units: what was taken, what was left, what chance explains."""
    found = [
        _Spectrum(event, str(entry.get("site", "")), entry[key], entry["units"], entry.get("threshold"))
        for event in run.events
        for entry in having(event.details, key)
        if entry.get("units") is not None
    ]
    word = key.replace("_", " ")
    return _drawn(f"spectra-{key}", f"Spectra: the {word} of each event", found, "added as units", word)


def _modes(run: RunData) -> Chart | None:
    """How the motion of each tensor spreads over modes, and which of them span the subspace of the extrapolation."""
    found = [_Spectrum(event, name, of.get("singular_values"), of.get("rank")) for event, name, of, _ in _tensors(run)]
    title = "Modes of each tensor's path: singular values of its velocities"
    return _drawn("spectra-modes", title, found, "in the subspace", "singular value")


def _drawn(name: str, title: str, found: list[_Spectrum], used: str, word: str) -> Chart | None:
    taken: list[tuple[str, float, str]] = []
    left: list[tuple[str, float, str]] = []
    thresholds: list[tuple[str, float, str]] = []
    places = []
    for event, of, spectrum, count, threshold in found:
        if count is None or not isinstance(spectrum, list):
            continue
        place = f"{event.event}" + (f"<br>{words(of)}" if of else "")
        places.append(place)
        for rank, value in enumerate(spectrum):
            if value is not None and value > 0:
                told = f"{words(of)}: number {rank + 1} of {len(spectrum)}"
                (taken if rank < count else left).append((place, value, told))
        if threshold:
            thresholds.append((place, threshold, "threshold"))
    if not taken and not left:
        return None
    data = [
        points(used, taken, {"color": COLOURS[0], "size": 8}),
        points("left", left, {"color": GREY, "size": 5}),
        points("threshold", thresholds, {"color": COLOURS[1], "symbol": "line-ew-open", "size": 22}),
    ]
    values = [value for _, value, _ in (*taken, *left, *thresholds)]
    shape = layout(340, xaxis=categories("event", places), yaxis={"title": word, **scale(values)})
    return Chart(name, title, [trace for trace in data if trace["x"]], shape)


def _coefficients(run: RunData) -> Chart | None:
    """How far each tensor was extrapolated along its trajectory."""
    placed_of: dict[str, list[tuple[str, float, str]]] = {name: [] for name in _COEFFICIENTS}
    for event, tensor, of, _ in _tensors(run):
        for name in _COEFFICIENTS:
            if of.get(name) is not None:
                placed_of[name].append((f"event {event.event}", of[name], _told(tensor, of)))
    if not any(placed_of.values()):
        return None
    names = list(dict.fromkeys(x for found in placed_of.values() for x, _, _ in found))
    data = []
    for i, (coefficient, found) in enumerate(placed_of.items()):
        colour_of = {"color": COLOURS[i], "size": 6}
        placed = [(x + (i - 1) * 0.27, y, text) for x, (y, text) in _side_by_side(names, found)]
        data.append(points(_COEFFICIENTS[coefficient], placed, colour_of, hovertemplate="%{text}<extra></extra>"))
        middles = [(names.index(x) + (i - 1) * 0.27, median(y for at, y, _ in found if at == x)) for x in names]
        bar = {"color": COLOURS[i], "symbol": "line-ew-open", "size": 26, "line": {"width": 2}}
        middle = [(x, y, f"median of {_COEFFICIENTS[coefficient]}") for x, y in middles]
        data.append(points("median", middle, bar, showlegend=False))
    axis = {"title": "", "tickvals": list(range(len(names))), "ticktext": names, "range": [-0.6, len(names) - 0.4]}
    shape = layout(340, xaxis=axis, yaxis={"title": "coefficient"})
    note = "Each point is a tensor of the new block, each bar their median."
    return Chart("coefficients", "Coefficients of the extrapolation", data, shape, note)


def _side_by_side(
    names: Sequence[str], found: Sequence[tuple[str, float, str]]
) -> Iterator[tuple[float, tuple[float, str]]]:
    """Places around each name's number, so that points of one height are all seen."""
    for place, name in enumerate(names):
        at = [(y, text) for x, y, text in found if x == name]
        for k, point in enumerate(at):
            yield place + 0.2 * ((k + 0.5) / len(at) - 0.5), point


def _told(tensor: str, of: dict[str, Any]) -> str:
    """Its numbers; the singular values have a chart of their own."""
    told = (f"<br>{words(key)} {words(number(value))}" for key, value in of.items() if key != "singular_values")
    return f"<b>{words(tensor)}</b>{''.join(told)}"


def _signal(run: RunData) -> Chart | None:
    """How far each tensor's path is a motion and not noise (Remark 16), and which were not believed (Remark 17)."""
    believed: list[tuple[Any, float, str]] = []
    noisy: list[tuple[Any, float, str]] = []
    for event, tensor, of, fell_back in _tensors(run):
        if of.get("snr") is not None:
            point = (f"event {event.event}", of["snr"], words(tensor))
            (noisy if fell_back else believed).append(point)
    if not believed and not noisy:
        return None
    data = [
        points("extrapolated", believed, {"color": COLOURS[0], "size": 8}),
        points("too noisy: the fallback", noisy, {"color": COLOURS[1], "symbol": "x", "size": 8}),
    ]
    both = [*believed, *noisy]
    shape = layout(
        340,
        xaxis=categories("", [f"event {tensor.event.event}" for tensor in _tensors(run)]),
        yaxis={"title": "SNR (in ÷ outside the modes)", **scale([value for _, value, _ in both])},
        showlegend=bool(noisy),
    )
    title = "Signal to noise of each tensor's path"
    return Chart("signal", title, [trace for trace in data if trace["x"]], shape, half=True)
