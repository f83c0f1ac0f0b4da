"""Extending a run by a higher limit: which limits may move, what the result then is, and where the former summary goes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from grow_cli import console
from grow_cli.config import Config, Stop
from grow_cli.errors import UserError
from grow_cli.records.folder import RunFolder

# budget → the field of the summary that says how much of it was used
_USED = {"epochs": "epochs", "steps": "steps", "seconds": "seconds", "flops": "training_flops"}


def limits(overrides: Collection[str]) -> list[str]:
    """Those of the overrides that move a limit."""
    return [override for override in overrides if override.startswith("stop.")]


def check(folder: RunFolder, config: Config, summary: dict[str, Any]) -> None:
    """UserError if a run cannot be extended to these limits; a warning if it then differs from a run that had them from
    the start."""
    finished = summary.get("status") == "finished"
    if config.schedule.longer == "refused":
        raise UserError(
            f"schedule={config.schedule.name} is spread over the whole budget, so this run's limit cannot change: train again "
            f"with {' '.join(limits_of(config.stop))}, or with schedule=constant if you want to extend runs"
        )
    if finished:
        _check_further(folder, config.stop, summary)
    reasons = []
    if config.schedule.longer == "anew":
        reasons.append(
            f"schedule={config.schedule.name} follows the budget, so the rate rises again where it had fallen"
        )
    over = config.growth.max_events is not None and summary.get("events", 0) >= config.growth.max_events
    if config.trigger.reads_budget:
        reasons.append(f"trigger={config.trigger.name} fires at fractions of the budget")
    elif config.method.grows and config.method.heeds_until and config.trigger.name != "never" and not over:
        reasons.append(f"growth was allowed until {config.growth.until:.0%} of the former budget")
    if finished and not _on_a_mark(config, summary):
        reasons.append(f"it was also evaluated at its former end, step {summary['steps']:,}")
    if reasons:
        console.warn(
            f"{folder.path} continues, but differs from a run with these limits from the start: " + "; ".join(reasons)
        )


def limits_of(stop: Stop) -> list[str]:
    """`stop.epochs=200`, of the budgets that are given."""
    return [f"stop.{name}={getattr(stop, name)}" for name in Stop.BUDGETS if getattr(stop, name) is not None]


def _check_further(folder: RunFolder, stop: Stop, summary: dict[str, Any]) -> None:
    """UserError where a limit is no further than the finished run came, which would end it again at once."""
    for name, field in _USED.items():
        limit = getattr(stop, name)
        if limit is not None and limit <= round(summary[field], 6):
            raise UserError(
                f"stop.{name}={limit:g}: {folder.path} is at {summary[field]:,.6g} already: give more, or null for no limit"
            )
    rule = summary["ended"]["rule"]  # `pruned` is no stop rule: such a run goes on with the limit it had
    if rule and rule not in _USED and getattr(stop, rule, None) == summary["ended"]["value"]:
        raise UserError(
            f"{folder.path} ended by stop.{rule}={summary['ended']['value']:g}, which would end it again immediately: give "
            f"another value, or stop.{rule}=null"
        )


def _on_a_mark(config: Config, summary: dict[str, Any]) -> bool:
    """Whether the run ended where an evaluation came anyway."""
    distance = config.evaluate.every if config.evaluate.unit == "epochs" else max(1, round(config.evaluate.every))
    at = summary["epochs" if config.evaluate.unit == "epochs" else "steps"] / distance
    return bool(abs(at - round(at)) < 1e-6)
