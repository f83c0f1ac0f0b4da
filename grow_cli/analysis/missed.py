"""Why nothing grew: which threshold the trigger's readings missed, by how much, and which keys would help."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from grow_cli import config as configuration
from grow_cli.config import Config
from grow_cli.errors import UserError
from grow_cli.records import configs
from grow_cli.records.folder import RunFolder
from grow_cli.records.metrics import AXES, read_metrics
from grow_cli.records.words import counted

# Parts of the time in which a net may grow, so that some growth has time to be trained.
_TIMES = 3


@dataclass(frozen=True)
class Missed:
    """A threshold, and the reading that came nearest to it while growth was allowed."""

    name: str
    threshold: float
    nearest: float | None
    """None: it was never read."""
    falling: bool
    """It is reached from above."""

    @property
    def by(self) -> float:
        """Distance of the reading from the threshold; 0 or less if it was reached, inf without a reading."""
        if self.nearest is None:
            return math.inf
        return self.nearest - self.threshold if self.falling else self.threshold - self.nearest

    @property
    def words(self) -> str:
        """`tau reached 1.7 but must be at least 2 (0.3 missing)`."""
        name, limit = self.name.replace("_", " "), f"{'at most' if self.falling else 'at least'} {self.threshold:.4g}"
        if self.nearest is None:
            return f"{name} was never read, and must be {limit}"
        if self.by <= 0:
            return f"{name} reached {self.nearest:.4g}, as required ({limit})"
        distance = f"{self.by:.3g} {'too high' if self.falling else 'missing'}"
        return f"{name} reached {self.nearest:.4g} but must be {limit} ({distance})"


def nothing_grew(folder: RunFolder, summary: dict[str, Any]) -> str:
    """Why a run that could have grown did not, and what to type instead."""
    if summary["ended"]["rule"].endswith("_score"):
        return "Nothing grew: the run reached its score before the trigger fired."
    config = _config(folder)
    if config is None:
        return "Nothing grew: the trigger never fired while growth was allowed."
    growth = config.growth
    if growth.until == 0 or growth.max_events == 0:
        return f"Nothing grew: growth.{'max_events' if growth.until else 'until'}=0 allows no growth."
    if growth.max_parameters is not None and summary["parameters"] >= growth.max_parameters:
        return f"Nothing grew: growth.max_parameters={growth.max_parameters} is not more than the net had at the start."
    read = "; ".join(miss.words for miss in near_misses(folder, config, summary))
    budget = summary["ended_by"] if summary["ended"]["rule"] in config.stop.BUDGETS else "the budget"
    allowed = f"growth.until={growth.until:g} of {budget}" if config.method.heeds_until else "the whole run"
    return (
        f"Nothing grew: trigger={config.trigger.name} never fired while growth was allowed ({allowed})"
        + (f": {read}" if read else "")
        + f". {_remedy(config, summary)}"
    )


def near_misses(folder: RunFolder, config: Config, summary: dict[str, Any]) -> list[Missed]:
    """A threshold each, in the trigger's order."""
    try:
        metrics = read_metrics(folder)
    except UserError:  # no evaluation yet, or damaged: the readings are no reason to say less than can be said
        return []
    if config.method.heeds_until:
        limits = {AXES[name].column: getattr(config.stop, name) for name in config.stop.BUDGETS}
        used = [metrics[column] / limit for column, limit in limits.items() if limit is not None]
        for fraction in used:  # the budget that is nearest to its end counts
            metrics = metrics[fraction.loc[metrics.index] < config.growth.until]
    falling = config.trigger.falling
    found = []
    for name, threshold in (summary.get("thresholds") or {}).items():
        column = f"trigger/{name}"
        values = metrics[column].dropna() if column in metrics else []
        nearest = (min(values) if name in falling else max(values)) if len(values) else None
        found.append(Missed(name, float(threshold), None if nearest is None else float(nearest), name in falling))
    return found


def _config(folder: RunFolder) -> Config | None:
    """None where this grow does not know the run's options."""
    try:
        return configuration.build(configs.typed(folder.config(), folder.hydra / "config.yaml"))
    except UserError:
        return None


def _remedy(config: Config, summary: dict[str, Any]) -> str:
    """Keys with values that let a run like this grow."""
    allowed = summary["epochs"] * (config.growth.until if config.method.heeds_until else 1.0)
    if not allowed:  # a limit that was reached before the first step
        return "Train longer: raise the limit at which it stopped."
    often, steps_per_epoch = rounded_down(allowed / _TIMES), summary["steps"] / summary["epochs"]
    if often * steps_per_epoch < 1:
        return "Train longer: raise stop.epochs."
    keys = [] if config.trigger.name == "every" else ["trigger=every"]
    keys.append(f"trigger.every={often:g}")
    if getattr(config.trigger, "unit", "epochs") != "epochs":
        keys.append("trigger.unit=epochs")
    evaluations = often / (config.evaluate.distance(steps_per_epoch) / steps_per_epoch)
    if evaluations < 1 or not math.isclose(evaluations, round(evaluations), rel_tol=1e-6):  # read at evaluations only
        keys += [f"evaluate.every={often:g}", *(["evaluate.unit=epochs"] if config.evaluate.unit != "epochs" else [])]
    times = counted(math.ceil(allowed / often - 1e-6) - 1, "time")
    return f"`{' '.join(keys)}` grows {times} in a run of this length; or train longer."


def rounded_down(number: float) -> float:
    """To one digit: 0.43 → 0.4, 26.7 → 20."""
    power = 10.0 ** math.floor(math.log10(number) + 1e-9)
    return float(f"{math.floor(number / power + 1e-9) * power:.1g}")
