"""What is declared about the keys of the configuration: role, type, whether one is a path."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf

from grow_cli import registry
from grow_cli.config import Config
from grow_cli.files import address_from_root, expanded
from grow_cli.keys import ROLES, Role


@cache
def _declared() -> dict[str, Role]:
    """Key → its role, of those that have one."""
    found: dict[str, Role] = {}
    hints = get_type_hints(Config)
    for f in fields(Config):
        own = f.metadata.get("role", "")
        holders = [
            *registry.groups().get(f.name, {}).values(),
            *([hints[f.name]] if is_dataclass(hints[f.name]) else []),
        ]
        found[f.name] = own
        for inner in (inner for holder in holders for inner in fields(holder)):
            name = f"{f.name}.{inner.name}"
            found[name] = own or inner.metadata.get("role", "") or found.get(name, "")
    return {name: role for name, role in found.items() if role}


def role_of(name: str) -> Role:
    """The role of a key, as it is typed (`dataset.path`, `logger`, `trigger.of.plateau.patience`)."""
    name = name.lstrip("+~").split("@")[0]
    return _declared().get(name) or _declared().get(name.split(".")[0], "")


def keys_with(*roles: Role) -> list[str]:
    """The keys that have one of these roles; of one whose parts inherit it only itself."""
    assert set(roles) <= set(ROLES)
    found = [name for name, role in _declared().items() if role in roles]
    return [name for name in found if name.split(".")[0] == name or name.split(".")[0] not in found]


def is_text(name: str) -> bool:
    """Whether a key's value is text, with any option that has it: it is then taken as it is typed."""
    return name.lstrip("+~").split("@")[0] in _texts()


@cache
def _texts() -> frozenset[str]:
    hints = get_type_hints(Config)
    found = list(hints.items())
    for f in fields(Config):
        parts = [*registry.groups().get(f.name, {}).values(), *([hints[f.name]] if is_dataclass(hints[f.name]) else [])]
        found += [(f"{f.name}.{name}", hint) for part in parts for name, hint in get_type_hints(part).items()]
    return frozenset(name for name, hint in found if hint in (str, str | None))


def make_absolute(raw: DictConfig) -> None:
    """Record the paths of a config from the root on: a run is resumed and compared from other folders, too."""
    cls: Any = OmegaConf.get_type(raw)
    for f in fields(cls) if is_dataclass(cls) else ():
        for declared, absolute in (("path", lambda path: str(expanded(path))), ("address", address_from_root)):
            if f.metadata.get(declared) and raw[f.name]:
                raw[f.name] = absolute(raw[f.name])
    for name in list(raw):  # its parts, and theirs
        part = raw._get_node(name)
        if isinstance(part, DictConfig) and not (part._is_none() or part._is_missing() or part._is_interpolation()):
            make_absolute(part)
