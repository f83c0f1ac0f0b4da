"""The gain of a new unit at each location and length scale of a one-dimensional regression (SENN, Fig. 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from grow_cli.analysis.figures import empty, save
from grow_cli.analysis.phases import Phase, data_of, evenly, load_last, load_phases
from grow_cli.analysis.score import thresholds
from grow_cli.config import Config
from grow_cli.data.datasets.synthetic import Synthetic
from grow_cli.errors import UserError
from grow_cli.models.modules.activations import Rational
from grow_cli.models.modules.layers import Layer
from grow_cli.models.modules.plain import MLP
from grow_cli.records.folder import RunFolder
from grow_cli.theory.expansion import LayerScore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PHASES, _COLUMNS = 6, 3
_LOCATIONS, _SCALES = 100, 50
_DECADES = 3  # of ratios that have colours of their own
_PIECE = 500  # proposals whose activations are in memory at a time

# Of the samples' standard deviation: the finest bump that still covers several of some hundred points, and the whole range.
_FINEST, _WIDEST = 0.03, 3.0


def hidden_layer(model: MLP) -> Layer:
    """Its only one."""
    return cast(Layer, model.hidden[0])


@torch.no_grad()
def unit_locations(model: MLP) -> Tensor:
    """(units,) where each unit's pre-activation is zero: −bias/weight."""
    linear = hidden_layer(model).linear
    bias = torch.zeros(len(linear.weight)) if linear.bias is None else linear.bias
    return -bias / linear.weight[:, 0]


def new_units(activation: torch.nn.Module, z: Tensor) -> list[Tensor]:
    """Activations (b, n, q) that a unit with pre-activations z (b, n) can be given: the best of them counts.

    A rational unit αz + (β + γz)/(1 + z²) is any direction in the span of three columns. With one output the best
    direction's Δη' is the span's own, the residual gradients' projection on it being such a direction.
    """
    if isinstance(activation, Rational):
        r = 1 / (1 + z.square())
        return [torch.stack([z, r, z * r], dim=-1)]
    return [activation(z).unsqueeze(-1), activation(-z).unsqueeze(-1)]


@torch.no_grad()
def ratios(model: MLP, samples: Sequence[tuple[Tensor, Tensor]], locations: Tensor, scales: Tensor) -> Tensor:
    """Δη'/η_c (scales, locations) of a new unit that reads z = (x − location)/scale, both summed over the samples.

    :param samples: one or more of x (n, 1), as the net reads them, and y (n, 1)
    """
    layer = hidden_layer(model)
    every = torch.cartesian_prod(scales.double(), locations.double())
    gain, score = torch.zeros(len(every), dtype=torch.float64), 0.0
    for x, y in samples:
        hidden = torch.cat([layer(x), torch.ones(len(x), 1)], dim=1)
        # of each sample's squared error; the ratio does not depend on its scale, and neither on that of the metric
        present = LayerScore(hidden, 2 * (model(x) - y), torch.eye(1))
        score += present.score
        gains = []
        for piece in every.split(_PIECE):
            z = (x.double().T - piece[:, 1:]) / piece[:, :1]
            gains.append(torch.stack([present.bounds(unit) for unit in new_units(layer.activation, z)]).amax(0))
        gain += torch.cat(gains)
    return gain.reshape(len(scales), len(locations)) / score


