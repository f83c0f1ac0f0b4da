"""Ten smooth functions of one and two variables, none larger than about 1, on [-1, 1] and [-1, 1]². No numpy at the top.

`runge` is Runge's example of interpolation at equal distances, `franke` Franke's (1979) test surface for scattered data, `peaks`
the sum of three Gaussian hills that plotting programs show; the others are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import ndarray


@dataclass(frozen=True)
class Formula:
    """A function of one or several variables."""

    variables: int
    of: Callable[..., Any]
    """(numpy, one array (n,) per variable) → (n,)."""

    def __call__(self, x: ndarray) -> ndarray:
        """(n, variables) → (n, 1)."""
        import numpy as np

        values: ndarray = self.of(np, *x.T)
        return values[:, None]


def _franke(np: Any, x: Any, y: Any) -> Any:
    u, v = 4.5 * (x + 1), 4.5 * (y + 1)  # Franke's unit square, nine times as large
    return (
        0.75 * np.exp(-((u - 2) ** 2 + (v - 2) ** 2) / 4)
        + 0.75 * np.exp(-((u + 1) ** 2) / 49 - (v + 1) / 10)
        + 0.5 * np.exp(-((u - 7) ** 2 + (v - 3) ** 2) / 4)
        - 0.2 * np.exp(-((u - 4) ** 2) - (v - 7) ** 2)
    )


def _peaks(np: Any, x: Any, y: Any) -> Any:
    u, v = 3 * x, 3 * y
    hills = (
        3 * (1 - u) ** 2 * np.exp(-(u**2) - (v + 1) ** 2)
        - 10 * (u / 5 - u**3 - v**5) * np.exp(-(u**2) - v**2)
        - np.exp(-((u + 1) ** 2) - v**2) / 3
    )
    return hills / 8


FUNCTIONS: dict[str, Formula] = {
    "waves": Formula(1, lambda np, x: (np.sin(2 * np.pi * x) + np.sin(5 * np.pi * x) / 2) / 1.5),
    "packet": Formula(1, lambda np, x: np.exp(-10 * x**2) * np.cos(12 * x)),
    "runge": Formula(1, lambda np, x: 1 / (1 + 25 * x**2)),
    "sinc": Formula(1, lambda np, x: np.sinc(4 * x)),
    "chirp": Formula(1, lambda np, x: np.sin(np.pi * (x + 1) ** 2)),
    "front": Formula(1, lambda np, x: np.tanh(8 * x) + x**2 / 4),
    "franke": Formula(2, _franke),
    "peaks": Formula(2, _peaks),
    "ripple": Formula(2, lambda np, x, y: np.sin(np.pi * x) * np.cos(2 * np.pi * y)),
    "ring": Formula(2, lambda np, x, y: np.exp(-8 * (x**2 + y**2 - 0.5) ** 2)),
}
