"""TINY's E.3: ResNet-18 from Table 1's widths, five neurons at a time in the middle of the block that gains most."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def hundred_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-100 in small: 32 × 32 pixels, a hundred classes that a stripe and a colour tell apart."""
    import numpy as np
    from PIL import Image

    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 2)):
        for label in range(100):
            folder = root / split / f"class{label:02}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 60, (32, 32, 3))
                pixels[3 * (label % 10) : 3 * (label % 10) + 4, :, label % 3] += 60 + 12 * (label // 10)
                Image.fromarray(pixels.astype("uint8")).save(folder / f"{i}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tiny", "gradmax"])
def test_two_hundred_steps_grow_the_middle_of_blocks(
    method: str, hundred_classes: Path, grow: Callable, tmp_path: Path
) -> None:
    outcome = grow(
        "train", f"experiment={method}_cifar100_resnet18", "dataset=image_folder", f"dataset.path={hundred_classes}",
        "stop.steps=200", "trigger.every=50", "trigger.unit=steps", "evaluate.every=50", "evaluate.unit=steps",
        "run_dir=r",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    summary = json.loads((tmp_path / "r/summary.json").read_text())
    events = [json.loads(line) for line in (tmp_path / "r/growth.jsonl").read_text().splitlines()]
    assert len(events) >= 3
    assert summary["steps"] == 200
    grown = [e for e in events if e["units_added"]]
    assert grown
    for event in grown:
        assert event["units_added"] <= 5
        assert event["kind"] == "width"
        assert "block" in event["site"]
    assert events[0]["widths_before"] == "-".join("1" * 8)
    assert summary["architecture"]["model"]["stream"] == [8, 16, 32, 64]
    assert summary["parameters"] == events[-1]["parameters_after"]
