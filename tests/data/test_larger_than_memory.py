"""Sets that a job has no memory for: batches come from the file.

A memory control group needs rights that a test has not. What is asserted is RssAnon: the memory that belongs to a process alone,
without the pages of mapped files, which the system takes back when it needs them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from grow_cli.data.datasets.image_folder import ImageFolder
from grow_cli.data.mapped import Rows
from grow_cli.data.tensors import load_data

SIDE = 224


def solid_images(root: Path, n: int) -> Path:
    """A folder of n images of two classes, solid colours and a little noise; a tenth of them to test on."""
    rng = np.random.default_rng(0)
    for part, share in (("train", 0.9), ("test", 0.1)):
        for label, name in enumerate(("dark", "light")):
            (root / part / name).mkdir(parents=True)
            for i in range(round(n * share / 2)):
                colours = rng.integers(0, 100, (1, 1, 3)) + rng.integers(0, 30, (8, 8, 3)) + 110 * label
                image = Image.fromarray(colours.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
                image.save(root / part / name / f"{i:05}.jpg")
    return root


def bytes_in(file: str, field: str) -> int:
    """`RssAnon` of /proc/PID/status."""
    lines = Path(file).read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def test_a_pass_over_a_folder_takes_less_memory_than_a_quarter_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    n = 300
    option = ImageFolder(name="image_folder", path=str(solid_images(tmp_path / "images", n)), storage="mapped")
    status = f"/proc/{os.getpid()}/status"
    load_data(option, data_dir=tmp_path, subset=None, device=torch.device("cpu"))  # decodes
    before = bytes_in(status, "RssAnon")
    data = load_data(option, data_dir=tmp_path, subset=None, device=torch.device("cpu"))
    most = 0
    for split in (data.train, data.val, data.test):
        assert isinstance(split.x, Rows)
        for x in split.x.split(4):
            prepared = data.prepare(x)
            most = max(most, bytes_in(status, "RssAnon") - before)
        assert prepared.shape[1:] == (3, SIDE, SIDE)
    assert most < n * 3 * SIDE**2 / 4
