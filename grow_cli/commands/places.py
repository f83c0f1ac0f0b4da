"""Finds keys by their last name at any level: `lr` is `optimizer.lr`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from omegaconf import DictConfig, OmegaConf

from grow_cli import registry
from grow_cli.config import GROUP_KEYS, Config
from grow_cli.schema import declared_by, sections


@dataclass(frozen=True)
class Place:
    """A key, with the options of its group that have it."""

    address: str
    group: str = ""
    options: tuple[str, ...] = ()


@cache
def _all() -> dict[str, list[Place]]:
    """Last part of a key → where it is."""
    found: dict[str, list[Place]] = {
        name: [Place(name)] for name in declared_by(Config) if name not in (*GROUP_KEYS, *sections())
    }
    for section, cls in sections().items():
        for name in declared_by(cls):
            found.setdefault(name, []).append(Place(f"{section}.{name}"))
    for group, options in registry.groups().items():
        having: dict[str, list[str]] = {}
        for option, cls in sorted(options.items()):
            for name in declared_by(cls):
                having.setdefault(name, []).append(option)
        for name, of in having.items():
            found.setdefault(name, []).append(Place(f"{group}.{name}", group, tuple(of)))
    return found


def places(name: str) -> list[Place]:
    """The keys whose last part is exactly this."""
    return _all().get(name, [])


def addresses() -> frozenset[str]:
    """Every key as it is typed, whatever options are chosen."""
    return frozenset(place.address for found in _all().values() for place in found)


def near(word: str, names: Iterable[str], n: int = 1) -> list[str]:
    """The names that are spelt much like a word."""
    return get_close_matches(word, list(names), n=n)


def lines(name: str, value: str, chosen: DictConfig | None) -> list[str]:
    """The words to type for each key whose last part is `name`, with another option if no chosen one has it.

    :param value: what stands after the =
    :param chosen: the composed run, if it could be composed
    """
    found, elsewhere = [], []
    for place in places(name):
        word = shlex.quote(f"{place.address}={value}")
        if not place.group or (chosen is not None and name in declared_by(option_in(chosen, place.group))):
            found.append(word)
        else:
            elsewhere += [f"{place.group}={option} {word}" for option in place.options]
    return found or elsewhere


def option_in(chosen: DictConfig, group: str) -> type:
    """The dataclass of a chosen option; that of a preset is that of the option behind it."""
    cls = OmegaConf.get_type(chosen[group])
    assert cls is not None, "an option has a schema"
    return cls


def alike(word: str, value: str, chosen: DictConfig | None) -> list[str]:
    """The same for the names that hold the word as a part (`units`: max_units), or else are spelt like it."""
    parts = [name for name in _all() if word in name.split("_")]
    return [line for name in parts or near(word, _all()) for line in lines(name, value, chosen)]
