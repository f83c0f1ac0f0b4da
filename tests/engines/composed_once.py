"""Hydra composes the first job of a sweep, and the others get a copy with their seed: composing takes longer than all else."""

from __future__ import annotations

import copy
from collections.abc import Callable

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, flag_override


def copies(compose: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """In place of `ConfigLoaderImpl.load_sweep_config`."""
    first: list[DictConfig] = []

    def copied(self: object, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        if not first:
            first.append(compose(self, master_config, sweep_overrides))
        config = copy.deepcopy(first[0])
        with flag_override(config, ["readonly", "struct"], False):
            config.hydra.overrides.task = list(sweep_overrides)
            config.seed = next(int(o.partition("=")[2]) for o in sweep_overrides if o.startswith("seed="))
        return config

    return copied


def in_this_process() -> None:
    """From now on: for a process that the test begins."""
    ConfigLoaderImpl.load_sweep_config = copies(ConfigLoaderImpl.load_sweep_config)  # type: ignore[method-assign]
