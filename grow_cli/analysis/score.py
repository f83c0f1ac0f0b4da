"""The normalised expansion score against steps (SENN, Fig. 3): when adding a unit or a layer becomes worthwhile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grow_cli.analysis.figures import empty, save, short
from grow_cli.config import Config
from grow_cli.errors import UserError
from grow_cli.files import is_there
from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.records.metrics import read_metrics
from grow_cli.records.reading import reading
from grow_cli.records.words import counted, widths_of

_CURVES = {"width": "best new unit", "depth": "best new layer"}
_READING = "trigger/eta_ratio"

# Labels of events that are nearer than this part of the picture's width would cover each other.
_LABEL = 0.022


def best_ratios(events: list[GrowthEvent], kind: str) -> tuple[list[int], list[float]]:
    """Steps, and the highest Δη'/η_c among the first proposals of a visit that are of this kind (`width` or `depth`)."""
    steps, ratios = [], []
    for event in events:
        # null stands for infinity: a layer without any score, whose proposals say nothing about the threshold
        found = [c["ratio"] for c in event.details.get("candidates") or [] if c["kind"] == kind]
        finite = [ratio for ratio in found if ratio is not None]
        if finite:
            steps.append(event.step)
            ratios.append(max(finite))
    return steps, ratios


def eta_readings(folder: RunFolder) -> tuple[list[int], list[float]]:
    """Steps and Δη'/η_c as the trigger read them; empty where it read none."""
    if not is_there(folder.metrics):
        return [], []
    metrics = read_metrics(folder)
    if _READING not in metrics:
        return [], []
    read = metrics[metrics[_READING].map(math.isfinite)]
    return read["step"].tolist(), read[_READING].tolist()


def thresholds(config: Config) -> list[float]:
    """τ − 1, as often as the method and the triggers disagree about it."""
    taus = [getattr(option, "tau", None) for option in (config.method, *_triggers(config.trigger))]
    return sorted({tau - 1 for tau in taus if tau is not None})


def _triggers(trigger: Any) -> Iterator[Any]:
    yield trigger
    for part in getattr(trigger, "of", {}).values():
        yield from _triggers(part)


def added(event: GrowthEvent) -> str:
    """What a growth event added or removed, in words: `2 units`, `1 layer`, `1 layer and units`, `−2 units`."""
    layers, sign = len(widths_of(event.widths_after)) - len(widths_of(event.widths_before)), "−" * event.removed
    if layers <= 0:
        return sign + (counted(-layers, "layer") if layers else event.units_text)
    widened = any(p.get("kind") == "width" for p in event.details.get("proposals", []))
    return counted(layers, "layer") + (" and units" if widened else "")


def draw_score(folder: RunFolder, config: Config, output: Path) -> Path:
    """Draw the curves into one picture and return its path; UserError where the run has no score."""
    events = growth_events(folder)
    with reading(folder.growth):
        curves = {label: best_ratios(events, kind) for kind, label in _CURVES.items()}
    curves["best proposal, as the trigger reads it"] = eta_readings(folder)
    if not any(steps for steps, _ in curves.values()):
        raise UserError(
            f"{folder.path} has no natural expansion score: growth.jsonl has no candidates and metrics.csv no {_READING}; "
            "train with method=senn, or with trigger=eta"
        )
    figure = empty(8, 4.8)
    axes = figure.subplots()
    for number, (label, (steps, ratios)) in enumerate(curves.items()):
        if steps:
            axes.plot(steps, ratios, color=f"C{number}", marker="o", ms=3.5, lw=1.4, label=label)
    for number, threshold in enumerate(thresholds(config)):
        axes.axhline(threshold, color="black", lw=1, ls="--", label=None if number else "threshold τ − 1")
    axes.set_xlim(left=0)
    axes.set_yscale("log", nonpositive="mask")
    _mark([e for e in events if e.units_added], axes)
    axes.set_xlabel("step (vertical lines: growth events → hidden widths)")
    axes.set_ylabel(r"$\Delta\eta'/\eta_c$ of the best proposal")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{config.method.name}: {config.model.name} on {config.dataset.name}", fontsize=10)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return save(figure, output)


def _mark(events: list[GrowthEvent], axes: Any) -> None:
    """A line for each event, and words above it where there is room."""
    low, high = axes.get_xlim()
    labelled = -math.inf
    for event in events:
        step = event.step
        axes.axvline(step, color="grey", lw=0.8, alpha=0.7, zorder=0)
        if step - labelled < _LABEL * (high - low):
            continue
        labelled = step
        axes.annotate(
            f"+{added(event)} → {short(event.widths_after)}",
            (step, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            rotation=30,
            rotation_mode="anchor",
            fontsize=7,
        )
