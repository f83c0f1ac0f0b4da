"""One growth event: propose, apply, check, settle, and say what happened. No method's name appears here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from grow_cli.errors import TrainingFailed
from grow_cli.methods.base import Method
from grow_cli.surgery.apply import apply
from grow_cli.surgery.flops import flops_per_sample
from grow_cli.surgery.measure import function_change, measure
from grow_cli.training.device import synchronize

if TYPE_CHECKING:
    from torch import nn

    from grow_cli.methods.expanding.readings import Scored
    from grow_cli.training.state import Run

# Above it, in float32, a method that claims to preserve the function has not.
_PRESERVED = 1e-4


def count_parameters(model: nn.Module) -> int:
    """Trainable scalars."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def widths_text(model: Any) -> str:
    """The hidden widths in order, joined by `-`."""
    return "-".join(str(w) for w in model.widths())


def model_flops(run: Run) -> int:
    """Forward FLOPs of one sample."""
    return flops_per_sample(run.model, run.data.spec.input_shape)


def growth_closed(run: Run, method: Method, used: float, parameters: int) -> str:
    """Why nothing can grow any more, whatever the trigger says; empty while something can."""
    growth = run.config.growth
    if method.kind == "none":
        return "this method never grows"
    if used >= growth.until and run.config.method.heeds_until:
        return f"the part of the budget in which the net may grow is over (growth.until={growth.until:g})"
    if growth.max_events is not None and run.progress.events >= growth.max_events:
        return f"growth.max_events={growth.max_events} is reached"
    if growth.max_parameters is not None and parameters >= growth.max_parameters:
        return f"growth.max_parameters={growth.max_parameters} is reached"
    return method.closed(run)


def score_now(run: Run, method: Method, samples: int) -> list[Scored]:
    """What the method would add now, scored: the growth stream does not move, and the cost is growth's."""
    progress = run.progress
    synchronize(run.device)
    begun = time.perf_counter()
    with _computable(progress.step), run.streams.peeking("growth"):
        scored, flops = method.scored(run, samples)
    synchronize(run.device)
    seconds = time.perf_counter() - begun
    progress.seconds += seconds
    progress.growth_seconds += seconds
    progress.flops += flops
    progress.growth_flops += flops
    return scored


@contextmanager
def _computable(step: int) -> Iterator[None]:
    try:
        yield
    except torch.linalg.LinAlgError as error:
        raise TrainingFailed(
            f"growth cannot be computed at step {step:,}: activations or gradients are no longer finite, or too large: "
            "lower optimizer.lr or set clip_norm=1; the last good checkpoint is kept"
        ) from error


def grow(run: Run, method: Method) -> dict[str, Any]:
    """Grow once and return the event's fields of the growth log that are not the loop's; updates the growth counters.

    What is timed is the growing; measuring the net before and after is evaluation, which `seconds` leave out.
    """
    progress, model = run.progress, run.model
    probe = run.data.probe(run.config.evaluate.probe)
    x, y = probe.x, probe.y
    before = measure(model, x, y, run.loss)
    flops = model_flops(run)
    event: dict[str, Any] = {
        "loss_before": before.loss,
        "accuracy_before": before.accuracy,
        "parameters_before": count_parameters(model),
        "flops_before": flops,
        "widths_before": widths_text(model),
    }
    known = list(model.parameters())  # held: the ids of freed ones would be given to new ones
    applied = []
    synchronize(run.device)
    begun = time.perf_counter()
    with _computable(progress.step), run.streams.using("growth"):
        plan = method.propose(run)
        for proposal in plan.proposals:  # one may be made when those before it have been applied
            apply(proposal, model, run.optimizer, optimizer_state=run.config.growth.optimizer_state)
            applied.append(proposal)
    synchronize(run.device)
    seconds = time.perf_counter() - begun
    after = measure(model, x, y, run.loss)
    change = function_change(before.outputs, after.outputs)
    if method.preserves_function and applied and change.relative > _PRESERVED:
        raise TrainingFailed(
            f"growth changed the function by {change.relative:.1e} (relative) though this method preserves it: "
            "please report this"
        )
    flops = model_flops(run)
    phases: list[dict[str, Any]] = [{"phase": "initialize", "seconds": seconds}]
    if applied:
        old = {id(p) for p in known}
        begun = time.perf_counter()
        phases += method.settle(run, [p for p in model.parameters() if id(p) not in old], flops)
        synchronize(run.device)
        seconds += time.perf_counter() - begun
    settled = measure(model, x, y, run.loss)
    spent = plan.flops + sum(phase.get("flops", 0) for phase in phases)
    progress.seconds += seconds
    progress.growth_seconds += seconds
    progress.flops += spent
    progress.growth_flops += spent
    progress.growth_steps += sum(phase.get("steps", 0) for phase in phases)
    units = sum(p.units for p in applied)
    details = plan.details | ({"proposals": [p.details for p in applied]} if applied else {})
    details |= {} if units else {"reason": plan.reason}
    return event | {
        "kind": applied[0].kind if applied else method.kind,
        "proposals": len(applied),
        "site": "; ".join(p.site.name for p in applied if p.units),
        "updated": [p.site.name for p in applied if not p.units],
        "units_added": units,
        "added": [{"kind": p.kind, "site": p.site.name, "units": p.units} for p in applied if p.units],
        "details": details,
        "phases": phases,
        "loss_after": after.loss,
        "accuracy_after": after.accuracy,
        "loss_settled": settled.loss,
        "accuracy_settled": settled.accuracy,
        "function_change": change.mean_squared,
        "function_change_relative": change.relative,
        "parameters_after": count_parameters(model),
        "flops_after": flops,
        "widths_after": widths_text(model),
        "growth_seconds": seconds,
        "growth_flops": spent,
    }
