"""Decision boundaries in the plane, phase by phase (SENN, Fig. 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from grow_cli.analysis.figures import empty, save
from grow_cli.analysis.phases import data_of, evenly, load_last, load_phases
from grow_cli.config import Config
from grow_cli.errors import UserError
from grow_cli.records.folder import RunFolder
from grow_cli.records.pictures import grid, lead

_PANELS, _COLUMNS = 12, 4
SIDE = 160  # grid points along a side
_POINTS = 1000  # training points drawn; more only cover the background

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive")


@torch.no_grad()
def class_probabilities(model: nn.Module, x: Tensor) -> Tensor:
    """(n, classes) of prepared inputs (n, d)."""
    return model(x).softmax(dim=1)


def draw_boundaries(folder: RunFolder, config: Config, output: Path) -> Path:
    """Draw a panel for each phase, at most 12, and return the picture's path; UserError where the run does not fit."""
    net = load_last(folder).model
    if net.task != "classification" or net.input_shape != (2,):  # asked of the net: data may be long in loading
        raise UserError(
            f"{folder.path} has dataset={config.dataset.name}, and boundaries can only be drawn for points in the plane with "
            "classes: train with dataset=moons, sines or quadratics"
        )
    if net.outputs > len(COLOURS):
        raise UserError(
            f"{folder.path} has {net.outputs} classes, and boundaries can be drawn for {len(COLOURS)} at most"
        )
    phases = load_phases(folder)
    data = data_of(config, phases[-1])
    shown = data.probe(_POINTS)
    points, classes = data.normalizer.inverse(shown.x), shown.y
    x, y, pairs = grid(points, SIDE)
    left, right, bottom, top = extent = [float(end) for end in (x[0], x[-1], y[0], y[-1])]

    chosen = evenly(phases, _PANELS)
    columns = min(_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    wide = max(2.8, 5.6 / columns)
    tall = wide * min(2.0, max(0.5, (top - bottom) / (right - left))) + 0.35
    figure = empty(wide * columns + 0.6, tall * rows + 1.0)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    size = min(16, max(7, 3000 / len(points)))
    for axes, phase in zip(panels.flat, chosen, strict=False):
        draw_plane(axes, class_probabilities(phase.model, data.normalizer(pairs)), extent)
        for c in range(net.outputs):
            own = points[classes == c].numpy()
            axes.scatter(
                *own.T,
                s=size,
                color=COLOURS[c],
                edgecolors="white",
                linewidths=0.03 * size,
                label=f"class {data.spec.classes[c] if data.spec.classes else c}",
            )
        axes.set_title(phase.title, fontsize=8.5)
        axes.set(xlim=(left, right), ylim=(bottom, top))
        axes.tick_params(labelsize=7)
    for axes in panels.flat[len(chosen) :]:
        axes.remove()
    for axes in panels.flat[max(0, len(chosen) - columns) : len(chosen)]:
        axes.set_xlabel("x₁ (in the dataset's own units)", fontsize=8)
        axes.tick_params(labelbottom=True)
    for axes in panels[:, 0]:
        axes.set_ylabel("x₂", fontsize=8)
    when = ", before each growth event and at the end" if len(chosen) > 1 else ""
    figure.suptitle(f"{config.method.name}: {config.model.name} on {config.dataset.name}{when}", fontsize=10)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False, markerscale=2
    )
    return save(figure, output)


def draw_plane(axes: Any, probabilities: Tensor, extent: list[float]) -> None:
    """The classes' colours mixed as the probabilities say, and a line where the two likeliest are equally likely."""
    image = mixed(probabilities).reshape(SIDE, SIDE, 3)
    axes.imshow(image, extent=extent, origin="lower", aspect="auto", interpolation="bilinear")
    left, right, bottom, top = extent
    x, y = np.linspace(left, right, SIDE), np.linspace(bottom, top, SIDE)
    for values in lead(probabilities).T.numpy()[1:]:  # the first class's boundaries are the others', too
        if values.min() < 0 < values.max():
            axes.contour(x, y, values.reshape(SIDE, SIDE), levels=[0.0], colors="black", linewidths=1.2)


def mixed(probabilities: Tensor) -> NDArray[np.float64]:
    """(n, 3) colours: pale ones of the classes, white where nothing is decided."""
    from matplotlib.colors import to_rgb

    count = probabilities.shape[1]
    colours = np.array([to_rgb(name) for name in COLOURS[:count]])
    # how far each is above chance, so that an even mix is white and not mud
    above = (probabilities.double().numpy() - 1 / count).clip(min=0) / (1 - 1 / count)
    return 1 - 0.45 * above @ (1 - colours)
