"""Composing a configuration with Hydra: schemas, plugins' YAML files, lists of loggers."""

from __future__ import annotations

import os
import re

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from grow_cli import config as configuration
from grow_cli import registry
from grow_cli.errors import UserError


def plugins() -> list[str]:
    """The override that makes Hydra look for the plugins' YAML files, too."""
    folders = [f"file://{folder}" for folder in registry.config_folders()[1:]]
    return [f"hydra.searchpath=[{','.join(folders)}]"] if folders else []


def loggers(argument: str) -> list[str]:
    """`logger=[csv,wandb]` as Hydra composes it: several loggers below one, each by its name."""
    found = re.fullmatch(r"logger=\[([\w,\s]*)\]", argument)
    if found is None:
        return [argument]
    names = [name.strip() for name in found[1].split(",") if name.strip()]
    known = [name for name in registry.groups()["logger"] if name != "several"]
    wrong = next((name for name in names if name not in known), None)
    if wrong is not None or not names:
        raise UserError(f"{argument}: {wrong or 'nothing'} is no logger: choose from {', '.join(sorted(known))}")
    return ["logger=several", *(f"+logger@logger.of.{name}={name}" for name in dict.fromkeys(names))]


_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")


def refuse_two_folders(arguments: list[str]) -> None:
    """UserError where run_dir is given beside Hydra's own key of the same folder: one of them would be ignored."""
    keys = {word.lstrip("+~").partition("=")[0]: word for word in arguments if "=" in word}
    given = next((keys[name] for name in _FOLDERS if name in keys), None)
    if given is not None and "run_dir" in keys:
        raise UserError(
            f"{keys['run_dir']} and {given} both name the folder, and one would be ignored: leave out either"
        )


def composed(overrides: list[str]) -> DictConfig:
    """What `grow train OVERRIDES` composes, lists of loggers among them."""
    prepare_hydra()
    words = [word for override in overrides for word in loggers(override)]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(registry.config_folders()[0])):
        return hydra.compose("train", overrides=[*plugins(), *words])


def prepare_hydra() -> None:
    """Schemas, and errors that come out as exceptions instead of Hydra's printing and exiting."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    configuration.register_schemas()
