"""One growth event: propose, apply, check, settle, and log. No method's name appears here."""

from __future__ import annotations

import math
import time
from typing import Any

from torch import nn

from grow_cli.errors import TrainingFailed
from grow_cli.hardware import Readings
from grow_cli.methods.base import Settling, WarmUp
from grow_cli.records.events import GrowthEvent
from grow_cli.records.words import counted, widths_text
from grow_cli.surgery.event import Event
from grow_cli.surgery.flops import FlopCounter
from grow_cli.surgery.measure import FunctionChange, Measurement, function_change, measure
from grow_cli.training.device import synchronize
from grow_cli.training.session import Session, computable
from grow_cli.training.warmup import warm_up_alone

# Above it, in float32, a method that claims to preserve the function has not.
_PRESERVED = 1e-4


def growth_closed(session: Session, used: float) -> str:
    """Why nothing can grow any more, whatever the trigger says; empty while something can."""
    growth, method = session.config.growth, session.method
    if method.kind == "none":
        return "this method never grows"
    if used >= growth.until and method.heeds_until:
        return f"the part of the budget in which the net may grow is over (growth.until={growth.until:g})"
    if growth.max_events is not None and session.progress.events >= growth.max_events:
        return f"growth.max_events={growth.max_events} is reached"
    if growth.max_parameters is not None and method.adds and session.parameters >= growth.max_parameters:
        return f"growth.max_parameters={growth.max_parameters} is reached"
    if growth.max_flops_per_sample is not None and method.adds and session.flops >= growth.max_flops_per_sample:
        return f"growth.max_flops_per_sample={growth.max_flops_per_sample} is reached"
    in_vain = session.progress.events_without_gain
    if growth.plateau is not None and in_vain >= growth.plateau and not session.is_best:
        return f"the last {counted(in_vain, 'event')} did not improve validation (growth.plateau={growth.plateau})"
    return method.closed(session.moment())


def sizes(session: Session, moment: str) -> dict[str, Any]:
    """Those of the net as it is now, named as in the growth log, `moment` being before or after."""
    widths = widths_text(session.model.widths())
    found = {"parameters": session.parameters, "flops": session.flops, "widths": widths}
    return {f"{name}_{moment}": value for name, value in found.items()}


class Probe:
    """The fixed batch on which every event is measured."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._batch = session.data.probe(session.config.evaluate.probe)
        self._readings = Readings()
        self._measured: dict[str, Measurement] = {}
        self.change: FunctionChange | None = None
        """From `before` to `after`."""

    def measure(self, moment: str) -> None:
        """`before`, `after` or `settled`; nothing is read from the device yet."""
        found = measure(self._session.model, self._batch.x, self._batch.y, self._session.loss, self._readings)
        self._measured[moment] = found
        if moment == "after":
            self.change = function_change(self._measured["before"].outputs, found.outputs, self._readings)

    @property
    def fields(self) -> dict[str, Any]:
        """Of the growth log, as far as they are measured; read from the device together."""
        fields: dict[str, Any] = {}
        for moment, found in self._measured.items():
            fields |= {f"loss_{moment}": found.loss, f"accuracy_{moment}": found.accuracy}
            if moment == "after" and self.change is not None:
                change = self.change
                fields |= {"function_change": change.mean_squared, "function_change_relative": change.relative}
        return fields


def grow(session: Session) -> GrowthEvent:
    """Grow once: the event's line of the growth log, without what is the loop's; updates the growth counters.

    What is timed is the growing; measuring the net before and after is evaluation, which `seconds` leave out.
    """
    method, model = session.method, session.model
    probe, before = Probe(session), sizes(session, "before")
    probe.measure("before")
    known = list(model.parameters())  # held: the ids of freed ones would be given to new ones
    growth = session.config.growth
    event = Event(
        model=model,
        optimizer=session.optimizer,
        optimizer_state=growth.optimizer_state,
        lr_factor=growth.lr_factor,
        lr_warmup=growth.lr_warmup,
    )
    synchronize(session.device)
    begun = time.perf_counter()
    with computable(session), session.streams.using("growth"), FlopCounter() as counter:
        method.add(session.moment(), event)
    synchronize(session.device)
    seconds = time.perf_counter() - begun
    probe.measure("after")
    after = sizes(session, "after")
    phases: list[dict[str, Any]] = [{"phase": "initialize", "seconds": seconds}]
    if event.applied:
        old = {id(p) for p in known}
        begun = time.perf_counter()
        settling = method.settle(session.moment(), session.flops)
        phases += _settle(session, settling, [p for p in model.parameters() if id(p) not in old])
        synchronize(session.device)
        seconds += time.perf_counter() - begun
    probe.measure("settled")
    _check_preserved(session, event, probe.fields["function_change_relative"])
    spent = counter.flops + event.flops + sum(phase.get("flops", 0) for phase in phases)
    session.charge(seconds, spent)
    session.progress.growth_steps += sum(phase.get("steps", 0) for phase in phases)
    return GrowthEvent(
        **_added(event, method.kind),
        **probe.fields,
        **before,
        **after,
        phases=phases,
        growth_seconds=seconds,
        growth_flops=spent,
    )


def _check_preserved(session: Session, event: Event, change: float) -> None:
    if session.method.preserves_function and event.applied and change > _PRESERVED:
        raise TrainingFailed(
            f"growth changed the function by {change:.1e} (relative), although this method preserves it: please report this "
            "bug"
        )


def _added(event: Event, kind: str) -> dict[str, Any]:
    """What the event added, as the growth log has it."""
    applied = event.applied
    units = sum(p.units for p in applied)
    details = event.details | ({"proposals": [p.details for p in applied]} if applied else {})
    return {
        "kind": applied[0].kind if applied else kind,
        "proposals": len(applied),
        "site": "; ".join(p.site.name for p in applied if p.units),
        "updated": [p.site.name for p in applied if not p.units],
        "units_added": units,
        "added": [{"kind": p.kind, "site": p.site.name, "units": p.units} for p in applied if p.units],
        "details": details if units else details | {"reason": "; ".join(event.reasons)},
    }


def _settle(session: Session, wanted: Settling, new: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Do what the method needs before training continues; returns the phases, for the growth log."""
    phases: list[dict[str, Any]] = []
    if wanted.batch_size is not None:
        before = session.batches.batch_size
        session.batches.set_batch_size(wanted.batch_size)
        now = session.batches.batch_size
        phases.append({"phase": "batch", "seconds": 0.0, "batch_size": now, "batch_size_before": before})
    if wanted.warm_up is not None:
        phases += _warm_up(session, wanted.warm_up, new)
    return phases


def _warm_up(session: Session, warm_up: WarmUp, new: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Phases 1, 3 and 4 of Alether's Algorithm 2; the data come from the growth stream, so the run's order does not move."""
    begun = time.perf_counter()
    losses, flops = warm_up_alone(session, new, warm_up)
    first, last = losses or (math.nan, math.nan)
    frozen = sum(p.numel() for p in session.model.parameters()) - sum(p.numel() for p in new)
    return [
        {"phase": "freeze", "parameters": frozen},
        {
            "phase": "warmup",
            "steps": warm_up.steps + warm_up.thaw,
            "rate": warm_up.rate,
            "thaw_steps": warm_up.thaw,
            "seconds": time.perf_counter() - begun,
            "flops": flops,
            "loss_first": first,
            "loss_last": last,
        },
        {"phase": "resume", "schedule_restarts": session.config.schedule.restart},
    ]
