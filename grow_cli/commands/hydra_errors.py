"""Hydra's and OmegaConf's errors, for a person: one sentence with key, value and what is allowed."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from grow_cli import config as configuration
from grow_cli import registry
from grow_cli.commands.composition import composed
from grow_cli.commands.listing import describe

# Hydra group → option of a plugin → the extra of this package that brings it
PLUGINS = {
    "hydra/launcher": {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"},
    "hydra/sweeper": {"optuna": "optuna"},
    "hydra/sweeper/sampler": {"tpe": "optuna"},
}


_OWN = {
    ".csv": "dataset=table dataset.path={} dataset.target=COLUMN",
    ".tsv": "dataset=table dataset.path={} dataset.target=COLUMN",
    ".parquet": "dataset=table dataset.path={} dataset.target=COLUMN",
    ".npz": "dataset=arrays dataset.path={} (or dataset=table with dataset.target=COLUMN, if it has an array per column)",
    ".pt": "dataset=arrays dataset.path={}",
}
"""Suffix of a user's file → what to type."""


def explain(error: Exception, arguments: list[str]) -> str:
    """Hydra's and OmegaConf's errors as one sentence with key, value and what is allowed."""
    chain: list[str] = []
    reason: BaseException | None = error
    while reason is not None:
        chain.append(str(reason))
        reason = reason.__cause__
    text = "\n".join(chain)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "Could not find 'dataset/" in text:
        asked = next((a for a in arguments if a.startswith("dataset=")), "")
        path = asked.partition("=")[2]
        if path and (Path(path).exists() or "/" in path or Path(path).suffix in _OWN):
            return _path_for_a_name(asked, path)
    missing = re.search(r"Could not find '([\w/]+)/([^'/]+)'", text)
    if missing:
        group, name = missing.groups()
        if name in PLUGINS.get(group, {}):
            extra = PLUGINS[group][name]
            chosen = next((a for a in arguments if a.startswith("sweep=")), f"{group}={name}")
            return f"{chosen} needs a package that is not installed: pip install 'grow-cli[{extra}]'"
        own = "; files of your own are dataset=table, arrays or image_folder with dataset.path=PATH"
        return (
            f"{group}={name} does not exist: choose from {', '.join(_options(group))}{_nearest(name, _options(group))}"
            + own * (group == "dataset")
        )
    foreign = re.search(r"In '([\w/]+)/(\w+)': ConfigKeyError .*Key '(\w+)' not in '(\w+)'", text, re.DOTALL)
    if foreign:
        return _foreign_key(*foreign.groups())
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        return _unknown_key(unknown[1], arguments)
    several = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if several:
        return (
            f"{several[1]}: several values are a sweep: `grow train -m {several[1]} ...`; a list is written KEY=[A,B]"
        )
    no_list = re.search(r"Error merging override (\S+)=(\S*)\s.*is not a ListConfig", text, re.DOTALL)
    if no_list:
        return f"{no_list[1]}={no_list[2]}: must be a list, {no_list[1]}=[{no_list[2]}]"
    not_null = re.search(r"Error merging override (\S+)=null\s.*is not Optional", text, re.DOTALL)
    if not_null:
        return f"{not_null[1]}=null: must have a value"
    value = re.search(r"((?:Value|Cannot) .*)", text)
    key = re.search(r"full_key: (\S+)", text)
    if value and key:
        return f"{key[1]}: {value[1][0].lower()}{value[1][1:]}"
    for before, argument in pairwise(["", *arguments]):
        if not argument.startswith("-") and before not in ("--cfg", "-c") and not _readable(argument):
            return f"{argument} cannot be read: write KEY=VALUE, and quote special characters, like 'key=\"a b\"'"
    noise = ("full_key", "object_type", "reference_type", "Set the env")
    return " ".join(line for line in lines if not line.startswith(noise))


def _path_for_a_name(asked: str, path: str) -> str:
    """A file or folder was typed where a dataset's name belongs."""
    if not Path(path).exists():
        return f"{asked}: there is no such file or folder, and `grow list dataset` shows the names that can stand here"
    if Path(path).is_dir():
        return (
            f"{asked} is a folder, and a dataset's name belongs here: type dataset=image_folder dataset.path={path} for "
            f"images, or dataset=text dataset.root={path} model=gpt for texts"
        )
    line = _OWN.get(Path(path).suffix.lower())
    if line is None:
        return f"{asked} is a file that no dataset reads: give {', '.join(_OWN)}, or a folder of images"
    return f"{asked} is a file, and a dataset's name belongs here: type {line.format(path)}"


def _readable(argument: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True


def _options(group: str) -> list[str]:
    return list(describe(group)) or ["basic", *PLUGINS.get(group, {})]


def _nearest(name: str, candidates: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, candidates, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _foreign_key(chosen: str, name: str, key: str, holder: str) -> str:
    """An experiment sets a key of another option than the one that was asked for."""
    found = (
        (group, option)
        for group, of in registry.groups().items()
        for option, cls in of.items()
        if cls.__name__ == holder
    )
    group, option = next(found, (holder, ""))
    return (
        f"{chosen}={name} sets {group}.{key}, which {group}={option} does not have: leave out either, and type what else you "
        f"need of {name} by hand (`grow train --cfg job {chosen}={name}` shows it)"
    )


def _unknown_key(key: str, arguments: list[str]) -> str:
    parent, _, leaf = key.rpartition(".")
    options = registry.groups().get(parent, {})
    having = " or ".join(f"{parent}={name}" for name, cls in sorted(options.items()) if leaf in _keys_of(cls))
    if options:
        chosen = _chosen(parent, key, arguments)
        if chosen not in options:
            allowed = f"it is one of {having}" if having else f"no option of {parent} has it"
            return f"{key} is not a key of the {parent} that is in use: {allowed}"
        parent, known = f"{parent}={chosen}", _keys_of(options[chosen])
    else:
        holder: Any = configuration.Config if not parent else getattr(configuration, parent.capitalize(), None)
        known = _keys_of(holder) if is_dataclass(holder) else []
    where = f"{parent} has no key {leaf}" if parent else f"{leaf} is not a key of the configuration"
    where += f", which {having} has" if having else ""
    near = sorted(known, key=lambda name: -SequenceMatcher(None, leaf, name).ratio())
    allowed = f"; its keys are {', '.join(near) or 'none'}" if parent else "; `grow train --cfg job` shows all keys"
    return f"{where}{_nearest(leaf, known)}{allowed}"


def _keys_of(cls: Any) -> list[str]:
    return [f.name for f in fields(cls) if f.name != "name"]


def _chosen(group: str, key: str, arguments: list[str]) -> str | None:
    """The option of a group that all arguments but this key's compose to; None where they do not compose."""
    others = [a for a in arguments if not a.startswith("-") and a.split("=")[0].lstrip("+~") != key]
    try:
        return str(composed([a for a in others if not a.startswith("hydra")])[group].name)
    except Exception:  # whatever else is wrong with them
        return None
