"""The folder `mistakes/`: a picture of each neuron's mistake, and a table of them all."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from grow_cli.files import is_there, make_folder, write_atomically, write_text
from grow_cli.hardware import sent
from grow_cli.records.pictures import grid, lead, render
from grow_cli.surgery.measure import evaluation_mode
from grow_cli.surgery.signals import Tap, Trace

if TYPE_CHECKING:
    from grow_cli.methods.fold.mistakes import Explained
    from grow_cli.models.modules.sites import WidthSite
    from grow_cli.moment import Moment

_PIXELS = 140  # the least side of an image's picture
_SIDE = 120  # points along a side of a plane


def keep_explanations(grown: list[Explained], now: Moment, site: WidthSite, folder: Path) -> None:
    """Write `mistakes.csv`, whole, and the pictures that are not there yet; remove those of neurons that are not known.

    A picture of more than the mistake itself is drawn when its neuron has just been grown, and shows the net as it then is.
    """
    make_folder(folder)
    known = {picture_name(one.neuron) for one in grown}
    for stale in {p.name for p in folder.glob("neuron-*.png")} - known:
        (folder / stale).unlink()  # of an event after the checkpoint that the run was resumed from
    for one in grown:
        path = folder / picture_name(one.neuron)
        if not is_there(path) and (one.x_mistake.dim() == 3 or one.event == now.progress.firings):
            write_atomically(path, lambda temporary, one=one: _draw(one, now, site, temporary))  # type: ignore[misc]
    table = folder / "mistakes.csv"
    if not grown:
        table.unlink(missing_ok=True)
        return
    buffer = io.StringIO()
    rows = [_row(one, now) for one in grown]
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(table, buffer.getvalue())


def picture_name(neuron: int) -> str:
    """The picture's file name for the neuron with this serial number."""
    return f"neuron-{neuron:03d}.png"


def _row(one: Explained, now: Moment) -> dict[str, Any]:
    then = {"after": one.after, "at_end": one.at_end}
    return {
        "neuron": one.neuron,
        "event": one.event,
        "step": one.step,
        "unit": one.unit + 1,
        "sample": one.sample,
        "predicted": _named(one.predicted, now),
        "true": _named(one.true, now),
        "error": f"{one.error:.6g}",
        "distance": f"{float((one.x_fold - one.x_mistake).norm()):.6g}",
        "mistakes": one.mistakes,
        "cluster": len(one.members),
        **{f"cluster_{when}": "" if found is None else found["mistakes"] for when, found in then.items()},
        **{
            f"predicted_{when}": "" if found is None else _named(found["predicted"], now)
            for when, found in then.items()
        },
        **{f"right_{when}": "" if found is None else int(found["right"]) for when, found in then.items()},
        "rolled_back": int(one.rolled_back),
        "picture": picture_name(one.neuron),
    }


def _named(answer: int | list[float], now: Moment) -> str:
    """A class by its name, outputs as numbers."""
    if isinstance(answer, int):
        classes = now.data.spec.classes
        return classes[answer] if classes else str(answer)
    return " ".join(f"{value:.4g}" for value in answer)


def _draw(one: Explained, now: Moment, site: WidthSite, path: Path) -> None:
    if one.x_mistake.dim() == 3:
        _draw_image(one, now, path)
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    normalizer = now.data.normalizer
    mistake, fold = (normalizer.inverse(x[None].to(now.device)).cpu()[0] for x in (one.x_mistake, one.x_fold))
    inputs = len(mistake)
    if inputs == 2 and now.data.spec.task == "classification":
        _draw_plane(axes, one, now, site, mistake, fold)
    elif inputs == 1:
        _draw_curve(axes, one, now, mistake, fold)
    else:
        axes.bar(np.arange(1, inputs + 1), one.x_mistake.numpy(), color="tab:blue")
        axes.set(xlabel="input", ylabel="value (standardised)")
    axes.set_title(f"neuron {one.neuron}: {_named(one.predicted, now)} → {_named(one.true, now)}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    render(figure, path, "png", 110)


def _draw_image(one: Explained, now: Moment, path: Path) -> None:
    """The mistake itself, enlarged without smoothing."""
    from PIL import Image

    data = now.data
    shown = data.normalizer.inverse(sent(one.x_mistake[None], now.device))[0] / data.white
    pixels = (shown.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    if pixels.shape[2] not in (1, 3):
        pixels = pixels[..., :1]
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    times = max(1, -(-_PIXELS // max(image.size)))
    image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST).save(path, format="PNG")


def _draw_plane(axes: Any, one: Explained, now: Moment, site: WidthSite, mistake: Tensor, fold: Tensor) -> None:
    """The points, the decision boundary, the mistake, and the line that the neuron folds along."""
    data = now.data
    probe = data.probe(600)
    points = data.normalizer.inverse(probe.x).cpu()
    x, y, pairs = grid(points, _SIDE)
    tap = Tap(site.producer)
    trace = Trace(now.model, data.normalizer(pairs.to(now.device)), [], seen=[tap])
    for c in range(data.spec.outputs):
        own = points[(probe.y == c).cpu()]
        axes.scatter(*own.T.numpy(), s=7, alpha=0.5, color=f"C{c}", linewidths=0)
    for values in lead(trace.outputs.cpu()).T.numpy()[1:]:  # the first class's boundaries are the others', too
        if values.min() < 0 < values.max():
            axes.contour(x, y, values.reshape(_SIDE, _SIDE), levels=[0.0], colors="black", linewidths=1.2)
    heights = trace.seen[tap][:, one.unit].cpu().reshape(_SIDE, _SIDE).numpy()
    if heights.min() < 0 < heights.max():
        axes.contour(x, y, heights, levels=[0.0], colors="tab:red", linewidths=1.2, linestyles="dashed")
    axes.plot(*mistake.tolist(), "X", color="tab:red", markersize=9, markeredgecolor="white")
    axes.plot(*fold.tolist(), "o", color="white", markersize=6, markeredgecolor="tab:red")
    axes.set(xlim=(float(x[0]), float(x[-1])), ylim=(float(y[0]), float(y[-1])), xlabel="x₁", ylabel="x₂")


def _draw_curve(axes: Any, one: Explained, now: Moment, mistake: Tensor, fold: Tensor) -> None:
    """The points, the net's function, the mistake, and where the neuron folds."""
    data = now.data
    probe = data.probe(600)
    points = data.normalizer.inverse(probe.x).cpu()[:, 0]
    x = torch.linspace(float(points.min()), float(points.max()), 400)[:, None]
    with evaluation_mode(now.model):
        y = now.model(data.normalizer(x.to(now.device))).cpu()
    axes.scatter(points, probe.y[:, 0].cpu(), s=7, alpha=0.5, color="C0", linewidths=0)
    axes.plot(x[:, 0], y[:, 0], color="black", lw=1.2)
    true = one.true if isinstance(one.true, list) else [float(one.true)]
    axes.plot(float(mistake[0]), true[0], "X", color="tab:red", markersize=9, markeredgecolor="white")
    axes.axvline(float(fold[0]), color="tab:red", lw=1.2, ls="dashed")
    axes.set(xlabel="x", ylabel="y")
