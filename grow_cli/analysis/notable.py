"""Which keys of a run are notable: those that differ from their defaults, or from another run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from grow_cli import registry
from grow_cli.config import GROUP_KEYS, Config
from grow_cli.records.flat import flatten
from grow_cli.schema import role_of


def typed(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, list):
        return "[" + ",".join(map(typed, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def defaults_of(part: Any) -> dict[str, Any]:
    """Key → default, of a section's or an option's dataclass; MISSING where there is none."""
    return {
        f.name: f.default_factory() if f.default_factory is not MISSING else f.default
        for f in fields(part)
        if f.name != "name"
    }


def changed_from_defaults(config: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(key, value, default) of the keys that are not as their dataclass has them; the folder's own place is left out."""
    found: list[tuple[str, str, str]] = []
    known = defaults_of(Config)
    for name, value in config.items():
        if name in GROUP_KEYS and isinstance(value, dict):
            cls = registry.groups().get(name, {}).get(str(value.get("name")))
            defaults: dict[str, Any] = {} if cls is None else defaults_of(cls)
        elif is_dataclass(known.get(name)):
            defaults = vars(known[name])
        else:
            value, defaults, name = {name: value}, known, ""
        if not isinstance(value, dict):
            continue
        for key, own in value.items():
            full = f"{name}.{key}" if name else key
            default = defaults.get(key, MISSING)
            if default is not MISSING and role_of(full) != "folder" and own != default:
                found.append((full, typed(own), typed(default)))
    return found


def differing_keys(configs: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """(key, its value in each) of the keys whose values differ; `-` where a run has no such key. Folders are left out."""
    flat = [flatten(config) for config in configs]
    keys = dict.fromkeys(key for one in flat for key in one)
    told = [(key, [typed(one[key]) if key in one else "-" for one in flat]) for key in keys if role_of(key) != "folder"]
    return [(key, values) for key, values in told if len(set(values)) > 1]
