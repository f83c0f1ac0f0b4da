"""TINY on a ResNet-18, the event that a GPU waited for most: how often it is read, and how many operators are called."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
from simulated.runs import watched_gpu

from grow_cli import hardware, testing

_TINY = (
    "method=tiny",
    "graph=never",
    "dataset=digits",
    "model=resnet18",
    "trigger=every",
    "trigger.every=1",
    "device=cuda",
)
_SHORT = ("stop.epochs=2", "evaluate.every=1", "batch_size=100", "growth.max_events=1")


def _event(folder: Path, *overrides: str) -> tuple[int, int]:
    """Waits and operator calls of the one event."""
    with watched_gpu() as watched:
        testing._trained(folder, [*_TINY, *_SHORT, *overrides])
    (waits,), (calls,) = watched.waits(), watched.calls()
    return waits, calls


def test_an_event_at_three_blocks_waits_at_most_twenty_times(tmp_path: Path) -> None:
    small = ("model.stream=[4,8,8]", "model.hidden=[[2],[2],[2]]", "subset=200")
    waits, _ = _event(tmp_path, *small)
    assert waits <= 20


@pytest.mark.slow
def test_larger_pieces_call_fewer_operators_and_do_not_change_the_waits(tmp_path: Path) -> None:
    large = ("model.stream=[48]", "model.hidden=[[4]]", "subset=400")
    with patch.object(hardware, "_LARGER", 1):
        waits, calls = _event(tmp_path / "small", *large)
    larger = _event(tmp_path / "large", *large)
    assert larger[0] == waits
    assert larger[1] < 0.9 * calls
