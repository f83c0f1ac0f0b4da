"""Tasks: the loss, the score, the score's name and which direction is better.

Everything that reports a score uses this module. No torch at the top, because commands and pages read the names.
"""

from __future__ import annotations

import math
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
    """1: a higher score is better; -1: a lower one. Nothing else says so."""
    beside: tuple[str, ...] = ()
    """Other numbers that a split is measured by, named like scores; nothing is selected by them."""

    def column(self, split: str) -> str:
        """`val_accuracy`."""
        return f"{split}_{self.score}"

    def columns(self, split: str) -> list[str]:
        """Columns of the loss, the score and the other measures."""
        return [f"{split}_{name}" for name in ("loss", self.score, *self.beside)]

    @property
    def words(self) -> str:
        """The label, and the direction where it is not the usual one: `bits per byte (lower is better)`."""
        return self.label if self.direction > 0 else f"{self.label} (lower is better)"

    def loss(self, label_smoothing: float = 0.0) -> Loss:
        """(outputs, targets) → mean loss of the batch ()."""
        raise NotImplementedError

    def sums(self, outputs: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """(4,) sums over a batch, from which `value` makes the score."""
        raise NotImplementedError

    def value(self, sums: list[float]) -> float:
        """The score; NaN without samples."""
        raise NotImplementedError

    def values_beside(self, sums: list[float]) -> dict[str, float]:
        """The values of `beside`, from the same sums."""
        return {}

    def of_loss(self, loss: float) -> float | None:
        """The score that follows from a mean loss, if it is that loss in another unit; otherwise None."""
        return None

    def guess(self, outputs: int) -> float:
        """The score of a net that knows nothing."""
        raise NotImplementedError

    def samples_at_once(self, batch_size: int, targets: Tensor) -> int:
        """Samples with as many predictions as `batch_size`, where a net is only measured."""
        return batch_size


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


class _Language(Task):
    """Next-byte prediction: outputs (n, tokens, 256), targets (n, tokens) bytes."""

    def loss(self, label_smoothing: float = 0.0) -> Loss:
        """Cross-entropy in nats per byte."""
        from torch.nn import functional as F

        return lambda outputs, targets: F.cross_entropy(outputs.flatten(0, -2), targets.flatten().long())

    def sums(self, outputs: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Nats, right guesses, 0, bytes."""
        from torch.nn import functional as F

        logits, y = outputs.flatten(0, -2), targets.flatten().long()
        sums = outputs.new_zeros(4, dtype=dtype)
        sums[0] = F.cross_entropy(logits, y, reduction="none").sum(dtype=dtype)
        sums[1] = logits.argmax(-1).eq(y).sum()
        sums[3] = y.numel()
        return sums

    def value(self, sums: list[float]) -> float:
        """Bits per byte."""
        return sums[0] / sums[3] / math.log(2) if sums[3] else float("nan")

    def values_beside(self, sums: list[float]) -> dict[str, float]:
        return {"byte_accuracy": sums[1] / sums[3] if sums[3] else float("nan")}

    def of_loss(self, loss: float) -> float | None:
        return loss / math.log(2)

    def guess(self, outputs: int) -> float:
        """One byte of 256: 8 bits."""
        return math.log2(outputs)

    def samples_at_once(self, batch_size: int, targets: Tensor) -> int:
        """Number of windows with this many bytes in total."""
        return max(1, batch_size // targets.shape[1])


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _Classification("classification", "accuracy", "accuracy", percent=True),
        _Regression("regression", "r2", "R²", percent=False),
        _Language("language", "bits_per_byte", "bits per byte", percent=False, direction=-1, beside=("byte_accuracy",)),
    )
}


def task_in(columns: Collection[str], split: str = "val") -> Task:
    """The task whose score is among the columns of metrics.csv, or the keys of summary.json."""
    return next((task for task in TASKS.values() if task.column(split) in columns), TASKS["regression"])
