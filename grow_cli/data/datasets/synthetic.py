"""Points in the plane and on a curve, generated on demand: the toy problems of SENN and Fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grow_cli.data.base import DatasetOption, RawData
from grow_cli.errors import check
from grow_cli.keys import key
from grow_cli.registry import option

if TYPE_CHECKING:
    from numpy import ndarray


@dataclass
class Points(DatasetOption):
    """What is computed when it is asked for: no file, and nothing to crop or flip."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.crop == 0 and not self.flip,
            f"dataset.crop={self.crop} and dataset.flip={self.flip}: only images can be cropped and flipped; "
            "leave them at 0 and false",
        )

    def at_hand(self, data_dir: Path) -> bool:
        return True


@dataclass
class Synthetic(Points):
    """Points from a formula and Gaussian noise; a subclass says which."""

    validation: float = key(0.2, at_least=0, below=1, role="split")
    samples: int = key(1000, at_least=10, at_most=10**7)
    """Training samples, before validation is held out."""
    test_samples: int = key(1000, at_least=2, at_most=10**7)
    """Test samples, drawn separately."""
    noise: float = key(0.1, at_least=0, at_most=10**6)
    """Standard deviation of the Gaussian noise."""
    draw_seed: int = key(0, at_least=0, at_most=2**31 - 1)
    """Seed of the draw, independent of the run's seed; training and test samples are drawn separately."""

    def points(self, n: int, seed: int) -> tuple[ndarray, ndarray]:
        """Inputs (n, d) and class indices (n,) or targets (n, k)."""
        raise NotImplementedError(f"{type(self).__name__} must define points")

    def load(self, data_dir: Path) -> RawData:
        import torch

        def draw(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
            x, y = self.points(n, seed)
            dtype = torch.int64 if y.ndim == 1 else torch.float32
            return torch.from_numpy(x).float(), torch.from_numpy(y).to(dtype)

        train_x, train_y = draw(self.samples, 2 * self.draw_seed)
        test_x, test_y = draw(self.test_samples, 2 * self.draw_seed + 1)
        task = "classification" if train_y.ndim == 1 else "regression"
        return RawData(train_x, train_y, test_x, test_y, task)

    def _two_curves(
        self, n: int, seed: int, width: float, curves: tuple[Callable[[Any], Any], Callable[[Any], Any]]
    ) -> tuple[ndarray, ndarray]:
        # x uniform in [-width, width], as many points on one curve as on the other, noise across them only: along x it
        # would carry points beyond the interval without changing the problem
        import numpy as np

        rng = np.random.default_rng(seed)
        y = np.arange(n) % 2
        x = rng.uniform(-width, width, n)
        height = np.where(y == 0, curves[0](x), curves[1](x)) + self.noise * rng.standard_normal(n)
        return np.stack([x, height], axis=1), y


@option("dataset", "moons")
@dataclass
class Moons(Synthetic):
    """Two interleaved half circles in the plane (SENN, Fig. 3), from `sklearn.datasets.make_moons`.

    The paper gives no constants. Its public code draws 200 training (seed 0) and 500 test samples (seed 1) with noise
    0.3; `draw_seed=0` uses these seeds too, and `samples=250 validation=0.2` leaves 200 to train on.
    """

    noise: float = key(0.3, at_least=0, at_most=10**6)

    def points(self, n: int, seed: int) -> tuple[ndarray, ndarray]:
        from sklearn.datasets import make_moons

        return make_moons(n_samples=n, noise=abs(self.noise), random_state=seed)


@option("dataset", "sines")
@dataclass
class Sines(Synthetic):
    """Two sine curves in the plane that a non-linear function of the input separates (Fold, Sec. 4).

    The paper gives no constants. Chosen: x uniform in [-π, π], class 0 on sin x, class 1 on 1 + sin x, noise 0.1.
    The curve ½ + sin x then separates all but a point in three million; no line separates them.
    """

    def points(self, n: int, seed: int) -> tuple[ndarray, ndarray]:
        import numpy as np

        return self._two_curves(n, seed, np.pi, (np.sin, lambda x: 1 + np.sin(x)))


@option("dataset", "quadratics")
@dataclass
class Quadratics(Synthetic):
    """Two parabolas in the plane that overlap, so that no function of the input separates them (Fold, Sec. 4).

    The paper gives no constants. Chosen: x uniform in [-1, 1], class 0 on x² - ½, class 1 on ½ - x², noise 0.1:
    they cross at x = ±1/√2, and points near a crossing belong to either class.
    """

    def points(self, n: int, seed: int) -> tuple[ndarray, ndarray]:
        return self._two_curves(n, seed, 1.0, (lambda x: x**2 - 0.5, lambda x: 0.5 - x**2))


@option("dataset", "curve")
@dataclass
class Curve(Synthetic):
    """One-dimensional least-squares regression (SENN, Sec. 4.1 and Fig. 2).

    The paper gives no formula. Its public code draws x from N(0, 1), 50 training and 1,000 test samples without
    noise, the target being a random rational net. Chosen: the same x; the target sin 2x + ½ sin 5x, so that the curve
    is the same for everyone and has detail everywhere.
    """

    samples: int = key(200, at_least=10, at_most=10**7)
    noise: float = key(0.05, at_least=0, at_most=10**6)

    def points(self, n: int, seed: int) -> tuple[ndarray, ndarray]:
        import numpy as np

        rng = np.random.default_rng(seed)
        x = rng.standard_normal((n, 1))
        y = np.sin(2 * x) + np.sin(5 * x) / 2
        return x, y + self.noise * rng.standard_normal((n, 1))
