"""Nested keys as one name each."""

from __future__ import annotations

from typing import Any


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as `optimizer.lr`; an empty dict stays one."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        nested = isinstance(value, dict) and value
        flat |= flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat
