"""Whether two runs are the same to the last bit, but for their clocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch

CLOCKS = ["seconds", "growth_seconds"]


def same_end(one: Path, other: Path) -> None:
    """Metrics but for the clock, growth log but for the clock, and every tensor of the checkpoint are the same."""
    first, second = pd.read_csv(one / "metrics.csv"), pd.read_csv(other / "metrics.csv")
    pd.testing.assert_frame_equal(first.drop(columns=CLOCKS), second.drop(columns=CLOCKS), check_exact=True)
    for a, b in zip(events_of(one), events_of(other), strict=True):
        assert a == b
    a, b = (torch.load(p / "checkpoints/last.pt", weights_only=True) for p in (one, other))
    assert a["architecture"] == b["architecture"]
    for name, tensor in a["model"].items():
        assert torch.equal(tensor, b["model"][name]), name
    a, b = (json.loads((p / "summary.json").read_text()) for p in (one, other))
    for key in ("test_accuracy", "test_loss", "best_step", "steps", "events", "training_flops", "widths", "status"):
        assert a[key] == b[key], key
    of_its_own = [{f.name: f.read_bytes() for f in (p / "mistakes").glob("*")} for p in (one, other)]
    assert of_its_own[0] == of_its_own[1]


def events_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of growth.jsonl without their clocks."""
    events = [json.loads(line) for line in (folder / "growth.jsonl").read_text().splitlines()]
    for event in events:
        for key in CLOCKS:
            event.pop(key)
        for phase in event["phases"]:
            phase.pop("seconds", None)
    return events
