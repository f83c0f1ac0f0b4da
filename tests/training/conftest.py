"""Loops on the small run, without the command around them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from grow_cli.commands.train import compose
from grow_cli.data.tensors import load_data
from grow_cli.recording.folder import RunFolder
from grow_cli.run import assemble
from grow_cli.training.loop import Loop

CPU = torch.device("cpu")


@pytest.fixture
def make(tmp_path: Path, small: tuple[str, ...]) -> Iterator[Any]:
    """`make("method=copy")`: a loop on the small run."""
    made: list[tuple[Loop, RunFolder]] = []

    def call(*overrides: str) -> Loop:
        method = next((o for o in overrides if o.startswith("method=")), "method=alether")
        own = {"method=static": (), "method=alether": ("method.rank=3", "method.warmup_steps=10")}
        keys = own.get(method, ("method.warmup_steps=10",))  # which keys of the small run this method has
        shared = [o for o in small if not o.startswith("method.")]
        config = compose([method, *shared, *keys, *overrides, "progress=off"])
        data = load_data(config.dataset, data_dir=tmp_path, subset=config.subset, device=CPU)
        folder = RunFolder(tmp_path / f"run{len(made)}")
        folder.create({})
        loop = assemble(config, folder, data, CPU)
        made.append((loop, folder))
        return loop

    yield call
    for loop, folder in made:
        loop.close()
        folder.close()