def halves(x: Tensor, y: Tensor, seed: int) -> list[tuple[Tensor, Tensor]]:
    """The samples in two parts, by chance.

    On all samples η_c goes to zero once training on them has converged, whatever the gain of a new unit, so everything would look
    worth adding; methods that judge proposals do so on a part.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    return [(x[part], y[part]) for part in order.tensor_split(2)]


def true_curve(config: Config) -> tuple[Tensor, Tensor] | None:
    """x (n,) in order and the targets there, of a dataset that can be drawn without noise."""
    if not isinstance(config.dataset, Synthetic):
        return None
    clean = replace(config.dataset, noise=0.0, samples=2000).load(config.data_folder)
    order = clean.train_x[:, 0].argsort()
    return clean.train_x[order, 0], clean.train_y[order, 0]


def draw_landscape(folder: RunFolder, config: Config, output: Path) -> Path:
    """Draw two panels for each phase, at most 6, and return the picture's path; UserError where the run does not fit."""
    _check(folder, config, load_last(folder))
    phases = evenly(load_phases(folder), _PHASES)
    for phase in phases:
        _check(folder, config, phase)
    data = data_of(config, phases[-1])
    read, y, own = data.train.x[:], data.train.y, data.normalizer.inverse  # pictures are in the dataset's own units
    x = own(read)[:, 0]
    margin = 0.04 * float(x.max() - x.min())
    at = torch.linspace(float(x.min()) - margin, float(x.max()) + margin, _LOCATIONS)
    scales = float(x.std()) * torch.logspace(math.log10(_FINEST), math.log10(_WIDEST), _SCALES)
    prepared = data.normalizer(at[:, None])
    truth = true_curve(config)
    threshold = next(iter(thresholds(config)), None)
    models = [cast(MLP, phase.model) for phase in phases]
    judged = halves(read, y, data.split_seed)
    maps = [ratios(model, judged, prepared[:, 0], scales / float(data.normalizer.std)) for model in models]

    from matplotlib.colors import LogNorm

    norm = LogNorm(*colour_range(maps), clip=True)
    figure, pairs = _panels(len(phases))
    for (above, below), phase, model, values in zip(pairs, phases, models, maps, strict=True):
        above.scatter(x.numpy(), y[:, 0].numpy(), s=6, color="tab:blue", alpha=0.5, label="training points")
        if truth is not None:
            above.plot(*(t.numpy() for t in truth), color="tab:red", ls="--", lw=1.1, label="true curve")
        with torch.no_grad():
            above.plot(at.numpy(), model(prepared)[:, 0].numpy(), color="black", lw=1.3, label="the net")
        located = unit_locations(model)  # a unit without incoming weights is nowhere
        for number, place in enumerate(own(located[located.isfinite(), None])[:, 0].tolist()):
            label = "_" if number else "locations of its units"
            above.axvline(place, color="tab:green", lw=1.2, zorder=0, label=label)
        above.set_title(phase.title, fontsize=9)
        image = _map(below, at.numpy(), scales.numpy(), values.numpy(), norm, threshold)
    ratio = r"$\Delta\eta'/\eta_c$ of a new unit"
    bar = figure.colorbar(image, ax=[below for _, below in pairs], label=ratio, extend="min", pad=0.01)
    handles, labels = pairs[0][0].get_legend_handles_labels()
    if threshold is not None:
        handles.append(bar.ax.axhline(threshold, color="red", lw=1.1))
        labels.append(f"threshold τ − 1 = {threshold:.3g}")
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    names = f"{config.method.name}: {config.model.name} on {config.dataset.name}"
    figure.suptitle(f"{names} (new units judged on halves of the training points)", fontsize=10)
    return save(figure, output)


def _map(axes: Any, at: Any, scales: Any, values: Any, norm: Any, threshold: float | None) -> Any:
    """Colours of the ratios (scales, locations), the threshold a contour; returns what a colour bar needs."""
    image = axes.pcolormesh(at, scales, values, norm=norm, cmap="viridis", shading="gouraud")
    if threshold is not None and values.min() < threshold < values.max():
        axes.contour(at, scales, values, levels=[threshold], colors="red", linewidths=1.1)
    axes.set(yscale="log", xlim=(at[0], at[-1]))
    return image


def colour_range(maps: Sequence[Tensor]) -> tuple[float, float]:
    """The largest ratio of all maps, and some decades below it."""
    values = torch.cat([m[m.isfinite()] for m in maps])
    top = max(float(values.max()), 1e-12) if len(values) else 1.0
    return top / 10**_DECADES, top


def _panels(count: int) -> tuple[Figure, list[tuple[Any, Any]]]:
    """A figure, and for each phase its upper and its lower axes."""
    columns = min(_COLUMNS, count)
    blocks = -(-count // columns)
    figure = empty(max(6.0, 3.4 * columns + 1.0), 4.2 * blocks + 0.8)
    axes = figure.subplots(2 * blocks, columns, sharex=True, sharey="row", squeeze=False)
    pairs = [(axes[2 * (i // columns), i % columns], axes[2 * (i // columns) + 1, i % columns]) for i in range(count)]
    for above, below in pairs[::columns]:
        above.set_ylabel("y")
        below.set_ylabel("scale of a new unit")
    for _, below in pairs[-columns:]:
        below.set_xlabel("x, or location of a new unit (in the dataset's own units)", fontsize=8)
        below.tick_params(labelbottom=True)
    for unused in (a for pair in range(count, blocks * columns) for a in axes[2 * blocks - 2 :, pair % columns]):
        unused.remove()
    return figure, pairs


def _check(folder: RunFolder, config: Config, phase: Phase) -> None:
    net = phase.model
    if net.task != "regression" or net.input_shape != (1,) or net.outputs != 1:
        raise UserError(
            f"{folder.path} has dataset={config.dataset.name}, and a landscape needs a regression of one number on another: "
            "train with dataset=curve"
        )
    if not isinstance(net, MLP) or len(net.hidden) != 1 or net.norm != "none":
        raise UserError(
            f"{folder.path} has model={config.model.name}, at {phase.title}, and a landscape needs a net with one hidden "
            "layer and no norm: train with model=mlp model.hidden=[1], and a method that adds units only"
        )
