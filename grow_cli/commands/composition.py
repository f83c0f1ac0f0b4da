"""Composing a configuration with Hydra: schemas, plugins' YAML files, lists of loggers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from grow_cli import config as configuration
from grow_cli import registry
from grow_cli.errors import UserError
from grow_cli.records.grammar import key_of
from grow_cli.schema import is_text, names_numbers

CONVOLUTIONAL = {"residual_mlp": "residual_cnn", "mlp_tiny": "cnn_tiny"}
"""Model → the one that takes its place on photographs."""


def _net(dataset: str, model: str) -> str:
    """`${grow.net:${dataset},MODEL}` in a defaults list: what a method brings along for `dataset=...`.

    A YAML file of the user's, whose name is no registered dataset, is taken to hold none.
    """
    known = registry.groups()["dataset"].get(dataset)
    return CONVOLUTIONAL[model] if getattr(known, "photographs", False) else model


# at import: whatever composes imports this module, a launcher's worker and completion too
OmegaConf.register_new_resolver("grow.net", _net, replace=True)


def plugins(beside: Sequence[Path] = ()) -> list[str]:
    """The override that adds the plugins' YAML files, and those in other folders, to Hydra's search path."""
    folders = [f"file://{folder}" for folder in (*registry.config_folders()[1:], *beside)]
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
        raise UserError(f"{argument}: {wrong or 'nothing'} is not a logger: choose from {', '.join(sorted(known))}")
    return ["logger=several", *(f"+logger@logger.of.{name}={name}" for name in dict.fromkeys(names))]


def named_numbers(argument: str) -> str:
    """`sweep.resources={big_memory:1}` as Hydra takes it: names that the configuration does not have are added."""
    return f"++{argument}" if names_numbers(argument.partition("=")[0]) else argument


def literal(argument: str) -> str:
    """An override whose key takes text, quoted where Hydra would take the text for a number or a truth value.

    `run_dir=2024_11_25` is a folder of that name, and not 20241125; `label=1_0,10` are two labels.
    """
    name, equals, value = argument.partition("=")
    if not equals or set(value) & set("'\"[]{}()$\\") or not is_text(name):
        return argument
    return f"{name}={','.join(map(_quoted, value.split(',')))}"


def _quoted(word: str) -> str:
    try:
        read = OverridesParser.create().parse_override(f"key={word}").value()
    except HydraException:  # said where it is read
        return word
    return f"'{word.strip()}'" if isinstance(read, bool | int | float) else word


def flags_first(arguments: list[str]) -> list[str]:
    """The same with -m before the overrides, where Hydra reads it; UserError for an unknown flag."""

    def refuse(message: str) -> NoReturn:
        raise UserError(f"grow train: {message} (`grow train --help` says more)")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_intermixed_args(arguments)
    multirun = [argument for argument in arguments if argument in ("-m", "--multirun")]
    return multirun[:1] + [argument for argument in arguments if argument not in multirun]


def words(overrides: list[str]) -> list[str]:
    """What was typed, as Hydra is to read it."""
    return [named_numbers(literal(word)) for override in overrides for word in loggers(override)]


_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")


def refuse_two_folders(arguments: list[str]) -> None:
    """UserError where run_dir is given beside Hydra's own key of the same folder: one of them would be ignored."""
    keys = {key_of(word): word for word in arguments if "=" in word}
    given = next((keys[name] for name in _FOLDERS if name in keys), None)
    if given is not None and "run_dir" in keys:
        raise UserError(
            f"{keys['run_dir']} and {given} both set the folder, and one would be ignored: leave one of them out"
        )


def composed(overrides: list[str], *, with_hydra: bool = False, beside: Sequence[Path] = ()) -> DictConfig:
    """What `grow train OVERRIDES` composes, lists of loggers among them; `with_hydra` with Hydra's own section, too.

    :param beside: other folders of YAML files, as --config-dir names one
    """
    prepare_hydra()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(registry.config_folders()[0])):
        return hydra.compose("train", overrides=[*plugins(beside), *words(overrides)], return_hydra_config=with_hydra)


def take_hydra(raw: DictConfig) -> DictConfig:
    """Hydra's own section of a config that was composed with it, taken out of it, as `.hydra/hydra.yaml` holds it."""
    section = OmegaConf.create({"hydra": raw.hydra})
    with open_dict(raw):
        del raw["hydra"]
    return section


def prepare_hydra() -> None:
    """Schemas, and errors that come out as exceptions instead of Hydra's printing and exiting."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    configuration.register_schemas()
