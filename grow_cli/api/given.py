"""Data and nets in a Python program's memory, as options of a run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from grow_cli.data.base import DatasetOption, DataSpec, RawData
from grow_cli.errors import UserError
from grow_cli.models.base import ModelOption
from grow_cli.models.modules.network import OWN, GrowableModel
from grow_cli.models.modules.traced import Template, remade

DATA = "tensors"


@dataclass
class GivenData(DatasetOption):
    """Samples from memory. Not registered: no command can read them."""

    raw: ClassVar[RawData]

    def load(self, data_dir: Path) -> RawData:
        return self.raw


def given_data(raw: RawData, like: DatasetOption) -> GivenData:
    """The option of these samples, its keys (validation, normalize, ...) those of another dataset's.

    A class of its own holds the samples, for an option is copied field by field, and all its fields are written down.
    """
    kind: Any = dataclass(type("GivenData", (GivenData,), {"raw": raw}))
    keys = {f.name: getattr(like, f.name) for f in fields(DatasetOption)}
    option = kind(**(keys | {"name": DATA}))
    assert isinstance(option, GivenData)
    return option


@dataclass
class GivenModule(ModelOption):
    """A net made of a module in memory."""

    module: str = ""
    """Its template's key."""
    widths: list[int] | None = None

    def make(self, ends: DataSpec) -> GrowableModel:
        return remade(self.keywords)


def given_module(template: Template) -> GivenModule:
    """The option of a net that begins as the template's module."""
    units = [place.of(template.module).units for place in template.found.places]
    return GivenModule(name=OWN, module=template.key, widths=units)


def raw_data(
    train: Any, val: Any = None, test: Any = None, *, classes: int | None = None, names: tuple[str, ...] = ()
) -> RawData:
    """Splits as a dataset has them; whole numbers as targets are classes, others are regressed.

    :param train: a TensorDataset or a pair (x, y) of tensors or arrays: x (n, d) or (n, C, H, W)
    :param classes: how many there are, where more may be than the targets show
    :param names: their names
    """
    x, y = _pair(train, "train")
    held_out = None if val is None else _pair(val, "val")
    tested = (x[:0], y[:0]) if test is None else _pair(test, "test")
    classification = not y.is_floating_point()
    for name, other in (("val", held_out), ("test", tested)):
        if other is not None and other[1].is_floating_point() == classification:
            raise UserError(f"{name} has {'numbers' if classification else 'classes'} as targets, unlike train")
    if classification and not names:
        highest = max(int(part.max()) for part in (y, tested[1], *([held_out[1]] if held_out else [])) if len(part))
        names = tuple(map(str, range(max(classes or 0, highest + 1, 2))))
    return RawData(
        *(x, y, *tested),
        task="classification" if classification else "regression",
        classes=names if classification else (),
        held_out=held_out,
        no_test=test is None,
    )


def _pair(given: Any, what: str) -> tuple[Tensor, Tensor]:
    """Samples, float32 or bytes of images, and targets, int64 (n,) or float32 (n, k)."""
    parts = given.tensors if isinstance(given, TensorDataset) else given
    if not isinstance(parts, tuple | list) or len(parts) != 2:
        raise UserError(f"{what} must be a TensorDataset or a pair (x, y), and it is {_kind(given)}")
    x, y = (_tensor(part, f"{name} of {what}") for part, name in zip(parts, "xy", strict=True))
    if x.dim() not in (2, 4):
        raise UserError(f"x of {what} has the shape {tuple(x.shape)}: (n, d) or (n, C, H, W) is needed")
    x = x if x.dim() == 4 and x.dtype == torch.uint8 else x.float()
    if y.is_floating_point():
        return x, y.float().reshape(len(y), -1)
    return x, y.long().flatten() if y.dim() == 2 and y.shape[1] == 1 else y.long()


def _tensor(part: Any, what: str) -> Tensor:
    try:
        tensor = torch.as_tensor(part if isinstance(part, Tensor) else np.asarray(part)).detach().cpu()
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} holds no numbers ({str(error).splitlines()[0]}): encode what is text") from error
    if tensor.is_complex() or not tensor.dim():
        raise UserError(f"{what} is {_kind(part)}, and an array of real numbers is needed")
    return tensor


def _kind(given: Any) -> str:
    return f"a {type(given).__name__}" + (f" of {len(given)}" if isinstance(given, tuple | list) else "")
