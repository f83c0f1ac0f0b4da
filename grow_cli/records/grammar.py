"""Overrides and values as Hydra's grammar has them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

# words that Hydra's grammar takes as they are
_PLAIN = re.compile(r"[\w./+:%@?|~-]+")


def word(value: Any) -> str:
    """A value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(word, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}: {word(one)}" for name, one in value.items()) + "}"
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else _quoted(value)
    return repr(value.item() if hasattr(value, "item") else value)  # numpy's numbers, too


def key_of(override: str) -> str:
    """The key of an override, whatever sign of Hydra's stands before it: `stop.steps` of `++stop.steps=3`."""
    return override.partition("=")[0].lstrip("+~")


def _quoted(text: str) -> str:
    # in Hydra's quotes a backslash counts only before a quote
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return "'" + escaped + "\\" * trailing + "'"
