"""`init=RUN`: the net of another run, with which a run begins."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from grow_cli import registry
from grow_cli.errors import UserError
from grow_cli.files import expanded
from grow_cli.records.configs import as_data
from grow_cli.records.folder import RunFolder
from grow_cli.records.grammar import key_of
from grow_cli.records.named import named


def take_model(raw: DictConfig) -> None:
    """Make `init` the file that is meant, and `model` what its net is, so that the config says with which net the run begins.

    UserError where there is no such net, or where it is no option's.
    """
    if not raw.init:
        return
    from grow_cli.training import checkpoint

    file = net_of(Path(raw.init))
    settings = checkpoint.read(file)["architecture"]["model"]
    cls = registry.groups()["model"].get(settings["name"])
    if cls is None:
        raise UserError(
            f"init={raw.init}: its net is a module of a Python program's own: go on with it there, by grow.fit(run.net, ...)"
        )
    raw.init = str(file)
    raw.model = OmegaConf.merge(OmegaConf.structured(cls), as_data(settings))


def net_of(given: Path) -> Path:
    """The checkpoint that a run, by its path or name, or a file of one stands for; UserError where there is none."""
    if given.suffix == ".pt":
        return expanded(given)
    path = named(expanded(given) if given.as_posix().startswith("~") else given)
    if not RunFolder(path).claimed:
        raise UserError(f"init={given}: it is no run folder, nor a checkpoint: name a run, or a .pt file of one")
    return (path / "checkpoints" / "last.pt").absolute()


def refuse_own_model(overrides: Collection[str], init: str | None) -> None:
    """UserError where a model was typed beside the net to begin with."""
    for override in overrides if init else ():
        if key_of(override).split(".")[0] == "model":
            raise UserError(
                f"{override} and init={init}: the run begins with the net that is there: leave one of them out"
            )
