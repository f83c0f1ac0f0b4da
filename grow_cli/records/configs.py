"""A run folder's config with its schemas reattached: it selects registered options and is otherwise data."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grow_cli import registry
from grow_cli.config import GROUP_KEYS, Config
from grow_cli.errors import UserError


def typed(raw: dict[str, Any], file: Path | str = "the run's config") -> DictConfig:
    """A config read from a run folder, its schemas attached again. It is data: what looks like an interpolation is text.

    UserError, which names the file, for an option that does not exist here, and for what its schema does not take.
    """
    try:
        known = {name: as_data(value) for name, value in raw.items() if name not in GROUP_KEYS}
        merged = OmegaConf.merge(OmegaConf.structured(Config), known)
        assert isinstance(merged, DictConfig)
        for group in GROUP_KEYS:
            merged[group] = _typed_option(group, raw.get(group), raw, file)
    except OmegaConfBaseException as error:
        raise UserError(f"{file}: {str(error).splitlines()[0]}") from error
    return merged


def whole(raw: dict[str, Any], file: Path | str) -> dict[str, Any]:
    """The same as plain data again, whatever it lacked added as its schema has it."""
    return as_plain(typed(raw, file))


def as_plain(config: DictConfig) -> dict[str, Any]:
    """A config as plain data, its interpolations resolved."""
    plain = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def as_data(data: Any) -> Any:
    """Nested data whose text OmegaConf gives back as it is: `${...}` in it stands for itself."""
    if isinstance(data, dict):
        return {key: as_data(value) for key, value in data.items()}
    if isinstance(data, list):
        return [as_data(value) for value in data]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", data) if isinstance(data, str) else data


def _typed_option(group: str, raw: Any, config: dict[str, Any], file: Path | str) -> DictConfig:
    name = raw.get("name") if isinstance(raw, dict) else None
    options = registry.groups().get(group, {})
    if not isinstance(name, str) or name not in options:
        raise UserError(
            f"{file} has {group}={name}, which this version of grow does not know (it knows {', '.join(sorted(options))}): "
            "use the version and the plugins that the run was made with"
        )
    numeric = {f.name for f in fields(options[name]) if "str" not in str(f.type)}
    values = {key: _referred(value, config) if key in numeric else value for key, value in raw.items()}
    nested = values.pop("of", None)  # the parts of a combined one
    option = OmegaConf.merge(OmegaConf.structured(options[name]), as_data(values))
    assert isinstance(option, DictConfig)
    if isinstance(nested, dict):
        for key, part in nested.items():
            option["of"][key] = _typed_option(group, part, config, file)
    return option


_REFERENCE = re.compile(r"\$\{oc\.select:(\w+)\.(\w+),([\d.e-]+)\}")


def _referred(value: Any, config: dict[str, Any]) -> Any:
    """A number for which an earlier grow stored where it stands in the config, and what it is where it is not there."""
    found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    group, key, otherwise = found.groups()
    there = config[group].get(key) if isinstance(config.get(group), dict) else None
    return there if isinstance(there, int | float) else float(otherwise)
