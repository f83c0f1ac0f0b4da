"""`grow.fit`: a user's module and data, trained and grown like any other run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from grow_cli.api.given import DATA, given_data, given_module, raw_data
from grow_cli.api.guard import composing
from grow_cli.api.overrides import typed
from grow_cli.api.results import Run
from grow_cli.api.running import folder_of, prepared, trained
from grow_cli.commands.train import checked
from grow_cli.config import Config
from grow_cli.data.base import DataSpec, RawData
from grow_cli.errors import UserError
from grow_cli.models.modules.traced import Template, lent, template_of
from grow_cli.records.folder import RunFolder

_NOT_HERE = ("dataset=", "model=", "model.", "experiment=", "+experiment=")


def fit(
    module: nn.Module,
    train: Any,
    val: Any = None,
    test: Any = None,
    *,
    overrides: str | Iterable[str] = (),
    resume: bool = False,
    **keys: Any,
) -> Run:
    """Train and grow your own module; `run.module` is the grown one, and the one passed is unchanged.

        grow.fit(net, (x, y), (x_val, y_val), method="tiny", trigger="every", stop={"epochs": 20})

    UserError if the module cannot be traced, or has nothing that the method could grow.

    :param train: a TensorDataset, or a pair (x, y) of tensors or arrays: x (n, d) or (n, C, H, W), y whole numbers (classes)
        or others (a regression)
    :param val: likewise; None: `dataset.validation` of the training samples are held out
    :param test: likewise; measured once, at the end; None: nothing is
    :param overrides: keys as for `grow.train`, and `keys` are the same as keywords
    :param resume: continue the interrupted run in `run_dir`, of the same module, data and keys
    """
    words = typed(overrides, keys)
    taken = next((word for word in words if word.startswith(_NOT_HERE)), None)
    if taken is not None:
        raise UserError(f"{taken}: grow.fit trains the module and the data that you pass; leave the key out")
    first = raw_data(train, val, test)
    template = _template(module, first)
    raw = raw_data(train, val, test, classes=template.ends.outputs)
    return run_on(raw, words, template=template, resume=resume)


def _template(module: nn.Module, raw: RawData) -> Template:
    """Traced on the data's shape; the module may know of more classes than the targets show."""
    outputs = len(raw.classes) if raw.task == "classification" else raw.train_y.shape[1]
    ends = DataSpec(DATA, raw.task, tuple(raw.train_x.shape[1:]), outputs)
    return template_of(module, ends)


def run_on(raw: RawData, words: list[str], *, template: Template | None = None, resume: bool = False) -> Run:
    """A run on samples from memory: of the template's module, or of the model that the words name."""
    words = ["dataset=digits", *words]  # its keys are those that every dataset has
    with composing(), lent(template):
        composition, folder, hydra_section = prepared(words, dataset=DATA)
        like: Any = OmegaConf.to_object(composition.dataset)
        parts: dict[str, Any] = {"dataset": given_data(raw, like)}
        if template is not None:
            parts["model"] = given_module(template)
        config = checked(composition, **parts)
        if raw.no_test and config.evaluate.test_every is not None:
            raise UserError("evaluate.test_every needs a test part: give grow.fit test=(x, y)")
        files = {"config": OmegaConf.structured(config), "hydra": hydra_section, "overrides": words[1:]}
        if resume:
            folder = folder_of(folder.path)
            _refuse_other(folder, config)
        return trained(
            config, folder, files, template=template, resume=resume, again="call grow.fit again, with resume=True"
        )


def _refuse_other(folder: RunFolder, config: Config) -> None:
    found, asked = dict(folder.config()), OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    if found != asked:
        raise UserError(
            f"{folder.path} is a run of another module or of other keys: resume it with those it was started with"
        )
    if folder.read_summary().get("status") == "finished":
        raise UserError(f"{folder.path} is finished: there is nothing to resume")
