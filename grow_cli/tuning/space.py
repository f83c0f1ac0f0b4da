"""The values that a search chooses among: a span or some choices for each key, from a YAML file or the options' own.

optimizer.lr: {low: 1e-4, high: 3e-2, log: true}
optimizer.weight_decay: [0, 0.01, 0.1]
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from grow_cli.config import GROUP_KEYS, Config
from grow_cli.errors import UserError
from grow_cli.keys import OF_THE_RUN
from grow_cli.records import plain_yaml
from grow_cli.records.grammar import word
from grow_cli.records.reading import number
from grow_cli.schema import role_of

_DIGITS = 3
"""To which a number is rounded: no validation score tells more of them apart, and a line with them can be typed."""
_BUDGET = ("stop", "subset")


@dataclass(frozen=True)
class Span:
    """All numbers between two."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    """Only whole numbers, since the key takes no others."""

    def value(self, raw: float) -> float:
        """A number in it as it is trained with: rounded, and still in it."""
        if self.whole:
            return int(raw)
        return min(max(float(f"{raw:.{_DIGITS}g}"), self.low), self.high)

    def holds(self, value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    @property
    def edges(self) -> list[Any]:
        """What must be allowed if all of it is to be."""
        return [self.low, self.high]

    def to_json(self) -> Any:
        return {"low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        return any(value == one for one in self.values)

    @property
    def edges(self) -> list[Any]:
        """What must be allowed if all of it is to be."""
        return list(self.values)

    def to_json(self) -> Any:
        return list(self.values)


Space = dict[str, Span | Choice]
"""Key → what is searched of it."""


def read_space(path: Path) -> Space:
    """The space in a YAML file; UserError, which names the key, for what is no space."""
    try:
        found = plain_yaml.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--space {path} cannot be read ({error.strerror}): give a YAML file, or default") from error
    except ValueError as error:
        raise UserError(f"--space {path} is no YAML ({str(error).splitlines()[0]}): mend it") from error
    if not isinstance(found, dict) or not found:
        raise UserError(
            f"--space {path} names no key: write a line `optimizer.lr: {{low: 1e-4, high: 3e-2, log: true}}` for each"
        )
    return {key: _read(key, given) for key, given in found.items()}


def _read(key: str, given: Any) -> Span | Choice:
    refuse_key(key)
    if isinstance(given, list):
        told = [word(value) for value in given]
        if len(set(told)) < max(2, len(told)):
            raise UserError(f"{key}: [{', '.join(told)}] leaves nothing to choose: give two different values or more")
        return Choice(tuple(given))
    if not isinstance(given, dict) or not {"low", "high"} <= set(given) <= {"low", "high", "log"}:
        raise UserError(
            f"{key}: {json.dumps(given)} is neither a span nor choices: write {{low: 1e-4, high: 0.1, log: true}}, or [a, b]"
        )
    low, high, log = given["low"], given["high"], given.get("log", False)
    if not (number(low) and number(high) and isinstance(log, bool)):
        raise UserError(f"{key}: low and high must be finite numbers, and log true or false")
    if low >= high:
        raise UserError(f"{key}: low ({low:g}) must be below high ({high:g})")
    if log and low <= 0:
        raise UserError(f"{key}: low ({low:g}) must be above 0 on a logarithmic scale: raise it, or write log: false")
    return Span(low, high, log)


def refuse_key(key: str) -> None:
    """UserError for a key by which trials could not be held against each other."""
    group = key.split(".")[0]
    why = ""
    if key in ("method", "dataset"):
        why = f"give {key}=NAME on the command line" + ", several methods as method=A,B" * (key == "method")
    elif key == "seed":
        why = "every trial has the same seeds, and --seeds says how many"
    elif group in _BUDGET:
        why = "all trials have the same data and budget; give it on the command line"
    elif role_of(key) not in OF_THE_RUN or role_of(key) == "split":
        why = "it does not change how a net is trained, or changes what it is judged by"
    if why:
        raise UserError(f"{key} cannot be searched: {why}")


def default_space(config: Config) -> Space:
    """The keys of the chosen options whose declaration says between which values they are worth a search."""
    found: Space = {}
    for group in GROUP_KEYS:
        option = getattr(config, group)
        for f in fields(option):
            if f.metadata.get("tune") is not None:
                low, high = f.metadata["tune"]
                found[f"{group}.{f.name}"] = Span(low, high, log=True, whole=_whole(option, f.name))
    return found


def fitted(space: Space, config: Config) -> Space:
    """The same, spans of keys that take whole numbers only marked so; UserError for a span of what is no number."""
    made: Space = {}
    for key, part in space.items():
        if isinstance(part, Choice):
            made[key] = part
            continue
        *path, leaf = key.split(".")
        holder: Any = config
        for name in path:
            holder = getattr(holder, name, None)
        if not is_dataclass(holder) or leaf not in {f.name for f in fields(holder)}:
            made[key] = part  # no key of the configuration: said where it is tried
            continue
        kinds = set(_kinds(holder, leaf))
        if not kinds & {int, float}:
            raise UserError(f"{key} takes no single number: give choices, {key}: [a, b]")
        whole = _whole(holder, leaf)
        if whole and any(edge != int(edge) for edge in part.edges):
            raise UserError(f"{key} takes whole numbers: low ({part.low:g}) and high ({part.high:g}) must be such, too")
        made[key] = Span(int(part.low), int(part.high), part.log, whole) if whole else part
    return made


def _kinds(holder: Any, leaf: str) -> tuple[Any, ...]:
    hint = get_type_hints(type(holder))[leaf]
    return get_args(hint) or (hint,)


def _whole(holder: Any, leaf: str) -> bool:
    kinds = _kinds(holder, leaf)
    return int in kinds and float not in kinds


def to_json(space: Space) -> dict[str, Any]:
    """As it stands in tune.json, and in a file for --space."""
    return {key: part.to_json() for key, part in space.items()}


def override(key: str, value: Any) -> str:
    """KEY=VALUE as `grow train` takes it."""
    return f"{key}={word(value)}"


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """A trial's values as they are typed; groups first, whose keys the others may be."""
    return [override(key, values[key]) for key in sorted(values, key=lambda key: "." in key)]
