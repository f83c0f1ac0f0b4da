"""Training loss and accuracy of the minibatches since the last evaluation, gathered on the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from grow_cli.hardware import precise
from grow_cli.tasks import Task

# Outputs are kept and scored together: a kernel each for many steps instead of several for every step.
_SCORE_EVERY = 64


class Gathered:
    """Sums over minibatches; `add` reads nothing back from the device, `read` does."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.device = task, device
        self._by_loss = task.of_loss(0.0) is not None
        self._clear()

    def _clear(self) -> None:
        self._dtype = precise(self.device)
        self._sums = torch.zeros(5, dtype=self._dtype, device=self.device)
        self._steps = 0
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def empty(self) -> bool:
        """Whether nothing was added since the last reading."""
        return self._steps == 0 and not self._pending

    def add(self, loss: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """A minibatch: mean loss (), outputs (n, k), targets (n,) or (n, k)."""
        if self._by_loss:  # outputs over a vocabulary are large: nothing of them is kept
            outputs, targets = outputs[:0].clone(), targets[:0].clone()  # a view alone would keep all of their memory
        self._pending.append((loss, outputs, targets))
        if len(self._pending) == _SCORE_EVERY:
            self._score()

    def _score(self) -> None:
        losses, outputs, targets = zip(*self._pending, strict=True)
        self._steps += len(losses)
        self._sums[0] += torch.stack(losses).sum(dtype=self._dtype)
        if not self._by_loss:
            self._sums[1:] += self.task.sums(torch.cat(outputs), torch.cat(targets), self._dtype)
        self._pending = []

    def read(self) -> dict[str, float]:
        """`train_loss` and `train_<score>` since the last reading; starts anew."""
        if self._pending:
            self._score()
        loss, *sums = self._sums.tolist()
        mean = loss / self._steps if self._steps else float("nan")
        told = self.task.of_loss(mean)
        result = {"train_loss": mean, self.task.column("train"): self.task.value(sums) if told is None else told}
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
