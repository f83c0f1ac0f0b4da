"""Undoing a growth event that did not help (`growth.rollback`).

What goes back: the net's architecture, weights and buffers, the optimizer's memory, the batch size, and the method's
own state. What stays as it is: steps, epochs, seconds and FLOPs; the order of the data and every random stream, so that
the net is trained on other minibatches than before; the schedule, with the moment at which the undone growth restarted
it (`schedule.restart`); the best checkpoint. The frontier's trajectory begins anew, and so does what the trigger
remembers, as after any growth.
"""

from __future__ import annotations

from copy import deepcopy

from grow_cli.records.events import GrowthEvent
from grow_cli.surgery.undo import Snapshot, Undo
from grow_cli.training.event import Probe, sizes
from grow_cli.training.session import Session


def undo_of(session: Session) -> Undo:
    """The way back to the present net and method, before an event."""
    return Undo(
        snapshot=Snapshot.take(session.model, session.optimizer),
        method=deepcopy(session.method.state_dict()),
        event=session.progress.firings + 1,
        units=0,
        score=session.score,
        batch_size=session.batches.batch_size,
        loss=session.measured["val_loss"],
        slack=session.method.slack(session.score),
    )


def roll_back(session: Session) -> GrowthEvent:
    """Restore net, optimizer and batch size, tell the method, and return the event's line of the growth log."""
    undo, session.undo = session.undo, None
    assert undo is not None
    probe, before = Probe(session), sizes(session, "before")
    probe.measure("before")
    session.method.rolled_back(session.moment(), undo.method)
    undo.snapshot.restore(session.model, session.optimizer)
    session.batches.set_batch_size(undo.batch_size)
    session.progress.undone += 1
    for moment in ("after", "settled"):
        probe.measure(moment)
    sign = session.task.direction  # what is told is the score itself
    return GrowthEvent(
        kind="rollback",
        units_added=-undo.units,
        added=[],
        details={
            "reason": f"growth event {undo.event} is taken back: validation was {sign * undo.score:.4f} before it and is "
            f"{sign * session.score:.4f}" + (", without a lower loss" if session.score == undo.score else ""),
            "undone": undo.event,
            "score_before": sign * undo.score,
            "score_now": sign * session.score,
            "loss_before": undo.loss,
            "loss_now": session.measured["val_loss"],
        },
        **probe.fields,
        **before,
        **sizes(session, "after"),
    )
