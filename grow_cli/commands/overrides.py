"""Shared by the commands that take a run folder: the folder, and its config with the keys typed after it.

Hydra is imported where its grammar is needed, so that the commands that take a folder alone do not wait for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grow_cli import config as configuration
from grow_cli.config import Config
from grow_cli.errors import UserError, first_line
from grow_cli.files import is_there
from grow_cli.records.configs import typed as typed_config
from grow_cli.records.folder import RunFolder, runs_below
from grow_cli.records.grammar import key_of
from grow_cli.records.named import named


def existing(path: Path) -> RunFolder:
    """The run folder, by its path or name; UserError that names the runs below it if it is none."""
    path = named(path)
    folder = RunFolder(path)
    if not folder.claimed:
        runs = runs_below(path)
        hint = f"did you mean {runs[-1]}?" if runs else "name a folder that `grow train` wrote"
        if len(runs) > 1:
            hint = f"it holds {len(runs)} runs: name one of them, like {runs[0]}"
        why = "it has no .hydra/config.yaml" if is_there(path) else "there is no such folder"
        raise UserError(f"{path} is not a run folder ({why}): {hint}")
    return folder


def several(word: str, command: str, own: Mapping[str, str]) -> bool:
    """Whether a KEY=VALUE word has several values; UserError where it cannot be read, or where the command sets the key itself.

    :param own: such keys, and the options by which they are given
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key = key_of(word)
    if key in own:
        raise UserError(f"{word}: {command} sets {key} itself: use {own[key]}")
    try:
        return bool(OverridesParser.create().parse_override(word).is_sweep_override())
    except HydraException as error:
        raise UserError(f"{word} cannot be read: options are given as KEY=VALUE") from error


def only(overrides: Collection[str], allowed: list[str], why: str) -> None:
    """UserError for a mistyped word or a key that may not be given; a key that holds others allows these as well."""
    from grow_cli.commands.mistyped import refuse_mistyped

    refuse_mistyped(list(overrides))
    for override in overrides:
        key = override.split("=")[0]
        if key not in allowed and key.split(".")[0] not in allowed:
            raise UserError(f"{override}: {why}; only {', '.join(allowed)} can be given")


def config_of(folder: RunFolder, overrides: Collection[str] = ()) -> Config:
    """The run's config, typed by the schemas again and checked, with KEY=VALUE overrides; UserError where it cannot be."""
    typed = with_overrides(folder, overrides)
    try:
        return configuration.build(typed)
    except (UserError, OmegaConfBaseException) as error:
        if overrides and isinstance(error, UserError):
            raise
        raise UserError(f"{folder.hydra}/config.yaml: {first_line(error)}") from error


def with_overrides(folder: RunFolder, overrides: Collection[str]) -> DictConfig:
    """The run's config, typed by the schemas again, with KEY=VALUE overrides."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from grow_cli.commands.composition import literal

    typed = typed_config(folder.config(), folder.hydra / "config.yaml")
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals:
            raise UserError(f"{override}: write KEY=VALUE")
        if key in configuration.GROUP_KEYS:
            raise UserError(f"{override}: a trained run keeps its {key}; set single keys of it instead")
        try:
            # as `grow train` does: off is a word
            read = OverridesParser.create().parse_override(literal(override)).value()
            OmegaConf.update(typed, key, read, force_add=False)
        except HydraException as error:
            raise UserError(
                f"{override} cannot be read: write KEY=VALUE, and quote special characters, like 'key=\"a b\"'"
            ) from error
        except OmegaConfBaseException as error:
            raise UserError(f"{override}: {first_line(error)}") from error
    return typed
