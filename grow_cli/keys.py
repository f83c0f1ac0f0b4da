"""The keys of the configuration: allowed values and role, declared on each field and nowhere else.

    patience: int = key(5, at_least=1)
    norm: str = key("none", one_of=("none", "batch"))
    path: str | None = key(None, role="data")

Roles say who may change a key without making another run of it:

    ""       part of what a run is
    name     what it is called                 (label, control)
    folder   the run's own folder              (run_dir)
    data     where its own dataset lies        (dataset.path, dataset.root): two places are two jobs of a sweep
    place    where things are, or it runs      (data_dir, device)
    speed    how fast, or in how much memory   (threads, compile, evaluate.batch_size)
    shown    what is shown or kept of it       (progress, logger, checkpoint)
    size     a size of the net                 (model.hidden)
    split    what the validation cut follows   (dataset.validation, dataset.split_seed)

`size` and `split` are part of what a run is, too. A key that holds others hands its role on to them.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Role = Literal["", "name", "folder", "data", "place", "speed", "shown", "size", "split"]
ROLES: tuple[Role, ...] = get_args(Role)
OF_THE_RUN: tuple[Role, ...] = ("", "size", "split")
"""Roles of the keys that make a run what it is."""


_FLOAT32 = (2 - 2**-23) * 2.0**127  # in which nets are trained: a larger number fails there, in torch's own words
_FLOAT32_SMALLEST = 2.0**-126  # below it numbers are flushed to 0, and a key that must be above 0 would be 0


@dataclasses.dataclass(frozen=True)
class Range:
    """The values that a key takes; those of a list hold for each number in it."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    one_of: tuple[str, ...] = ()
    word: str = ""
    """The one text that a key of numbers takes, too."""
    longest: int | None = None
    """Entries of a list."""
    unit: str = ""
    """What numbers count: `steps`."""
    null: str = ""
    """What null means, after "or null "."""
    why: str = ""
    """Follows the range after a colon."""

    def holds(self, value: Any) -> bool:
        """Whether a single value lies in it."""
        if self.one_of:
            return value in self.one_of
        if self.word and isinstance(value, str):
            return value == self.word
        if self.limit_missed(value):
            return False
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def limit_missed(self, value: Any) -> str:
        """`a finite number`, where a number is not; nothing to count here comes to 2^53, from which on floats have gaps.

        Empty where nothing is missed.
        """
        if isinstance(value, float) and not math.isfinite(value):
            return "a finite number"
        if isinstance(value, float) and abs(value) > _FLOAT32:
            return "a number up to 3.4e38, the largest of float32"
        if isinstance(value, float) and 0 < abs(value) < _FLOAT32_SMALLEST:
            return "a number from 1.2e-38 on, the smallest of float32"
        return "a number below 2^53" if isinstance(value, int) and self.at_most is None and abs(value) >= 2**53 else ""

    @property
    def words(self) -> str:
        """`1 step or more, or null for no limit`."""
        told = f"must be {self.interval}" + (f", or {self.word}" if self.word else "")
        told += f", or null {self.null}" if self.null else ""
        return told + (f": {self.why}" if self.why else "")

    @property
    def bounded(self) -> bool:
        """Whether a number is held to anything but being finite."""
        return any(limit is not None for limit in (self.at_least, self.above, self.at_most, self.below))

    @property
    def interval(self) -> str:
        """`from 0 to 1`, `1 step or more`, `one of a, b`."""
        unit = f" {self.unit}" if self.unit else ""
        low = "" if self.at_least is None else _number(self.at_least)
        upper = f"below {_number(self.below)}" if self.below is not None else ""
        if self.one_of:
            return f"one of {', '.join(self.one_of)}"
        if self.above is not None:
            upper = f"at most {_number(self.at_most)}" if self.at_most is not None else upper
            return f"above {_number(self.above)}{unit}" + (f" and {upper}" if upper else "")
        if low and (upper or self.at_most is not None):
            return f"from {low} to {upper or _number(self.at_most)}{unit}"
        return f"{low}{unit} or more" if low else "a finite number"


