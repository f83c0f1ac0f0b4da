"""The loop of one of several ranks: gradients are added up, rank 0 evaluates and grows, the others go on from what it tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from grow_cli.loggers.base import Logger
from grow_cli.records.folder import RunFolder
from grow_cli.training.display import Display
from grow_cli.training.loop import Loop
from grow_cli.training.ranks import Ranks
from grow_cli.training.session import Session
from grow_cli.training.step import Step, make_forward
from grow_cli.training.whole_batch import whole_batch

_REPEATS_FOR = 5.0  # seconds in which a launcher passes on a signal that this process has got already


class SharedLoop(Loop):
    """Trains a session along with the other ranks."""

    def __init__(
        self,
        session: Session,
        folder: RunFolder,
        display: Display,
        logger: Logger,
        ranks: Ranks,
        session_from: Callable[[dict[str, Any]], Session],
    ) -> None:
        """`session_from`: a new session on the net of a checkpoint's state, not yet restored."""
        self.ranks, self.session_from = ranks, session_from
        session.interrupted.repeats_for = _REPEATS_FOR
        super().__init__(session, folder, display, logger)

    @property
    def _asked_to_stop(self) -> Callable[[], int | None]:
        return lambda: self.ranks.heard

    def _model_changed(self) -> None:
        super()._model_changed()
        self._step = make_shared_step(self.session, self.ranks)

    def save(self, *, best: bool) -> None:
        """A checkpoint, by rank 0."""
        if self.ranks.first:
            super().save(best=best)

    def _evaluate(self) -> None:
        self.ranks.refuse_different(self.session.model.state_dict().values())
        told = self.ranks.led(self._evaluated)
        if not self.ranks.first:
            self.gathered.read()  # as rank 0 did: the next ones begin anew
            self.session.progress.load_state_dict(told["progress"])
            self.session.trigger.load_state_dict(told["trigger"])
            self.session.measured, self.session.closed = told["measured"], told["closed"]
            self.grown_since_evaluation = False

    def _evaluated(self) -> dict[str, Any]:
        super()._evaluate()
        session = self.session
        return {
            "progress": session.progress.state_dict(),
            "trigger": session.trigger.state_dict(),
            "measured": session.measured,
            "closed": session.closed,
        }

    def _grow(self) -> None:
        told = self.ranks.led(self._grown_first)
        if not self.ranks.first:
            self._follow(told["run"])
            self.grown_since_evaluation = told["grown"]
        self.ranks.refuse_different(self.session.model.state_dict().values())

    def _grown_first(self) -> dict[str, Any]:
        super()._grow()
        return {"run": self.state(), "grown": self.grown_since_evaluation}

    def _follow(self, state: dict[str, Any]) -> None:
        """Go on from rank 0's state as a resumed run does: the same for every method."""
        earlier = self.session
        if earlier.history is not None:
            earlier.history.close()
        self.session = self.session_from(state)
        self.session.interrupted, self.session.progress = earlier.interrupted, earlier.progress
        self.method, self.trigger = self.session.method, self.session.trigger
        self.restore(state)


def make_shared_step(session: Session, ranks: Ranks) -> Step:
    """`make_step`'s on this rank's part of a global batch: (inputs, targets) → the global (loss, outputs), the same on each rank.

    Each rank's loss is its share of the global mean: sums over ranks are right for unequal parts, too. Loss, gradients and
    outputs are added up in one vector, each rank's outputs among zeros; where a task is scored by its loss they are left out.
    In its last place is how many ranks a signal has reached: that all know it after the same step costs no message more.
    """
    compute, optimizer = make_forward(session), session.optimizer
    clip, regularizer, now = session.config.clip_norm, session.method.regularizer, session.moment()
    parameters = [p for p in session.model.parameters() if p.requires_grad]
    inputs = session.method.trained(session.model)
    by_loss = session.task.of_loss(0.0) is not None

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        mine = ranks.part(y)
        share = len(mine) / len(y)
        with whole_batch(ranks, len(y)):
            loss, outputs = compute(ranks.part(x), mine)
        term = regularizer(now)
        (share * (loss if term is None else loss + term)).backward(inputs=inputs)
        kept = outputs.detach()[:0]
        if not by_loss:
            kept = outputs.new_zeros(len(y), *outputs.shape[1:])
            kept[ranks.rank :: ranks.world] = outputs.detach()
        trained = [p for p in parameters if p.grad is not None]
        gradients = [p.grad for p in trained if p.grad is not None]
        reached = loss.new_full((1,), 0.0 if session.interrupted() is None else 1.0)
        parts = [share * loss.detach().reshape(1), kept, *gradients, reached]
        flat = ranks.sum_(torch.cat([part.reshape(-1) for part in parts]))
        summed = flat.split([part.numel() for part in parts])
        for parameter, total in zip(trained, summed[2:-1], strict=True):
            parameter.grad = total.view_as(parameter)
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad()
        if summed[-1].item():
            ranks.hear(session.interrupted())
        return summed[0].reshape(()).clone(), summed[1].view_as(kept).clone()

    return step
