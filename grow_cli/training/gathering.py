"""Training loss and accuracy of the minibatches since the last evaluation, gathered on the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Outputs are kept and scored together: a kernel each for many steps instead of several for every step.
_SCORE_EVERY = 64


class Gathered:
    """Sums over minibatches; `add` reads nothing back from the device, `read` does."""

    def __init__(self, task: str, device: torch.device) -> None:
        self.task, self.device = task, device
        self._clear()

    def _clear(self) -> None:
        # float64 on MPS does not exist; its sums are then float32
        self._dtype = torch.float32 if self.device.type == "mps" else torch.float64
        self._sums = torch.zeros(5, dtype=self._dtype, device=self.device)
        self._steps = 0
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def empty(self) -> bool:
        """Whether nothing was added since the last reading."""
        return self._steps == 0 and not self._pending

    def add(self, loss: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """A minibatch: mean loss (), outputs (n, k), targets (n,) or (n, k)."""
        self._pending.append((loss, outputs, targets))
        if len(self._pending) == _SCORE_EVERY:
            self._score()

    def _score(self) -> None:
        losses, outputs, targets = zip(*self._pending, strict=True)
        self._steps += len(losses)
        self._sums[0] += torch.stack(losses).sum(dtype=self._dtype)
        self._sums[1:] += score_sums(torch.cat(outputs), torch.cat(targets), self.task, self._dtype)
        self._pending = []

    def read(self) -> dict[str, float]:
        """`train_loss` and `train_accuracy` or `train_r2` since the last reading; starts anew."""
        if self._pending:
            self._score()
        loss, *sums = self._sums.tolist()
        result = {
            "train_loss": loss / self._steps if self._steps else float("nan"),
            f"train_{score_name(self.task)}": score(sums, self.task),
        }
        self._clear()
        return result

    def state_dict(self) -> dict[str, Any]:
        """What is gathered, the unscored minibatches as they are: a resumed run adds in the same order."""
        return {
            "sums": self._sums,
            "steps": self._steps,
            "pending": [list(entry) for entry in self._pending],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums = state["sums"].to(self.device, self._dtype)
        self._steps = state["steps"]
        self._pending = [(a.to(self.device), b.to(self.device), c.to(self.device)) for a, b, c in state["pending"]]


def score_name(task: str) -> str:
    """What is reported beside the loss."""
    return "accuracy" if task == "classification" else "r2"


def score_sums(outputs: Tensor, targets: Tensor, task: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """(4,) sums over the batch: correct, 0, 0, n; or for regression Σ(f−y)², Σy, Σy², number of targets."""
    sums = torch.zeros(4, dtype=dtype, device=outputs.device)
    if task == "classification":
        sums[0] = outputs.argmax(1).eq(targets).sum()
    else:
        y = targets.to(dtype)
        sums[0], sums[1], sums[2] = (outputs.to(dtype) - y).square().sum(), y.sum(), y.square().sum()
    sums[3] = targets.numel()
    return sums


def score(sums: list[float], task: str) -> float:
    """Accuracy, or R² = 1 − Σ(f−y)² / Σ(y−ȳ)², from `score_sums`; NaN without samples."""
    hits_or_error, total, squares, count = sums
    if count == 0:
        return float("nan")
    if task == "classification":
        return hits_or_error / count
    spread = squares - total**2 / count
    return 1 - hits_or_error / spread if spread > 0 else float("nan")
