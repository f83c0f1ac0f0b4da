"""A growth method against its comparators with the same recipe: a table in docs/results.

    python scripts/baselines.py depth_digits --seeds 10
    python scripts/baselines.py depth_mnist --data-dir ../shared/data
    python scripts/baselines.py width_mnist --data-dir ../shared/data --seeds 5
    python scripts/baselines.py tiny_mnist --data-dir ../shared/data --seeds 5

Runs `grow train` into outputs/baselines/<comparison>/<way>/<seed> (finished runs are used again), then tabulates the run
folders: what the nets reached, what the growth did at the events, and what it cost.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Comparison:
    """Ways to come to a net, the first of which the others are tested against."""

    title: str
    recipe: list[str]
    """Overrides of every run."""
    ways: dict[str, list[str]]
    note: str = ""


_DEPTH = {
    "alether": ["method=alether"],
    "copy": ["method=copy"],
    "random": ["method=random"],
    "static, initial size": ["method=static"],
    "static, final size": ["method=static", "model.hidden=[64,64,64,64]"],
}
_DEPTH_NOTE = (
    "The static nets are trained for the same epochs; the grown ones have their warm-ups besides, which count in FLOPs "
    "and seconds."
)
COMPARISONS = {
    "depth_digits": Comparison("Depth growth on the digits", [], _DEPTH, _DEPTH_NOTE),
    "depth_mnist": Comparison("Depth growth on MNIST", ["experiment=alether_mnist"], _DEPTH, _DEPTH_NOTE),
    "width_mnist": Comparison(
        "Width growth on MNIST from [1, 1] to [110, 51]",
        ["experiment=tiny_mnist"],
        {
            "tiny": ["method=tiny", "method.significance=false"],
            "tiny without best updates": ["method=tiny", "method.significance=false", "method.best_update=false"],
            "gradmax": ["method=gradmax"],
            "random": ["method=random_width"],
            "net2net": ["method=net2net"],
        },
        "Equal schedule, equal numbers of new units at every event, equal final widths, one recipe.",
    ),
}
