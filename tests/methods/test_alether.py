"""What docs/methods/alether.md says of where Alether's triggers fire."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from grow_cli.records.events import growth_events
from grow_cli.records.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
PAGE = (ROOT / "docs" / "methods" / "alether.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trigger.scale=diffusion"], r"seed 0: it first fires at epoch (\d+)"),
        (["trigger.scale=diffusion", "trajectory.smoothing=0.99"], r"which needs these units, at (\d+)"),
        (["trigger=drift"], r"\(there: at epoch (\d+)\)"),
    ],
)
def test_triggers_fire_on_mnist_where_the_page_says(words: list[str], told: str, grow: Callable) -> None:
    if not (DATA / "MNIST").is_dir():
        pytest.skip(f"no MNIST in {DATA}")
    found = re.search(told, PAGE)
    assert found is not None
    outcome = grow("train", "experiment=alether_mnist", *words, f"data_dir={DATA}", "run_dir=run", "progress=off")
    assert outcome.code == 0
    first = growth_events(RunFolder(Path("run")))[0]
    assert first.units_added > 0
    assert abs(first.epoch - int(found[1])) <= 1  # another machine rounds otherwise
