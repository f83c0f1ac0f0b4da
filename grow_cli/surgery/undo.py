"""Undoing growth: restores the net and the optimizer in the same objects."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from grow_cli.hardware import sent_module
from grow_cli.models.base import rebuild
from grow_cli.models.modules.network import GrowableModel
from grow_cli.surgery.optimizer import regroup

_ROUNDING = 1e-9  # of a difference of two scores


@dataclass(frozen=True)
class Snapshot:
    """A net and its optimizer at a moment; plain data and tensors."""

    architecture: dict[str, Any]
    model: dict[str, Any]
    optimizer: dict[str, Any]

    @classmethod
    def take(cls, model: GrowableModel, optimizer: Optimizer) -> Snapshot:
        """Copies, that later steps do not change."""
        return cls(model.architecture(), deepcopy(model.state_dict()), deepcopy(optimizer.state_dict()))

    def restore(self, model: GrowableModel, optimizer: Optimizer) -> None:
        """Make the net that again, with new modules and parameters inside it, and the optimizer theirs.

        Rates and other settings of the optimizer stay as they are; sites must be asked for anew.
        """
        like, training = next(model.parameters()), model.training
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        old = rebuild(self.architecture)
        old.load_state_dict(self.model)
        sent_module(old, like).train(training)
        for name, parameter in old.named_parameters():
            parameter.requires_grad_(name not in frozen)
        vars(model).clear()
        vars(model).update(vars(old))
        settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        optimizer.state.clear()
        regroup(model, optimizer)
        optimizer.load_state_dict(deepcopy(self.optimizer))
        for group, kept in zip(optimizer.param_groups, settings, strict=True):
            group.update(kept)


@dataclass
class Undo:
    """The state before a growth, and the score that it must improve before the trigger fires again."""

    snapshot: Snapshot
    method: dict[str, Any]
    """The method's state."""
    event: int
    """The number of the growth event that followed."""
    units: int
    """That it added."""
    score: float
    """On validation, before, times the task's direction: more is better."""
    batch_size: int
    loss: float = -math.inf
    """On validation, before; absent in older checkpoints, where a tie was no help."""
    slack: float | None = None
    """By how much the score may be worse, where something was removed; None: it must be better."""

    def helped(self, score: float, loss: float) -> bool:
        """Whether a later validation is better: by the score, a tie by the loss; or not worse by more than the slack."""
        if self.slack is not None:
            return score >= self.score - self.slack - _ROUNDING
        return (score, -loss) > (self.score, -self.loss)

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors, for a checkpoint."""
        return vars(self) | {"snapshot": vars(self.snapshot)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Undo:
        """The inverse of `state_dict`."""
        return cls(**(state | {"snapshot": Snapshot(**state["snapshot"])}))
