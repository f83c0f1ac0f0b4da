"""Taking back a growth step that did not help (`growth.rollback`)."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.methods.base import Method
from grow_cli.surgery.measure import function_change, measure
from grow_cli.surgery.undo import Snapshot
from grow_cli.training.gathering import score_name
from grow_cli.training.growth import count_parameters, model_flops, widths_text

if TYPE_CHECKING:
    from grow_cli.training.state import Run


@dataclass
class Undo:
    """What growth may be taken back to, and what it must have bettered when the trigger fires again."""

    snapshot: Snapshot
    method: dict[str, Any]
    """The method's state."""
    event: int
    """The number of the growth event that followed."""
    units: int
    """That it added."""
    score: float
    """On validation, before: accuracy, or R²."""
    batch_size: int

    @classmethod
    def take(cls, run: Run, method: Method) -> Undo:
        """Of the present net and method, before an event."""
        snapshot = Snapshot.take(run.model, run.optimizer)
        return cls(
            snapshot, deepcopy(method.state_dict()), run.progress.firings + 1, 0, score(run), run.batches.batch_size
        )

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors, for a checkpoint."""
        return vars(self) | {"snapshot": vars(self.snapshot)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Undo:
        """The inverse of `state_dict`."""
        return cls(**(state | {"snapshot": Snapshot(**state["snapshot"])}))


def score(run: Run) -> float:
    """The last validation's accuracy, or R²."""
    return run.measured[f"val_{score_name(run.data.spec.task)}"]


def roll_back(run: Run, method: Method, undo: Undo) -> dict[str, Any]:
    """Restore net, optimizer and batch size, tell the method, and return the event's fields of the growth log."""
    probe = run.data.probe(run.config.evaluate.probe)
    before, flops = measure(run.model, probe.x, probe.y, run.loss), model_flops(run)
    event: dict[str, Any] = {
        "kind": "rollback",
        "proposals": 0,
        "site": "",
        "updated": [],
        "units_added": -undo.units,
        "added": [],
        "details": {
            "reason": f"growth event {undo.event} is undone: validation was {undo.score:.4f} before it and is {score(run):.4f}",
            "undone": undo.event,
            "score_before": undo.score,
            "score_now": score(run),
        },
        "phases": [],
        "loss_before": before.loss,
        "accuracy_before": before.accuracy,
        "parameters_before": count_parameters(run.model),
        "flops_before": flops,
        "widths_before": widths_text(run.model),
    }
    method.rolled_back(run, undo.method)
    undo.snapshot.restore(run.model, run.optimizer)
    run.batches.set_batch_size(undo.batch_size)
    run.progress.undone += 1
    after = measure(run.model, probe.x, probe.y, run.loss)
    change = function_change(before.outputs, after.outputs)
    return event | {
        "loss_after": after.loss,
        "accuracy_after": after.accuracy,
        "loss_settled": after.loss,
        "accuracy_settled": after.accuracy,
        "function_change": change.mean_squared,
        "function_change_relative": change.relative,
        "parameters_after": count_parameters(run.model),
        "flops_after": model_flops(run),
        "widths_after": widths_text(run.model),
        "growth_seconds": 0.0,
        "growth_flops": 0,
    }
