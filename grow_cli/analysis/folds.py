"""The plane before and after a neuron: its line, its mistake, and the decision boundary (Fold, Fig. 1)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from torch import Tensor

from grow_cli.analysis.boundaries import COLOURS, SIDE, class_probabilities, draw_plane
from grow_cli.analysis.figures import empty
from grow_cli.analysis.phases import data_of, load_phases
from grow_cli.data.tensors import Data
from grow_cli.files import is_there
from grow_cli.records.events import growth_events
from grow_cli.records.pictures import grid, render
from grow_cli.records.reading import reading
from grow_cli.surgery.signals import Tap, Trace

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.records.folder import RunFolder

_POINTS = 600


def draw_planes(folder: RunFolder, config: Config, rows: list[dict[str, Any]]) -> dict[int, bytes]:
    """Neuron → PNG of the plane before its event and at the next one; empty if the run's data are not in the plane.

    :param rows: of mistakes.csv
    """
    sites = {event.event: event.site for event in growth_events(folder) if event.units_added}
    events = list(sites)
    if not all(is_there(folder.checkpoints / f"before-{event}.pt") for event in events):
        return {}
    phases = load_phases(folder)
    net = phases[-1].model
    if net.task != "classification" or net.input_shape != (2,) or net.outputs > len(COLOURS):
        return {}
    data = data_of(config, phases[-1])
    drawn = {}
    for row in rows:
        with reading(folder.path / "mistakes" / "mistakes.csv"):
            at = events.index(int(row["event"]))
            before, after = phases[at].model, phases[at + 1].model
            mistake = data.prepare(data.train.x[int(row["sample"])][None])
            name, unit = sites[int(row["event"])], int(row["unit"]) - 1
            _preactivation(after, name, unit, mistake)  # there is such a unit
        drawn[int(row["neuron"])] = _draw(before, after, name, unit, mistake, data)
    return drawn


def _draw(before: GrowableModel, after: GrowableModel, name: str, unit: int, mistake: Tensor, data: Data) -> bytes:
    shown = data.probe(_POINTS)
    points = data.normalizer.inverse(shown.x)
    x, y, pairs = grid(points, SIDE)
    extent = [float(end) for end in (x[0], x[-1], y[0], y[-1])]
    figure = empty(7.2, 3.1)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, model, title in zip(panels, (before, after), ("before", "after"), strict=True):
        draw_plane(axes, class_probabilities(model, data.normalizer(pairs)), extent)
        for c in range(before.outputs):
            axes.scatter(*points[shown.y == c].T.numpy(), s=5, color=COLOURS[c], linewidths=0)
        axes.plot(
            *data.normalizer.inverse(mistake)[0].tolist(), "X", color="red", markersize=9, markeredgecolor="white"
        )
        axes.set(xlim=extent[:2], ylim=extent[2:])
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
    heights = _preactivation(after, name, unit, data.normalizer(pairs)).reshape(SIDE, SIDE).numpy()
    if heights.min() < 0 < heights.max():
        panels[1].contour(x, y, heights, levels=[0.0], colors="red", linewidths=1.2, linestyles="dashed")
    buffer = io.BytesIO()
    render(figure, buffer, "png", 110)
    return buffer.getvalue()


def _preactivation(model: GrowableModel, name: str, unit: int, x: Tensor) -> Tensor:
    """(n,) of a unit of the hidden layer of that name."""
    tap = Tap({site.name: site for site in model.width_sites()}[name].producer)
    return Trace(model, x, [], seen=[tap]).seen[tap][:, unit]
