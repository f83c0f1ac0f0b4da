"""What is learnt: the loss of a task, its score, what the score is called and which direction is better.

Everything that reports a score asks here. No torch at the top: commands and pages read the names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Loss = Callable[[Tensor, Tensor], Tensor]
    """(outputs, targets) → mean loss of the batch ()."""


@dataclass(frozen=True)
class Task:
    """One kind of problem; `TASKS` holds them."""

    name: str
    score: str
    """Of the columns `train_<score>`, `val_<score>`, `test_<score>`."""
    label: str
    """As a reader sees the score."""
    percent: bool
    """Whether it is shown in percent."""
    direction: int = 1
    """1: a higher score is better; -1: a lower one."""

    def column(self, split: str) -> str:
        """`val_accuracy`."""
        return f"{split}_{self.score}"

    def loss(self, label_smoothing: float = 0.0) -> Loss:
        """(outputs, targets) → mean loss of the batch ()."""
        raise NotImplementedError

    def sums(self, outputs: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """(4,) sums over a batch, from which `value` makes the score."""
        raise NotImplementedError

    def value(self, sums: list[float]) -> float:
        """The score; NaN without samples."""
        raise NotImplementedError

    def guess(self, outputs: int) -> float:
        """The score of a net that knows nothing."""
        raise NotImplementedError


class _Classification(Task):
    def loss(self, label_smoothing: float = 0.0) -> Loss:
        """Cross-entropy."""
        from torch import nn

        return nn.CrossEntropyLoss(label_smoothing=label_smoothing)

    def sums(self, outputs: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Correct answers, 0, 0, samples."""
        sums = outputs.new_zeros(4, dtype=dtype)
        sums[0] = outputs.argmax(1).eq(targets).sum()
        sums[3] = targets.numel()
        return sums

    def value(self, sums: list[float]) -> float:
        return sums[0] / sums[3] if sums[3] else float("nan")

    def guess(self, outputs: int) -> float:
        """One class of all."""
        return 1 / outputs


class _Regression(Task):
    def loss(self, label_smoothing: float = 0.0) -> Loss:
        """Mean squared error."""
        from torch import nn

        return nn.MSELoss()

    def sums(self, outputs: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Σ(f−y)², Σy, Σy², number of targets."""
        sums = outputs.new_zeros(4, dtype=dtype)
        y = targets.to(dtype)
        sums[0], sums[1], sums[2] = (outputs.to(dtype) - y).square().sum(), y.sum(), y.square().sum()
        sums[3] = targets.numel()
        return sums

    def value(self, sums: list[float]) -> float:
        """R² = 1 − Σ(f−y)² / Σ(y−ȳ)²."""
        error, total, squares, count = sums
        spread = squares - total**2 / count if count else 0.0
        return 1 - error / spread if spread > 0 else float("nan")

    def guess(self, outputs: int) -> float:
        """The targets' mean."""
        return 0.0


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _Classification("classification", "accuracy", "accuracy", percent=True),
        _Regression("regression", "r2", "R²", percent=False),
    )
}


def task_in(columns: Collection[str], split: str = "val") -> Task:
    """The task whose score stands among the columns of metrics.csv, or the keys of summary.json."""
    return next((task for task in TASKS.values() if task.column(split) in columns), TASKS["regression"])