def key(
    default: Any = dataclasses.MISSING,
    *,
    make: Callable[[], Any] | None = None,
    role: Role = "",
    path: bool = False,
    address: bool = False,
    tune: tuple[float, float] | None = None,
    **within: Any,
) -> Any:
    """A field of an option or a section.

    :param make: makes the default, where that is a list or another part
    :param path: it names a file or a folder, which is recorded from the root on: it may be read from elsewhere
    :param address: the same, where it may also name a server (`http://…`) or a database (`sqlite:///…`)
    :param tune: the values between which `grow tune` searches by default, on a logarithmic scale; None: not searched
    :param within: of `Range`; without any, numbers must still be finite
    """
    metadata = {"role": role, "path": path, "address": address, "tune": tune, "range": Range(**within)}
    if make is not None:
        return dataclasses.field(default_factory=make, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_SEVERAL = {int: "whole numbers", float: "numbers", str: "texts"}


def takes(field: dataclasses.Field[Any], hint: Any) -> str:
    """`a whole number, 1 or more, or null for no limit`: the type of a key and its range."""
    kinds = _kinds(hint)
    allowed: Range = field.metadata.get("range", _ANY)
    if int in kinds and float in kinds:
        kinds.remove(int)
    if allowed.word:
        kinds.remove(str)
    told = " or ".join(map(_kind, kinds))
    if field.metadata.get("path"):
        told = "a path"
    if allowed.one_of:
        told = allowed.interval
    elif allowed.bounded:
        told += f", {'each ' if told.startswith('a list') else ''}{allowed.interval}"
    told += f", {allowed.longest:,} at most" if allowed.longest is not None else ""
    told += f", or {allowed.word}" if allowed.word else ""
    if type(None) in _either(hint):
        told += f", or null {allowed.null}".rstrip()
    return told + (f": {allowed.why}" if allowed.why else "")


def _either(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _kinds(hint: Any) -> list[Any]:
    """The types of a key, null left out."""
    return [kind for kind in _either(hint) if kind is not type(None)]


def _kind(kind: Any) -> str:
    if kind == dict[str, float]:
        return "numbers by name"
    if get_origin(kind) is list:
        (inner,) = get_args(kind)
        return f"a list of {_SEVERAL.get(inner, 'lists')}"
    return _KINDS.get(kind, "parts by name")


def check_ranges(part: Any, prefix: str) -> None:
    """ValueError, in one sentence, for the first key of a part whose value is out of its range."""
    hints = get_type_hints(type(part))
    for field in dataclasses.fields(part):
        value, allowed = getattr(part, field.name), field.metadata.get("range", _ANY)
        origins = [get_origin(kind) for kind in _kinds(hints[field.name])]
        if value is not None and {*origins} <= {list, dict} and not isinstance(value, tuple(origins)):
            # OmegaConf lets text and numbers by where an interpolation leads to them
            raise ValueError(f"{prefix}{field.name}={value!r}: must be {takes(field, hints[field.name])}")
        if isinstance(value, list) and not _nested(hints[field.name]) and any(isinstance(v, list) for v in value):
            raise ValueError(
                f"{prefix}{field.name}={value}: must be a list without nested lists"
            )  # OmegaConf lets it by
        if isinstance(value, list) and allowed.longest is not None and len(value) > allowed.longest:
            raise ValueError(f"{prefix}{field.name} has {len(value):,} entries: give at most {allowed.longest:,}")
        if any(not allowed.holds(number) for number in _numbers(value)):
            missed = next(filter(None, map(allowed.limit_missed, _numbers(value))), "")
            raise ValueError(f"{prefix}{field.name}={value}: {f'must be {missed}; it ' * bool(missed)}{allowed.words}")


def _nested(hint: Any) -> bool:
    """Whether a type is that of lists which may hold lists."""
    inner = [arg for kind in (hint, *get_args(hint)) if get_origin(kind) is list for arg in get_args(kind)]
    return not inner or any(get_origin(arg) is list or arg is Any for arg in inner)


_ANY = Range()


def _numbers(value: Any) -> Iterator[Any]:
    """A value, or those of a list of lists; none where there is nothing to check."""
    if isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield value


def _number(value: float | None) -> str:
    """2^63 - 1 is shown so: nobody reads its digits."""
    if isinstance(value, int) and value > 2**30:
        power = (value + 1).bit_length() - 1
        return f"2^{power} - 1" if value == 2**power - 1 else f"2^{power}"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
