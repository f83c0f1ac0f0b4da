"""`dataset=functions`: smooth functions of one and two variables, exact and without noise, to see how exactly a net can fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grow_cli.data.base import RawData
from grow_cli.data.datasets.synthetic import Points
from grow_cli.data.formulas import FUNCTIONS
from grow_cli.keys import key
from grow_cli.registry import option

if TYPE_CHECKING:
    from numpy import ndarray

# Points along an axis of the dense grid, for one and for two variables: odd, so that the middle is among them.
_DENSE = {1: 10_001, 2: 201}


@option("dataset", "functions")
@dataclass
class Functions(Points):
    """A known function on [-1, 1] or [-1, 1]²: training points on a grid, everything else drawn apart; float64."""

    function: str = key("waves", one_of=tuple(FUNCTIONS))
    """Of one variable: waves, packet, runge, sinc, chirp, front; of two: franke, peaks, ripple, ring."""
    samples: int = key(400, at_least=10, at_most=10**6)
    """Training points, equally spaced, the ends included; of two variables the nearest square number."""
    validation: float = key(0.5, at_least=0, below=1, role="split")
    """Validation points, drawn uniformly from a stream of their own, as a fraction of `samples`; 0: validate on what is
    trained on."""
    test_samples: int = key(1000, at_least=2, at_most=10**6)
    """Test points, drawn uniformly from another stream."""
    draw_seed: int = key(0, at_least=0, at_most=2**31 - 1)
    """Seed of both draws, independent of the run's seed."""

    def load(self, data_dir: Path) -> RawData:
        import numpy as np
        import torch

        formula = FUNCTIONS[self.function]

        def pair(x: ndarray) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.from_numpy(x), torch.from_numpy(formula(x))

        def drawn(n: int, stream: int) -> tuple[torch.Tensor, torch.Tensor]:
            return pair(np.random.default_rng([self.draw_seed, stream]).uniform(-1, 1, (n, formula.variables)))

        side = round(self.samples ** (1 / formula.variables))
        held_out = max(2, round(self.validation * self.samples))
        return RawData(
            *pair(_grid(side, formula.variables)),
            *drawn(self.test_samples, 1),
            task="regression",
            held_out=drawn(held_out, 0) if self.validation else None,
            grid=pair(_grid(_DENSE[formula.variables], formula.variables)),
        )


def _grid(side: int, variables: int) -> ndarray:
    """(side^variables, variables) points of [-1, 1]^variables at equal distances, the ends included."""
    import numpy as np

    axes = np.meshgrid(*[np.linspace(-1, 1, side)] * variables, indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=1)
