"""Keys given as Python values, as what a user would type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from grow_cli.errors import UserError
from grow_cli.records.grammar import word


def typed(overrides: str | Iterable[str], keys: Mapping[str, Any]) -> list[str]:
    """KEY=VALUE words: those given as text, then the keywords (`stop={"epochs": 3}` is `stop.epochs=3`)."""
    given = [overrides] if isinstance(overrides, str) else list(overrides)
    for one in given:
        if not isinstance(one, str):
            raise UserError(f"{one!r} is not an override: give text like 'method=tiny', or keywords")
        if one.startswith("-"):
            raise UserError(f"{one}: flags are for the command line; from Python call grow.train once per run")
    return [*given, *_flat(keys, "")]


def _flat(keys: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in keys.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={word(value)}"
