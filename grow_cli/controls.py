"""The controls of a grown run: the same recipe without its way of growing, at equal cost.

A control is stored in its run's folder, in `controls/<kind>`, and is a run like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from grow_cli import config as configuration
from grow_cli import registry
from grow_cli.config import Config
from grow_cli.errors import UserError
from grow_cli.files import make_folder
from grow_cli.records import configs
from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.records.metrics import read_metrics
from grow_cli.records.reading import Fields, reading

if TYPE_CHECKING:
    from grow_cli.data.identity import Trained

KINDS = {
    "static-steps": "the final net trained from scratch for as many steps",
    "static-flops": "the final net trained from scratch for as many training FLOPs, growth included",
    "static-seconds": "the final net trained from scratch for as many seconds",
    "static-parameters": "the initial net with all widths scaled to the grown net's parameter count, for as many steps",
    "random-replay": "random growth at the same events and sites, by as many units, best updates included",
}
"""Kind → what it is."""

TIMED = ("static-seconds",)
"""Those that nothing else should be trained beside."""

SEARCHED = {
    "static-best": "the best by validation of a ladder of static sizes, from the initial net to twice the final one, "
    "each for as many training FLOPs; it costs the whole ladder and is trained only on request",
}
"""The same of those that are chosen among many nets (`grow_cli.sizes`)."""

EQUAL_FLOPS = ("static-flops", "static-best")
"""Those that are given the run's training FLOPs."""

# How far a control's parameters may be from the grown net's.
_ALIKE = 0.02

# Epochs between evaluations of a static control, at least: enough for its curves.
_EVALUATE_EVERY = 0.25


class NotPossible(Exception):
    """This run has no such control; the message gives the reason."""


def control_config(folder: RunFolder, kind: str) -> dict[str, Any]:
    """The config of a finished run's control; NotPossible if it has none, Damaged if the run's files do not determine
    it."""
    summary = folder.read_summary()
    with reading(summary.path):
        return _control_config(folder, kind, summary, configs.whole(folder.config(), folder.hydra / "config.yaml"))


def _control_config(folder: RunFolder, kind: str, summary: Fields, source: dict[str, Any]) -> dict[str, Any]:
    limit = summary["ended"]["rule"]
    if limit not in configuration.Stop.BUDGETS:
        raise NotPossible(
            f"it stopped early ({summary['ended_by']}), so its schedule never completed: train it without that stop rule, "
            "for stop.epochs or stop.steps alone"
        )
    raw = deepcopy(source)
    raw |= {"control": kind, "label": None, "run_dir": None}
    raw["growth"]["rollback"] = False
    if kind == "random-replay":
        return raw | _replay(folder, summary, raw, limit)
    if kind in ("static-steps", "static-parameters") and source["method"].get("batch_growth"):
        raise NotPossible("its minibatches grew, so equal steps are not equal samples: see static-flops")
    refuse_begun(source)
    raw["method"] = _option("method", "static", {})
    raw["trigger"] = _option("trigger", "never", {})
    limits: dict[str, dict[str, Any]] = {
        "static-flops": {"flops": float(summary["training_flops"])},
        "static-seconds": {"seconds": float(summary["seconds"])},
    }
    # those in which a new block was trained alone were steps, too
    raw["stop"] = _stop(limits.get(kind, {"steps": summary["steps"] + summary["growth_steps"]}))
    raw["model"] = dict(summary["architecture"]["model"])
    if raw["evaluate"]["unit"] == "epochs":  # oftener than that it is for the sake of a trigger
        raw["evaluate"]["every"] = max(raw["evaluate"]["every"], _EVALUATE_EVERY)
    if kind == "static-parameters":
        raw["model"] |= equal_sizes(summary["architecture"], source["model"])
    return raw


def refuse_begun(config: dict[str, Any]) -> None:
    """NotPossible for a run that began with another's net: a control from scratch would lack that net's training."""
    if config.get("init"):
        raise NotPossible(
            f"it started from the net of {config['init']}, whose training a net from scratch would lack: compare it with "
            f"`grow train method=static init={config['init']}`, and both together with a run that grew in one go"
        )


