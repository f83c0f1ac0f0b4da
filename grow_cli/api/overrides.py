"""Keys given as Python values, as what a user would type."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from grow_cli.errors import UserError

# words that Hydra's grammar takes as they are
_PLAIN = re.compile(r"[\w./+:%@?|~-]+")


def typed(overrides: str | Iterable[str], keys: Mapping[str, Any]) -> list[str]:
    """KEY=VALUE words: those given as text, then the keywords (`stop={"epochs": 3}` is `stop.epochs=3`)."""
    given = [overrides] if isinstance(overrides, str) else list(overrides)
    for word in given:
        if not isinstance(word, str):
            raise UserError(f"{word!r} is no override: give text like 'method=tiny', or keywords")
        if word.startswith("-"):
            raise UserError(f"{word}: flags are for the command line; from Python call grow.train once per run")
    return [*given, *_flat(keys, "")]


def _flat(keys: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in keys.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={_word(value)}"


def _word(value: Any) -> str:
    """A value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_word, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}: {_word(one)}" for name, one in value.items()) + "}"
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else _quoted(value)
    return repr(value.item() if hasattr(value, "item") else value)  # numpy's numbers, too


def _quoted(text: str) -> str:
    # in Hydra's quotes a backslash counts only before a quote
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return "'" + escaped + "\\" * trailing + "'"
