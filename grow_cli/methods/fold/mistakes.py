"""The mistakes of a net on its training split, and the record of each that a neuron was grown for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grow_cli.hardware import fetched
from grow_cli.surgery.measure import evaluation_mode

if TYPE_CHECKING:
    from grow_cli.moment import Moment


@dataclass(frozen=True)
class Judged:
    """The whole training split, as the net answers now."""

    outputs: Tensor
    """(N, outputs), on the CPU."""
    errors: Tensor
    """(N,) how bad each is: the loss of a class, the distance from a target."""
    wrong: Tensor
    """(N,) whether it is a mistake: another class, or a distance above the tolerance."""
    tolerance: float
    """Of a regression; NaN for classes."""

    def answer(self, sample: int) -> int | list[float]:
        """The class predicted, or the outputs."""
        row = self.outputs[sample]
        return int(row.argmax()) if self.tolerance != self.tolerance else row.tolist()


def judge(now: Moment, tolerance: float | None) -> Judged:
    """One pass over the training split, not augmented; without a tolerance a regression's is its root mean square error."""
    data, task = now.data, now.data.spec.task
    size = now.config.evaluate.batch_size
    with evaluation_mode(now.model):
        parts = [now.model(data.prepare(x)).float() for x in data.train.x.split(size)]
    outputs, y = fetched([torch.cat(parts), data.train.y])
    if task == "classification":
        errors = torch.nn.functional.cross_entropy(outputs, y, reduction="none")
        return Judged(outputs, errors, outputs.argmax(1) != y, float("nan"))
    errors = (outputs - y).norm(dim=1)
    limit = float(errors.square().mean().sqrt()) if tolerance is None else tolerance
    return Judged(outputs, errors, errors > limit, limit)


@dataclass
class Explained:
    """Why a neuron exists: the mistake that it was grown for. Plain data and tensors, as they stand in the checkpoint."""

    neuron: int
    """Serial number, from 1."""
    event: int
    step: int
    unit: int
    """Its place in the hidden layer."""
    sample: int
    """Of the training split."""
    predicted: int | list[float]
    """The class (or the outputs) that the net gave it before."""
    true: int | list[float]
    error: float
    """Its loss, or the distance from its target, before."""
    mistakes: int
    """On the training split, before."""
    tolerance: float
    """Of a regression: the distance above which an answer counts as a mistake."""
    members: Tensor
    """(cluster,) samples of the cluster of mistakes, int32."""
    x_mistake: Tensor
    """(...) the sample, as the net takes it."""
    x_fold: Tensor
    """(...) the point that it folds at."""
    after: dict[str, Any] | None = None
    """What the net said when it had been trained on: when the next neuron came, or at the end."""
    at_end: dict[str, Any] | None = None
    rolled_back: bool = False

    def now(self, judged: Judged) -> dict[str, Any]:
        """How it stands with its instance and its cluster."""
        wrong = judged.wrong
        if self.tolerance == self.tolerance:
            wrong = judged.errors > self.tolerance
        return {
            "predicted": judged.answer(self.sample),
            "right": not bool(wrong[self.sample]),
            "mistakes": int(wrong[self.members.long()].sum()),
        }

    def state_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}
