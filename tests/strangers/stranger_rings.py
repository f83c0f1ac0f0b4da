"""A dataset: three rings in the plane, a class each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grow_cli.data.datasets.synthetic import Synthetic
from grow_cli.registry import option


@option("dataset", "rings")
@dataclass
class Rings(Synthetic):
    """Radii 1, 2 and 3."""

    def points(self, n: int, seed: int) -> Any:
        import numpy as np

        rng = np.random.default_rng(seed)
        y, angle = np.arange(n) % 3, rng.uniform(0, 2 * np.pi, n)
        radius = y + 1 + self.noise * rng.standard_normal(n)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), y
