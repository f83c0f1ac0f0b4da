"""Declarations of the configuration's keys: role, type, range, default, meaning, whether one is a path."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf

from grow_cli import registry
from grow_cli.config import Config
from grow_cli.files import address_from_root, expanded
from grow_cli.keys import ROLES, Role, takes


@dataclass(frozen=True)
class Declared:
    """A key, as its field declares it."""

    name: str
    takes: str
    """Its type and its range in words."""
    default: Any
    """`MISSING` where it must be given, and of a group."""
    meaning: str
    """The docstring under the field, on one line."""


def sections() -> dict[str, type]:
    """The parts of the configuration that are no options: `stop`, `growth`, ..."""
    hints = get_type_hints(Config)
    return {f.name: hints[f.name] for f in fields(Config) if is_dataclass(hints[f.name])}


@cache
def declared_by(holder: type) -> dict[str, Declared]:
    """Name → what is declared of it, of the keys of an option or a section, in the order of its fields."""
    hints, meanings = get_type_hints(holder), _meanings(holder)
    found = {}
    for f in fields(holder):
        if f.name == "name" and issubclass(holder, registry.Option):  # what stands after `group=`
            continue
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        found[f.name] = Declared(f.name, takes(f, hints[f.name]), default, meanings.get(f.name, ""))
    return found


def _meanings(holder: type) -> dict[str, str]:
    """Field → the text under it, its own or that of the class that it was inherited from."""
    found: dict[str, str] = {}
    for cls in reversed([cls for cls in holder.__mro__ if is_dataclass(cls)]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        except (OSError, TypeError, SyntaxError):  # a class made without a file
            continue
        assert isinstance(body, ast.ClassDef)
        for field, below in pairwise(body.body):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if (
                isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[field.target.id] = " ".join(below.value.value.split())
    return found


def _holders() -> dict[str, list[type]]:
    """Group or section → whose keys stand below it: its options, or itself."""
    groups = {group: list(options.values()) for group, options in registry.groups().items()}
    return groups | {name: [cls] for name, cls in sections().items()}


@cache
def _declared() -> dict[str, Role]:
    """Key → its role, of those that have one."""
    found: dict[str, Role] = {}
    holders = _holders()
    for f in fields(Config):
        own = f.metadata.get("role", "")
        found[f.name] = own
        for inner in (inner for holder in holders.get(f.name, []) for inner in fields(holder)):
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
    return any(hint in (str, str | None) for hint in _types().get(name.lstrip("+~").split("@")[0], []))


def names_numbers(name: str) -> bool:
    """Whether a key holds numbers by names of the user's own; a name with a prefix (`+`) is none."""
    return dict[str, float] in _types().get(name, [])


@cache
def _types() -> dict[str, list[Any]]:
    """Key → its types, one for each option that has it."""
    found: dict[str, list[Any]] = {name: [hint] for name, hint in get_type_hints(Config).items()}
    for name, holders in _holders().items():
        for inner, hint in (pair for holder in holders for pair in get_type_hints(holder).items()):
            found.setdefault(f"{name}.{inner}", []).append(hint)
    return found


def make_absolute(raw: DictConfig) -> None:
    """Make the paths of a config absolute, because a run may be resumed and compared from other folders."""
    cls: Any = OmegaConf.get_type(raw)
    for f in fields(cls) if is_dataclass(cls) else ():
        for declared, absolute in (("path", lambda path: str(expanded(path))), ("address", address_from_root)):
            if f.metadata.get(declared) and raw[f.name]:
                raw[f.name] = absolute(raw[f.name])
    for name in list(raw):  # its parts, and theirs
        part = raw._get_node(name)
        if isinstance(part, DictConfig) and not (part._is_none() or part._is_missing() or part._is_interpolation()):
            make_absolute(part)