def _replay(folder: RunFolder, summary: dict[str, Any], raw: dict[str, Any], limit: str) -> dict[str, Any]:
    """What differs from the run's config where random growth replays it."""
    if raw["method"].get("train_by_growth"):
        raise NotPossible("it was trained by growth alone, and random growth trains nothing")
    events = replayed(folder)
    growth = raw["growth"] | {"max_events": None, "plateau": None}
    stop = {"epochs": raw["stop"]["epochs"]} if limit == "epochs" else {"steps": summary["steps"]}
    if limit in ("seconds", "flops"):  # the rate must begin to fall at the same step
        growth["until"] = _step_at(folder, growth["until"], limit) / summary["steps"]
    return {
        "method": _option("method", "replay", raw["method"]) | {"events": [added for _, added in events]},
        "trigger": _option("trigger", "at", {}) | {"steps": [step for step, _ in events]},
        "growth": growth,
        "stop": _stop(stop),
    }


def _step_at(folder: RunFolder, fraction: float, limit: str) -> float:
    """The step at which so much of the run's seconds or FLOPs was used."""
    import numpy as np

    metrics = read_metrics(folder)
    spent = metrics[limit].to_numpy()
    return float(np.interp(fraction * spent[-1], [0, *spent], [0, *metrics["step"]]))


