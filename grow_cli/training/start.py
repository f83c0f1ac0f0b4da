"""What is asked of an assembled run before its first step."""

from __future__ import annotations

import copy

import torch

from grow_cli.console import warn
from grow_cli.errors import UserError
from grow_cli.training.event import growth_closed
from grow_cli.training.loop import Loop
from grow_cli.training.session import Session


def check_start(loop: Loop) -> None:
    """UserError if the run could not take a step as configured; warnings about growth that cannot happen."""
    session, config = loop.session, loop.session.config
    config.optimizer.check_start(session.moment())
    for sentence in session.method.check_start(session.moment()):
        warn(sentence)
    closed = growth_closed(session, 0.0)
    if closed and session.method.kind != "none":
        warn(f"nothing will grow: {closed}")
    elif session.method.kind != "none":
        for sentence in session.trigger.check_start(session.moment()):
            warn(sentence)
    if session.data.val is session.data.train:
        warn(
            "dataset.validation=0: nothing is held out, so everything selected on validation (best.pt, growth.rollback, "
            "trigger=plateau, stop.plateau, stop.val_score, grow tune) is selected on training data"
        )
    a_step = 3 * loop.flops * session.batches.batch_size
    if config.stop.flops is not None and config.stop.flops < a_step:
        raise UserError(f"stop.flops={config.stop.flops:.3g} is less than one step takes ({a_step:.3g}): raise it")
    if config.stop.parameters is not None and config.stop.parameters <= loop.parameters:
        raise UserError(
            f"stop.parameters={config.stop.parameters}: the net has {loop.parameters:,} before it is trained: raise it"
        )
    if session.batches.batch_size == 1:
        _check_single_samples(session)


def _check_single_samples(session: Session) -> None:
    try:
        with torch.no_grad(), session.streams.peeking("growth"):  # dropout must not move the generators of training
            copy.deepcopy(session.model)(session.data.probe(1).x)
    except ValueError as error:  # one value per channel has no variance
        raise UserError(
            "batch_size=1: this model's batch normalisation needs at least two samples: raise batch_size, or set "
            "model.norm=none"
        ) from error
