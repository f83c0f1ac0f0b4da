"""The state of a run, changed only by the loop and by growth events. Methods and triggers see its `Moment`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from grow_cli.errors import TrainingFailed
from grow_cli.moment import Moment, Progress
from grow_cli.surgery.event import Notes
from grow_cli.surgery.flops import FlopCounter, flops_per_sample
from grow_cli.surgery.measure import count_parameters, exact_products
from grow_cli.tasks import TASKS, Task
from grow_cli.training.budget import Budget
from grow_cli.training.device import synchronize
from grow_cli.training.interrupts import Interrupts
from grow_cli.training.streams import Streams

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from grow_cli.config import Config
    from grow_cli.data.batches import Batches
    from grow_cli.data.tensors import Data
    from grow_cli.methods.base import Method
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.surgery.undo import Undo
    from grow_cli.tasks import Loss
    from grow_cli.theory.expansion import Scored
    from grow_cli.theory.history import History
    from grow_cli.triggers.base import Trigger

_counted: dict[tuple[type[nn.Module], str], int] = {}
"""Class and architecture of a net → forward FLOPs of one sample."""


@dataclass
class Session:
    """Everything that must survive a kill is here and in the parts' own states."""

    config: Config
    device: torch.device
    data: Data
    model: GrowableModel
    method: Method
    trigger: Trigger
    optimizer: Optimizer
    batches: Batches
    streams: Streams
    loss: Loss
    """(outputs, targets) → mean loss of the batch, label smoothing included."""
    progress: Progress = field(default_factory=Progress)
    history: History | None = None
    """The frontier's trajectory, where trigger or method reads it."""
    measured: dict[str, float] = field(default_factory=dict)
    """The last evaluation: train_loss, val_loss, val_accuracy or val_r2, ..."""
    undo: Undo | None = None
    """What the last growth can be taken back to, where `growth.rollback` asks for it."""
    closed: str = ""
    """Why nothing can grow any more, as of the last evaluation; empty while something can."""
    interrupted: Interrupts = field(default_factory=Interrupts)
    """Called: the number of the signal that asks for a stop, if one has arrived."""

    @property
    def task(self) -> Task:
        return TASKS[self.data.spec.task]

    @property
    def score(self) -> float:
        """The last validation's, in the direction in which more is better."""
        return self.task.direction * self.measured[self.task.column("val")]

    @property
    def is_best(self) -> bool:
        """Whether the last validation is better than the best before it: by the score, ties by the loss."""
        best = (self.progress.best_val_score, -self.progress.loss_at_best)
        return (self.score, -self.measured["val_loss"]) > best

    @property
    def undo_helped(self) -> bool:
        """Whether the growth that could be undone has helped, by the last validation."""
        return self.undo is not None and self.undo.helped(self.score, self.measured["val_loss"])

    @property
    def flops(self) -> int:
        """Forward FLOPs of one sample; counting takes longer than a step, so a net that was counted is not counted again."""
        net = (type(self.model), json.dumps(self.model.architecture()))
        if net not in _counted:
            _counted[net] = flops_per_sample(self.model, self.data.spec.input_shape)
        return _counted[net]

    @property
    def parameters(self) -> int:
        return count_parameters(self.model)

    @property
    def budget(self) -> Budget:
        """The stop rules, with the batch size as it is now."""
        steps, p = self.batches.steps_per_epoch, self.progress
        return Budget(self.config.stop, steps, p.anchor_step, p.anchor_epoch, self.task.direction)

    @property
    def used(self) -> float:
        """Fraction of the budget, by whichever limit is nearer."""
        return self.budget.used(self.progress.step, self.progress.seconds, self.progress.flops)

    def moment(self) -> Moment:
        """The run as it is now, to be read."""
        return Moment(
            config=self.config,
            device=self.device,
            data=self.data,
            model=self.model,
            loss=self.loss,
            batch_size=self.batches.batch_size,
            steps_per_epoch=self.batches.steps_per_epoch,
            progress=self.progress,
            used=self.used,
            history=self.history,
            measured=self.measured,
            closed=self.closed,
            scored=self.score_proposals,
            interrupted=self.interrupted,
        )

    def score_proposals(self, samples: int) -> list[Scored]:
        """What the method would add now, scored: the growth stream does not move, and the cost is growth's."""
        notes = Notes()
        synchronize(self.device)
        begun = time.perf_counter()
        with computable(self), self.streams.peeking("growth"), FlopCounter() as counter:
            scored = self.method.scored(self.moment(), samples, notes)
        synchronize(self.device)
        self.charge(time.perf_counter() - begun, counter.flops + notes.flops)
        return scored

    def charge(self, seconds: float, flops: int) -> None:
        """Charge growth, and with it training."""
        self.progress.seconds += seconds
        self.progress.growth_seconds += seconds
        self.progress.flops += flops
        self.progress.growth_flops += flops


@contextmanager
def computable(session: Session) -> Iterator[None]:
    """Statistics, solves and scores in exact products; TrainingFailed where one meets numbers that are not finite."""
    try:
        with exact_products(session.device):
            yield
    except torch.linalg.LinAlgError as error:
        raise TrainingFailed(
            f"growth cannot be computed at step {session.progress.step:,}: activations or gradients are no longer finite, "
            "or too large: lower optimizer.lr or set clip_norm=1; the last good checkpoint is kept"
        ) from error
