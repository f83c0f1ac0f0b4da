"""Command lines: every key of the configuration with the values of its type that are most likely to be trouble."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from grow_cli import registry
from grow_cli.config import Config

HUGE = 2**63 - 1
_WORDS = ["abc", "''", "null", "[]", "[1]", "{a:1}", "true", "'[/x]'", "é😀", "${seed}", "${oc.env:HOME}", "${nothing}"]
_INTEGERS = ["0", "-1", "1", "2", "3", str(2**31 - 1), str(HUGE), str(2**70), "1e3", "1.5", "1_0", "nan", "inf"]
_NUMBERS = ["0", "-0.0", "-1", "1", "0.5", "5e-324", "1e-8", "1e300", "1e999", "nan", "inf", "-inf", "1_0"]
_TEXTS = ["a", "1e3", "1_0", "a/b", "../x", "/", ".", "'a b'", "a" * 300, "x" * 5000, "true", "-1", "'\\n'", "~"]
_LISTS = [
    "[]",
    "[0]",
    "[-1]",
    "[1,1]",
    "[[1]]",
    "[[[1]]]",
    "[null]",
    "[a]",
    "[1.5]",
    f"[{2**31 - 1}]",
    f"[{HUGE}]",
    "5",
]
_NASTY: dict[Any, list[str]] = {int: _INTEGERS, float: _NUMBERS, str: _TEXTS, bool: ["2", "off", "1.0"], list: _LISTS}

# Two optimizer steps of a small net on few samples, growing after the first one.
SMALL = (
    "subset=60",
    "stop.steps=2",
    "evaluate.every=1",
    "evaluate.unit=steps",
    "evaluate.probe=16",
    "trajectory.every=1",
    "trajectory.window=6",
    "progress=off",
    "threads=1",
    "growth.until=1",
)
_DEFAULTS = {
    "optimizer.natural": ("model=mlp_tiny", "method=static"),
    "model.cnn": ("dataset=digits", "method=static"),
    "model.resnet18": ("dataset=digits", "method=static"),
}
# Need what is not there: the network, packages that are extras, or files; `replay` is set by `grow controls`.
_ELSEWHERE = {
    *("dataset.mnist", "dataset.fashion_mnist", "dataset.cifar10", "dataset.cifar100", "dataset.image_folder"),
    *("logger.wandb", "logger.mlflow", "logger.tensorboard", "logger.several", "method.replay"),
}
# Sets what the fuzzer itself relies on, or trains as long as it is asked to.
_LEFT = {"run_dir", "control", "compile", "trigger.of", "logger.of"}


@cache
def keys() -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Name of a key, with its option where it has one (`method.tiny.rank`) → (type, what must be chosen for it)."""
    found: dict[str, tuple[Any, tuple[str, ...]]] = {}
    hints = get_type_hints(Config)
    for f in fields(Config):
        options = registry.groups().get(f.name)
        if options is None:
            own = hints[f.name]
            inner = get_type_hints(own) if is_dataclass(own) else {}
            found |= {f"{f.name}.{name}": (inner[name], ()) for name in inner if name.islower() and name != "prefix"}
            if not inner:
                found[f.name] = (own, ())
            continue
        for option, cls in options.items():
            place = f"{f.name}.{option}"
            if place in _ELSEWHERE:
                continue
            chosen = (f"{f.name}={option}", *_DEFAULTS.get(place, ()))
            for g in fields(cls):
                if g.name != "name" and f"{f.name}.{g.name}" not in _LEFT:
                    found[f"{place}.{g.name}"] = (get_type_hints(cls)[g.name], chosen)
    return {name: value for name, value in found.items() if name not in _LEFT}


def values(hint: Any) -> list[str]:
    """What to try for a type."""
    args = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    bases = [get_origin(a) or a for a in args]
    own = [value for base in bases for value in _NASTY.get(base, [])]
    return list(dict.fromkeys([*own, *_WORDS]))


def chosen(name: str) -> tuple[str, ...]:
    """The options that a key needs."""
    return keys()[name][1]


def override(name: str, value: str) -> str:
    """KEY=VALUE, as it is typed: without the option's name."""
    parts = name.split(".")
    return f"{parts[0]}.{parts[-1]}={value}" if len(parts) == 3 else f"{name}={value}"


def typed(picked: list[tuple[str, str]]) -> list[str]:
    """The command line that gives these keys these values, and whatever else keeps the run small."""
    own = [override(name, value) for name, value in picked]
    taken = {o.split("=")[0] for o in own}
    groups = {o.split("=")[0]: o for name, _ in reversed(picked) for o in chosen(name)}
    shared = [o for o in SMALL if o.split("=")[0] not in taken]
    if "trigger" not in groups:  # so that something grows
        groups["trigger"] = "trigger=every"
        shared += [o for o in ("trigger.every=1", "trigger.unit=steps") if o.split("=")[0] not in taken]
    if any(key.startswith("stop.") for key in taken):  # what stops a run in any case
        shared += [f"stop.{rule}" for rule in ("seconds=2", "epochs=1") if f"stop.{rule.split('=')[0]}" not in taken]
    return ["train", *groups.values(), *shared, *own, "run_dir=run"]


def cases() -> Iterator[tuple[str, str]]:
    """(key, value): all of them."""
    for name, (hint, _) in sorted(keys().items()):
        for value in values(hint):
            yield name, value
