"""Hydra's and OmegaConf's errors, for a person: one sentence with key, value and what is allowed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from grow_cli import registry
from grow_cli.commands.choices import describe
from grow_cli.commands.places import near
from grow_cli.commands.unknown_keys import unknown_key
from grow_cli.errors import UserError

# Hydra group → option of a plugin → the extra of this package that brings it
PLUGINS = {
    "hydra/launcher": {"joblib": "joblib"},
}


_OWN = {
    ".csv": "dataset=table dataset.path={} dataset.target=COLUMN",
    ".tsv": "dataset=table dataset.path={} dataset.target=COLUMN",
    ".parquet": "dataset=table dataset.path={} dataset.target=COLUMN",
    ".npz": "dataset=arrays dataset.path={} (or dataset=table with dataset.target=COLUMN, if it has an array per column)",
    ".pt": "dataset=arrays dataset.path={}",
}
"""Suffix of a user's file → what to type."""

_OWN_DATA = (
    "; for data of your own use dataset=table dataset.path=FILE dataset.target=COLUMN, dataset=arrays dataset.path=FILE, "
    "dataset=image_folder dataset.path=DIR, dataset=huggingface dataset.path=DIR_OR_NAME, or dataset=text dataset.root=DIR "
    "model=gpt"
)


@contextmanager
def explained(arguments: list[str]) -> Iterator[None]:
    """What Hydra and OmegaConf raise inside it as UserError."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, arguments)) from error


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
        return (
            f"{group}={name} does not exist: choose from {', '.join(_options(group))}{_nearest(name, _options(group))}"
            + _OWN_DATA * (group == "dataset")
        )
    foreign = re.search(r"In '([\w/]+)/(\w+)': ConfigKeyError .*Key '(\w+)' not in '(\w+)'", text, re.DOTALL)
    if foreign:
        return _foreign_key(*foreign.groups())
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        return unknown_key(unknown[1], arguments)
    several = re.search(r"(?:Ambiguous value for argument|Sweep parameters) '([^']+)'", text)
    if several:
        line = f"{several[1]}: several values are a sweep: `grow train -m {shlex.quote(several[1])} ...`"
        return line + "; a list is written KEY=[A,B]" * ("," in several[1] and "(" not in several[1])
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
        return f"{asked}: there is no such file or folder; `grow list dataset` shows the names of datasets"
    if Path(path).is_dir():
        return (
            f"{asked} is a folder, not the name of a dataset: type dataset=image_folder dataset.path={path} for "
            f"images, or dataset=text dataset.root={path} model=gpt for texts"
        )
    line = _OWN.get(Path(path).suffix.lower())
    if line is None:
        return f"{asked} is a file that no dataset reads: give {', '.join(_OWN)}, or a folder of images"
    return f"{asked} is a file, not the name of a dataset: type {line.format(path)}"


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
    found = near(name, candidates)
    return f" (did you mean {found[0]}?)" if found else ""


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
        f"{chosen}={name} sets {group}.{key}, which {group}={option} does not have: leave out one of them, and give the "
        f"other keys of {name} yourself (`grow train --cfg job {chosen}={name}` shows them)"
    )
