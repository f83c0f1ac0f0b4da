"""An unknown key: what the user may have meant, as the line to type."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from omegaconf import DictConfig, OmegaConf

from grow_cli import registry
from grow_cli.commands.choices import GROUPS
from grow_cli.commands.composition import composed
from grow_cli.commands.places import alike, lines, near, option_in
from grow_cli.config import Config
from grow_cli.records.grammar import key_of
from grow_cli.schema import declared_by, sections

_SOME = 4
"""Lines that a sentence offers at most."""
_SEVERAL = re.compile(r"^[^\[{]*,|^(choice|glob)\(")
"""A choice that is a sweep of several."""


def unknown_key(key: str, arguments: list[str]) -> str:
    """The sentence for a key that no chosen part has."""
    parent, _, leaf = key.rpartition(".")
    chosen = chosen_by(arguments)
    value = next((a.partition("=")[2] for a in arguments if key_of(a) == key), "")
    if parent in registry.groups():
        return _in_group(parent, leaf, value, chosen) if chosen is not None else _in_a_sweep(parent, leaf, arguments)
    if parent in sections():
        return _no_such_key(parent, leaf, value, list(declared_by(sections()[parent])), chosen)
    part = OmegaConf.select(chosen, parent) if parent and chosen is not None else None
    held = [str(name) for name in part if name != "name"] if isinstance(part, DictConfig) else []
    if held:  # a part of a part, like trigger.of.plateau
        return f"{parent} has no key {leaf}{_did_you_mean(near(leaf, held))}; its keys are {', '.join(held)}"
    return _at_the_root(key, leaf, value, chosen)


def chosen_by(arguments: list[str]) -> DictConfig | None:
    """The run that the choices among the arguments compose to, whatever else is wrong; None where they do not compose."""
    choices = [a for a in arguments if key_of(a).partition("@")[0] in GROUPS]
    try:
        return composed(choices)
    except Exception:  # whatever is wrong with them
        return None


def _having(group: str, leaf: str) -> str:
    options = sorted(registry.groups()[group].items())
    return " or ".join(f"{group}={name}" for name, cls in options if leaf in declared_by(cls))


def _in_a_sweep(group: str, leaf: str, arguments: list[str]) -> str:
    """The choices do not compose to one run: of a sweep Hydra reads all keys before it chooses what is swept over."""
    having = _having(group, leaf)
    swept = [key_of(a) for a in arguments if key_of(a) in GROUPS and _SEVERAL.search(a.partition("=")[2])]
    if not having or not swept:
        allowed = f"it is one of {having}" if having else f"no option of {group} has it"
        return f"{group}.{leaf} is not a key of the chosen {group}: {allowed}"
    if group in swept:
        return f"{group}.{leaf} is a key of {having} alone, so a sweep over {group} cannot set it: make a sweep of {having}"
    return f"{group}.{leaf} is read before the sweep over {swept[0]} chooses a {group}: type {having} as well"


def _in_group(group: str, leaf: str, value: str, chosen: DictConfig) -> str:
    having = _having(group, leaf)
    known = list(declared_by(option_in(chosen, group)))
    name = f"{group}={chosen[group].name}"
    if having:  # no other name was meant
        return f"{name} has no key {leaf}, which {having} has; the keys of {name} are {', '.join(known) or 'none'}"
    return _no_such_key(name, leaf, value, known, chosen)


def _no_such_key(part: str, leaf: str, value: str, known: list[str], chosen: DictConfig | None) -> str:
    # a similar key of the same part, or else a key of another part with exactly this name
    meant = _did_you_mean(near(leaf, known) or lines(leaf, value, chosen))
    nearest_first = sorted(known, key=lambda name: -SequenceMatcher(None, leaf, name).ratio())
    return f"{part} has no key {leaf}{meant}; its keys are {', '.join(nearest_first) or 'none'}"


def _at_the_root(key: str, leaf: str, value: str, chosen: DictConfig | None) -> str:
    told = f"{key} is not a key of the configuration"
    exact = lines(leaf, value, chosen)
    near_root = near(key, [*declared_by(Config), *GROUPS])
    meant = exact or [f"{name}={value}" for name in near_root] or alike(leaf, value, chosen)
    return f"{told}{_did_you_mean(meant)}; `grow list keys` and `grow train --cfg job` show all keys"


def _did_you_mean(words: list[str]) -> str:
    return f" (did you mean {' or '.join(words[:_SOME])}?)" if words else ""
