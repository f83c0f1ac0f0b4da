"""The net with its normalisation in front, for formats that are one graph: users need not know the mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grow_cli.files import write_atomically
from grow_cli.models.modules.network import GrowableModel

_BATCH = 2  # torch takes a batch of one for a constant
_ANY_BATCH = ({0: torch.export.Dim("batch", min=1)},)


class Normalised(nn.Module):
    """A net that takes inputs as the dataset holds them: (n, C, H, W) uint8 images, or (n, d) numbers in its precision."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: GrowableModel, mean: list[float], std: list[float]) -> None:
        """:param mean, std: of the training split, per channel or number"""
        super().__init__()
        self.net = net
        per = (-1, *[1] * (len(net.input_shape) - 1))
        dtype = next(net.parameters()).dtype
        self.register_buffer("mean", torch.tensor(mean).view(per).to(dtype))
        self.register_buffer("std", torch.tensor(std).view(per).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """What the net says of (x - mean) / std."""
        outputs: Tensor = self.net((x.to(self.mean.dtype) - self.mean) / self.std)
        return outputs


def with_normalisation(model: GrowableModel, about: dict[str, Any]) -> tuple[nn.Module, Tensor, dict[str, Any]]:
    """What is written, an example of its inputs, and `about` with a word on it. A net that reads bytes of text stays as it is."""
    example = model.example(_BATCH)
    if model.task == "language":
        return model, example, about
    if len(model.input_shape) == 3:  # bytes: numbers that are prepared already are refused, not normalised twice
        example = torch.zeros(example.shape, dtype=torch.uint8)
    kind = str(example.dtype).removeprefix("torch.")
    inside = f"in the graph: it takes {kind} as the dataset holds it and computes (x - mean) / std itself"
    return Normalised(model, about["mean"], about["std"]).eval(), example, about | {"normalisation": inside}


def write_torch(model: GrowableModel, about: dict[str, Any], file: Path) -> Path:
    """A program of torch.export, with `about` as `about.json` in it."""
    net, example, about = with_normalisation(model, about)
    program = torch.export.export(net, (example,), dynamic_shapes=_ANY_BATCH)

    def save(temporary: Path) -> None:
        with temporary.open("wb") as stream:  # a path would have to end in .pt2
            torch.export.save(program, stream, extra_files={"about.json": json.dumps(about)})

    write_atomically(file, save)
    return file


def write_onnx(model: GrowableModel, about: dict[str, Any], file: Path) -> Path:
    """A model of ONNX, with `about` in its metadata."""
    net, example, about = with_normalisation(model, about)
    program = torch.onnx.export(
        net,
        (example,),
        dynamo=True,
        dynamic_shapes=_ANY_BATCH,
        input_names=["input"],
        output_names=["output"],
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update({key: json.dumps(value) for key, value in about.items()})
    write_atomically(file, lambda temporary: program.save(temporary, external_data=False))
    return file
