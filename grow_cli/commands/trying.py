"""The configuration side of `grow tune`: the recipe and its space, checked; a trial's runs; the winner as an experiment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grow_cli import config as configuration
from grow_cli.analysis.runs import nothing_held_out
from grow_cli.commands.composition import composed, take_hydra
from grow_cli.commands.hydra_errors import explained
from grow_cli.commands.overrides import config_of
from grow_cli.commands.train import begin, built, checked, go_on, located
from grow_cli.errors import Crashed, TrainingFailed, UserError, first_line
from grow_cli.files import write_text
from grow_cli.keys import OF_THE_RUN
from grow_cli.records.configs import as_plain
from grow_cli.records.flat import flatten
from grow_cli.records.folder import RunFolder
from grow_cli.schema import role_of
from grow_cli.tuning.space import Space, default_space, fitted, override, overrides_of, read_space
from grow_cli.tuning.study import Result, Trial
from grow_cli.tuning.trials import Tuned, experiment_file, pruned, result, run_folder

_CHOSEN = tuple(group for group in configuration.GROUP_KEYS if group != "logger")
_SPLITS = ("train", "val")
"""That a trial's runs are measured on: no test split is read for one."""


@dataclass(frozen=True)
class Asked:
    """The search of one method."""

    space: Space
    recipe: dict[str, Any] | None
    """The values of the space's keys without a search; None where they lie outside of it."""


def read(source: str, words: list[str], default: str) -> Asked:
    """The space of `--space` for a recipe; UserError in one sentence for what cannot be searched, before anything is trained."""
    raw = _composed(words)
    config = checked(raw.copy())
    if nothing_held_out({"dataset": vars(config.dataset)}):
        raise UserError(
            "dataset.validation=0 leaves no validation data to select by: hold a part out, such as dataset.validation=0.1"
        )
    space = default_space(config) if source == default else read_space(Path(source))
    space = fitted(space, config)
    for key, part in space.items():
        for value in part.edges:
            _try(raw, words, key, value)
    values = {key: OmegaConf.select(raw, key) if "." in key or key not in _CHOSEN else raw[key].name for key in space}
    plain = {key: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for key, v in values.items()}
    return Asked(space, plain if all(space[key].holds(value) for key, value in plain.items()) else None)


def _try(raw: DictConfig, words: list[str], key: str, value: Any) -> None:
    """UserError where a run with this value could not begin."""
    word = override(key, value)
    if key in configuration.GROUP_KEYS:
        configuration.check_run(configuration.build(_composed([*words, word])))
        return
    copy = raw.copy()
    try:
        OmegaConf.update(copy, key, value, force_add=False)
    except OmegaConfBaseException as error:
        _composed([*words, word])  # it says which keys there are
        raise UserError(f"{word}: {first_line(error)}") from error
    configuration.check_run(configuration.build(copy))


def _composed(words: list[str]) -> DictConfig:
    with explained(words):
        return composed(words)


Hopeless = Callable[[int, float], bool]
"""Whether to stop a run after this many evaluations with this best score."""


def train(trial: Trial, words: list[str], seeds: list[int], hopeless: Hopeless | None = None) -> Result:
    """Train those runs of a trial that are not trained yet; a training that fails by itself is the trial's result.

    :param hopeless: asked about the first run: all trials are held against each other with the same seed
    """
    found = []
    for seed in seeds:
        asked = hopeless if seed == seeds[0] else None
        found.append(_run(run_folder(trial, seed), [*words, *overrides_of(trial.values), f"seed={seed}"], asked))
        if found[-1].get("status") == "failed" or pruned(found[-1]):
            break
    return result(found)


def _run(folder: RunFolder, words: list[str], hopeless: Hopeless | None) -> dict[str, Any]:
    there = folder.read_summary()
    if there.get("status") in ("finished", "failed"):
        return there
    try:
        if folder.claimed:
            return go_on(config_of(folder), folder, splits=_SPLITS, hopeless=hopeless)
        raw = composed(words, with_hydra=True)
        files = {"config": raw, "hydra": take_hydra(raw), "overrides": words}
        return begin(built(raw), folder, files, splits=_SPLITS, hopeless=hopeless)
    except Crashed:
        raise
    except TrainingFailed:
        if folder.read_summary().get("status") != "failed":
            raise
        return folder.read_summary()


def method_of(words: list[str]) -> str:
    """The one that is used where none is named."""
    return str(_choices(words)["method"])


def _choices(words: list[str], beside: Path | None = None) -> dict[str, Any]:
    folders = [beside] if beside else []
    return dict(composed(words, with_hydra=True, beside=folders).hydra.runtime.choices)


def write_experiment(tuned: Tuned, folder: Path, comment: str) -> str | None:
    """FOLDER/experiment/METHOD.yaml, by which the winner is trained; its name, or None where no such file says the same.

    It is composed, and compared with what was trained, before it is kept.
    """
    chosen = _choices(tuned.words)
    choices = {group: str(chosen[group]) for group in _CHOSEN}
    wanted = _flat(composed(tuned.words))
    plain = _flat(composed([f"{group}={name}" for group, name in choices.items()]))
    missing = object()
    keys = {key: value for key, value in wanted.items() if plain.get(key, missing) != value}
    if wanted["init"]:  # it brings the model
        keys = {key: value for key, value in keys.items() if not key.startswith("model.")}
    if tuned.best is not None:  # though they may be today's defaults
        keys |= {key: value for key, value in tuned.best.values.items() if key not in choices}
    keys |= {f"tuned.{key}": value for key, value in tuned.cost().items()}
    path = folder / "experiment" / f"{tuned.name}.yaml"
    path.parent.mkdir(exist_ok=True)
    write_text(path, experiment_file(choices, keys, comment))
    try:
        same = _flat(composed([f"experiment={tuned.name}"], beside=[folder.absolute()])) == wanted
    except (HydraException, OmegaConfBaseException):
        same = False
    if not same:
        path.unlink()
    return tuned.name if same else None


def _flat(raw: DictConfig) -> dict[str, Any]:
    """What makes a run what it is, by key; the seed, and where things are, are whoever's that trains it."""
    located(raw)
    kept = (*OF_THE_RUN, "data")
    return {key: value for key, value in flatten(as_plain(raw)).items() if role_of(key) in kept and key != "seed"}