def _stop(limit: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys((f.name for f in fields(configuration.Stop)), None) | limit


def _option(group: str, name: str, like: dict[str, Any]) -> dict[str, Any]:
    """An option with its defaults, except for keys that it shares with `like`."""
    cls = registry.groups()[group][name]
    own = configs.as_plain(OmegaConf.structured(cls(name=name)))
    return own | {key: value for key, value in like.items() if key in own and key != "name"}


def replayed(folder: RunFolder) -> list[tuple[int, list[dict[str, Any]]]]:
    """(step, what was added) of each growth event that was not taken back, best updates of present weights included."""
    events = growth_events(folder)
    undone = {event.details.get("undone") for event in events if event.taken_back}
    grown = [event for event in events if event.changed and event.units_added >= 0 and event.event not in undone]
    if any(event.removed for event in events):
        raise NotPossible("it removed units, and a replay only adds")
    if any(event.added is None for event in grown):
        raise NotPossible(
            "its growth log was written by an older version of grow, which did not list what each event added"
        )
    return [(event.step, _entries(event)) for event in grown]


def _entries(event: GrowthEvent) -> list[dict[str, Any]]:
    """What an event did, as `method=replay` has it: the units and layers, and where present weights were updated."""
    updated = {p["site"] for p in event.details.get("proposals", []) if p.get("update_amplitude")}
    added = [entry | ({"update": True} if entry["site"] in updated else {}) for entry in event.added or []]
    if event.updated:  # in the order in which the sites were visited
        added += [{"kind": "width", "site": site, "units": 0, "update": True} for site in event.updated]
        order = [p["site"] for p in event.details.get("proposals", [])]
        added.sort(key=lambda entry: order.index(entry["site"]) if entry["site"] in order else len(order))
    return added


def equal_sizes(architecture: dict[str, Any], initial: dict[str, Any]) -> dict[str, Any]:
    """The sizes of the initial net, scaled by one factor to as many parameters as the grown net has.

    NotPossible where they cannot be, or where that is the grown net itself.
    """
    from grow_cli.surgery.measure import count_parameters

    grown = on_meta(architecture)
    keys = list(grown.sizes())
    net = on_meta(architecture | {"model": architecture["model"] | initial})
    first = {key: net.size(key) for key in keys}
    numbers, target = _numbers(first), count_parameters(grown)
    if not numbers:
        raise NotPossible("its initial net has no hidden layer that could be wider")

    def scaled(factor: float) -> list[int]:
        return [max(1, round(n * factor)) for n in numbers]

    def parameters(numbers: list[int]) -> int:
        sizes = _with_numbers(first, iter(numbers))
        return count_parameters(on_meta(architecture | {"model": architecture["model"] | sizes}))

    high = 2.0
    while parameters(scaled(high)) < target:
        high *= 2
    factor = nearest(lambda f: parameters(scaled(f)), high, target)
    nudged = _nudged(scaled(factor), lambda some: abs(parameters(some) - target))
    best: dict[str, Any] = _with_numbers(first, iter(nudged))
    if best == {key: architecture["model"][key] for key in keys}:
        raise NotPossible("scaling all widths of its initial net gives the grown net: see static-steps")
    if abs(parameters(nudged) - target) > _ALIKE * target:
        raise NotPossible(f"no scaling of its initial net comes within {_ALIKE:.0%} of its parameters")
    return best


def on_meta(architecture: dict[str, Any]) -> Any:
    """The net of an architecture, without memory."""
    import torch

    from grow_cli.models.base import rebuild

    with torch.device("meta"):
        return rebuild(architecture)


def nearest(parameters: Callable[[float], int], high: float, wanted: float) -> float:
    """The place on the way from 0 to `high` whose parameters are nearest."""
    low = 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if parameters(middle) < wanted else (low, middle)
    return min((low, high), key=lambda t: abs(parameters(t) - wanted))


def _numbers(sizes: Any) -> list[int]:
    """The numbers in nested sizes, in order."""
    inner = sizes.values() if isinstance(sizes, dict) else sizes
    return [sizes] if isinstance(sizes, int) else [number for part in inner for number in _numbers(part)]


def _with_numbers(sizes: Any, numbers: Iterator[int]) -> Any:
    """Nested sizes with other numbers, in order."""
    if isinstance(sizes, dict):
        return {key: _with_numbers(value, numbers) for key, value in sizes.items()}
    return [_with_numbers(value, numbers) for value in sizes] if isinstance(sizes, list) else next(numbers)


def _nudged(numbers: list[int], miss: Callable[[list[int]], int]) -> list[int]:
    """One unit more or less here and there, as long as that comes nearer."""
    best, least = numbers, miss(numbers)
    improved = True
    while improved:
        improved = False
        for index in range(len(numbers)):
            for step in (1, -1):
                other = [*best]
                other[index] = max(1, other[index] + step)
                found = miss(other)
                if found < least:
                    best, least, improved = other, found, True
    return best


def control_folder(folder: RunFolder, kind: str) -> RunFolder:
    """Where a run's control lies."""
    return RunFolder(folder.path / "controls" / kind)


def train_control(folder: RunFolder, kind: str, settings: dict[str, Any]) -> str:
    """Train or continue a finished run's control; returns what was done. `settings`: keys of where and how it runs.

    NotPossible where this run has no such control.
    """
    target = control_folder(folder, kind)
    status = target.read_summary().get("status")
    if status == "finished":
        return "exists already"
    if status == "failed":
        raise UserError(
            f"{target.path} has failed before: see its summary.json, and remove the folder to train it again"
        )
    done = train_beside(folder, target, lambda: control_config(folder, kind), settings)
    return done + overshot(folder, target, kind)


def train_beside(
    folder: RunFolder, target: RunFolder, make: Callable[[], dict[str, Any]], settings: dict[str, Any], **how: Any
) -> str:
    """Train or continue, in `target`, a net that a finished run is compared with; returns which.

    :param make: its config, if it is not begun
    :param how: `run.train`'s keywords
    """
    from grow_cli import run

    resume = target.begun
    raw = target.config() if resume else make()
    trained, threads = _data_and_threads(folder)
    if not resume:
        raw["threads"] = threads
    config = built(raw, settings, (target if resume else folder).hydra / "config.yaml")
    configuration.check_run(config)
    if resume:
        target.open()
    else:
        overrides = [*folder.overrides(), f"control={raw['control']}"]
        make_folder(target.path.parent)
        target.create({"config": dict(raw), "overrides": overrides})
    try:
        run.train(config, target, resume=resume, trained=trained, **how)
    finally:
        target.discard_unless_trained()
    return "resumed" if resume else "trained"


def _data_and_threads(folder: RunFolder) -> tuple[Trained, int]:
    """Of the run: its data, which its control must use as well, and its threads, for seconds are to be compared."""
    from grow_cli.data.identity import Trained
    from grow_cli.training import checkpoint

    state = checkpoint.load(folder.checkpoints / "last.pt")
    return replace(Trained.of(state), inputs=None), int(state["progress"]["threads"])


def overshot(folder: RunFolder, target: RunFolder, kind: str) -> str:
    """A word about FLOPs that could not be met: a run ends after a whole step."""
    spent, wanted = (f.read_summary()["training_flops"] for f in (target, folder))
    if kind not in EQUAL_FLOPS or spent <= 1.01 * wanted:
        return ""
    return f" (with {spent / wanted - 1:.0%} more FLOPs, because one step costs so much)"


def built(raw: dict[str, Any], settings: dict[str, Any], file: Path) -> Config:
    typed = configs.typed(raw, file)
    for key, value in settings.items():
        OmegaConf.update(typed, key, value, force_add=False)
    return configuration.build(typed)
