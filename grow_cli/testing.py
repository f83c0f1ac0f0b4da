"""The contract of every part of a run, as functions that you can call on your own parts.

    from grow_cli.testing import check_trigger
    def test_my_trigger(tmp_path):
        check_trigger("mine", tmp_path)

Each trains small runs with the part, given by its name in the configuration: it is listed and composed, bad values are
refused in one sentence, it grows or runs, is stopped in the middle and resumed to the same bits, taken back, evaluated and
exported, and its log is complete. AssertionError names what fails. Pass keys that a part needs as overrides.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from grow_cli import cli, registry, run
from grow_cli.commands.choices import describe
from grow_cli.commands.train import begin, compose, go_on
from grow_cli.config import Config, check_run
from grow_cli.errors import Interrupted
from grow_cli.models.base import on_paper, rebuild
from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.training import checkpoint
from grow_cli.training.loop import Loop
from grow_cli.training.session import Session

_SMALL = (
    *("stop.epochs=4", "batch_size=32", "evaluate.every=0.5", "growth.until=0.7", "growth.neurons=2", "progress=off"),
    *("device=cpu", "threads=1", "optimizer.lr=3e-3", "schedule.warmup=0", "trajectory.window=3", "trajectory.every=1"),
)
_DATA = ("dataset=digits", "subset=192")
_TRIGGER = ("trigger=every", "trigger.every=1")


def check_method(name: str, folder: Path, *overrides: str) -> list[GrowthEvent]:
    """Check `method=name`: it grows or gives the reason why not, and everything that holds for every run; returns its
    growth events."""
    trigger = () if any(o.startswith("trigger=") for o in overrides) else _TRIGGER
    typed = [f"method={name}", *_data_for(overrides), *trigger, *overrides]
    method = _check_option("method", name, typed)
    whole = _check_run(folder, typed)
    events = growth_events(whole)
    assert not method.grows or events, f"method={name} had its trigger fire and wrote no line into growth.jsonl"
    for event in events:
        assert event.changed or event.reason, f"event {event.event} changes nothing and says no reason"
        assert (event.added or []) if event.units_added else not event.added, (
            f"event {event.event} does not say what it added or removed"
        )
    if method.heeds_until and any(event.units_added for event in events):  # a given schedule is not taken back
        _check_rollback(folder / "rollback", typed)
    return events


def check_trigger(name: str, folder: Path, *overrides: str) -> None:
    """Check `trigger=name`: its readings are in metrics.csv, and a resumed run fires as an uninterrupted one does."""
    typed = ["method=net2net", "model.hidden=[2,2]", *_DATA, f"trigger={name}", *overrides]
    trigger = _check_option("trigger", name, typed)
    whole = _check_run(folder, typed)
    header = whole.metrics.read_text(encoding="utf-8").splitlines()[0].split(",")
    part, again = trigger.begin(), trigger.begin()
    assert all(f"trigger/{reading}" in header for reading in part.readings), f"trigger={name}: a reading has no column"
    again.load_state_dict(part.state_dict())
    assert again.state_dict() == part.state_dict(), f"trigger={name}: its state does not come back"


def check_model(name: str, folder: Path, *overrides: str, dataset: Sequence[str] = _DATA) -> None:
    """Check `model=name`: it describes itself, is rebuilt unchanged, and can grow at every site that it declares."""
    typed = [
        "method=random",
        f"model={name}",
        *_data_for(overrides, dataset),
        *_TRIGGER,
        "method.warmup_steps=2",
        *overrides,
    ]
    net = on_paper(_check_option("model", name, typed))
    if net is not None:
        sizes, settings = net.sizes(), net.settings
        assert {k: settings[k] for k in sizes} == sizes, (
            f"model={name}: sizes() of a new net are not the ones it was given"
        )
        with torch.device("meta"):
            other = rebuild(net.architecture())
        assert other.architecture() == net.architecture(), f"model={name} is not rebuilt from its architecture"
        for sites in (net.width_sites(), net.depth_sites()):
            names = [site.name for site in sites]
            assert len(set(names)) == len(names), f"model={name} has two sites of one name"
    events = growth_events(_check_run(folder, typed))
    assert any(event.units_added > 0 for event in events), f"model={name} did not grow: {[e.reason for e in events]}"


def check_dataset(name: str, folder: Path, *overrides: str) -> None:
    """Check `dataset=name`: a static and a growing net train on it. Its files must be there."""
    model = () if any(o.startswith("model=") for o in overrides) else ("model=mlp", "model.hidden=[3]")
    typed = ["method=net2net", *model, f"dataset={name}", *_TRIGGER, *overrides]
    _check_option("dataset", name, typed)
    _check_run(folder, typed)


def check_logger(name: str, folder: Path, *overrides: str) -> None:
    """Check `logger=name`: a run with it has the numbers of one without; each row and event is passed on once."""
    typed = ["method=net2net", "model.hidden=[2,2]", *_DATA, *_TRIGGER]
    _check_option("logger", name, [*typed, f"logger={name}", *overrides])
    plain = _trained(folder / "plain", typed)
    logged = _check_run(folder, [*typed, f"logger={name}", *overrides])
    assert _numbers(plain) == _numbers(logged), f"logger={name} changes what is computed"


def check_optimizer(name: str, folder: Path, *overrides: str) -> None:
    """Check `optimizer=name`: the loss falls, and its memory survives growth and a kill."""
    typed = ["method=net2net", "model.hidden=[3,3]", *_data_for(overrides), *_TRIGGER, f"optimizer={name}", *overrides]
    _check_option("optimizer", name, typed)
    whole = _check_run(folder, [o for o in typed if not o.startswith("optimizer.lr")])
    first, last = (float(row["train_loss"]) for row in (_rows(whole)[0], _rows(whole)[-1]))
    assert last < first, f"optimizer={name} did not lower the loss: {first:.3g} → {last:.3g}"


def check_schedule(name: str, folder: Path, *overrides: str) -> None:
    """Check `schedule=name`: a factor of at least 0 over the whole budget, restarted or not, and a run with it."""
    typed = ["method=net2net", "model.hidden=[2,2]", *_DATA, *_TRIGGER, f"schedule={name}", *overrides]
    _check_option("schedule", name, typed)
    schedule = compose(typed).schedule
    for restarted in (0.0, 0.4):
        for i in range(101):
            progress = restarted + (1 - restarted) * i / 100
            factor = schedule.factor(progress, restarted, i, 0.6)
            assert 0 <= factor < math.inf, f"schedule={name} has the factor {factor} at {progress:.2f}"
    _check_run(folder, typed)


def _data_for(overrides: Sequence[str], usual: Sequence[str] = _DATA) -> Sequence[str]:
    """The usual data, where the part needs no others."""
    return () if any(o.startswith("dataset=") for o in overrides) else usual


def _check_option(group: str, name: str, typed: list[str]) -> Any:
    """It is listed with a line of description, composes, and refuses a wrong type in one sentence; the option."""
    assert describe(group).get(name), f"{group}={name} has no YAML file with a line of description"
    config = compose([*_SMALL, *typed])
    part = getattr(config, group)
    assert part.name == name
    check_run(config)
    for f in fields(part):
        allowed, value = f.metadata.get("range"), getattr(part, f.name)
        lowest = allowed and (allowed.above if allowed.at_least is None else allowed.at_least)
        if isinstance(value, int | float) and lowest is not None:
            _check_out_of_range(part, f.name, lowest - 1)
    numbers = [f.name for f in fields(part) if isinstance(getattr(part, f.name), int | float)]
    if numbers:
        _check_refused([*_SMALL, *typed, f"{group}.{numbers[-1]}=nonsense"], numbers[-1])
    return part


def _check_out_of_range(part: registry.Option, key: str, value: float) -> None:
    """One sentence: the key, its value, and what is allowed."""
    changed: dict[str, Any] = {key: value}
    try:
        replace(part, **changed)
    except ValueError as refused:
        sentence = str(refused)
    else:
        raise AssertionError(f"{part.group_name}.{key}={value} is not refused")
    assert sentence.startswith(f"{part.group_name}.{key}={value}: must be "), sentence


def _check_refused(typed: list[str], key: str) -> None:
    try:
        compose(typed)
    except Exception as error:  # Hydra's or OmegaConf's, which the command makes a sentence of
        if key not in str(error):
            raise AssertionError(f"{typed[-1]} is refused without naming the key") from error
    else:
        raise AssertionError(f"{typed[-1]} is not refused")


def _check_run(folder: Path, typed: list[str]) -> RunFolder:
    """A whole run, the same stopped halfway and resumed, evaluated, and exported; returns the whole one's folder."""
    whole = _trained(folder / "whole", typed)
    broken = _broken_and_resumed(folder / "broken", typed, stop_at=max(2, len(_rows(whole)) // 2))
    assert _numbers(whole) == _numbers(broken), "a resumed run does not end as the whole one: " + str(typed)
    summary = whole.read_summary()
    measured = run.evaluate(_config(typed), whole, "last")
    for key in ("train_loss", "val_loss", "test_loss"):
        assert math.isclose(measured[key], summary[key], rel_tol=1e-6), f"grow eval measures another {key}"
    net = rebuild(summary["architecture"])
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == summary["parameters"]
    _run_command("export", str(whole.path))
    return whole


def _config(typed: list[str]) -> Config:
    given = {o.lstrip("+~").split("=")[0] for o in typed}
    return compose([*(o for o in _SMALL if o.split("=")[0] not in given), *typed])


def _trained(path: Path, typed: list[str]) -> RunFolder:
    config, folder = _config(typed), RunFolder(path)
    begin(config, folder, {"config": OmegaConf.structured(config), "overrides": typed})
    return folder


def _broken_and_resumed(path: Path, typed: list[str], stop_at: int) -> RunFolder:
    """Interrupt in the first step after `stop_at` evaluations, as by a signal, and resume in new objects."""
    with _interrupted_after(stop_at):
        try:
            _trained(path, typed)
        except Interrupted:
            pass
        else:
            raise AssertionError("the run ended before it could be interrupted: " + str(typed))
    folder = RunFolder(path)
    assert folder.read_summary()["status"] == "interrupted"
    go_on(_config(typed), folder)
    return folder


@contextmanager
def _interrupted_after(evaluations: int) -> Iterator[None]:
    evaluate = Loop._evaluate

    def watched(loop: Loop) -> None:
        evaluate(loop)
        if loop.session.progress.evaluations == evaluations:
            loop.session.interrupted._note(15, None)

    Loop._evaluate = watched  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Loop._evaluate = evaluate  # type: ignore[method-assign]


def _check_rollback(path: Path, typed: list[str]) -> None:
    """Every growth is undone, to the net from before it, if validation never improves."""
    helped = Session.undo_helped
    Session.undo_helped = property(lambda session: False)  # type: ignore[method-assign,assignment]
    try:
        folder = _trained(path, [*typed, "growth.rollback=true", "growth.until=0.9"])
    finally:
        Session.undo_helped = helped  # type: ignore[method-assign]
    events = growth_events(folder)
    back = [event for event in events if event.taken_back]
    assert back or not any(event.changed for event in events[:-1]), "no growth was taken back"
    for event in back:
        grown = next(e for e in events if e.event == event.details["undone"])
        assert event.widths_after == grown.widths_before, "a growth that is taken back leaves another net behind"


def _rows(folder: RunFolder) -> list[dict[str, str]]:
    with folder.metrics.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _numbers(folder: RunFolder) -> dict[str, Any]:
    """All that two runs of one configuration must agree on, to the last bit."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if "seconds" not in k and "path" not in k}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    state = checkpoint.load(folder.checkpoints / "last.pt")
    events = [timeless(event.to_json()) for event in growth_events(folder)]
    return {
        "rows": timeless(_rows(folder)),
        "events": json.dumps(events, default=str),
        "weights": {name: tensor.numpy().tobytes() for name, tensor in state["model"].items()},
        "thresholds": folder.read_summary()["thresholds"],
    }


def _run_command(*arguments: str) -> None:
    wrong = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(wrong):
        code = cli._run(list(arguments))
    assert code == 0, f"grow {' '.join(arguments)} ended with {code}: {wrong.getvalue()}"
