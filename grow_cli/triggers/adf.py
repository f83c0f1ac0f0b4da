"""Grow when the training loss has come to rest, by a statistical test (Fold, section 3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import check
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, TriggerOption, Verdict

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.training.state import Run


class Adf(Trigger):
    """Fires when the last `window` training losses are stationary and the last is the least of them."""

    readings = ("adf_pvalue", "adf_slope_pvalue", "adf_minimum")

    def __init__(self, option: AdfOption) -> None:
        super().__init__()
        self.option = option
        self.thresholds = {"adf_pvalue": option.level}
        self._losses: list[float] = []

    def update(self, run: Run) -> Verdict:
        from grow_cli.theory.stationarity import stationarity

        option, loss = self.option, run.measured["train_loss"]
        if math.isnan(loss):  # nothing was trained since the last evaluation
            return Verdict(False, dict.fromkeys(self.readings, math.nan))
        self._losses = [*self._losses, loss][-option.window :]
        found = stationarity(
            self._losses,
            option.window,
            level=option.level,
            tolerance=option.tolerance,
            require_flat=option.require_flat,
            maxlag=option.maxlag,
            autolag=option.autolag,
        )
        minimum = math.nan if math.isnan(found.pvalue) else float(found.is_minimum)
        return Verdict(
            found.converged, dict(zip(self.readings, (found.pvalue, found.slope_pvalue, minimum), strict=True))
        )

    def reset(self, run: Run) -> None:
        self._losses = []

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self._losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._losses = list(state["losses"])


@option("trigger", "adf")
@dataclass
class AdfOption(TriggerOption):
    """The Augmented Dickey-Fuller test on the training loss, a value per evaluation (the paper: per epoch)."""

    window: int = 20
    """Losses tested; none is older than the last growth."""
    level: float = 0.05
    """p below which the loss is called stationary."""
    tolerance: float = 1.0
    """How far above the window's minimum the last loss may be, in the window's standard deviations; 0: the paper's."""
    require_flat: bool = True
    """Also ask that the loss is not significantly falling, which the test does not see; false: the paper's."""
    maxlag: int = 0
    """Lagged differences in the test; with `autolag` the most that are tried."""
    autolag: str | None = None
    """Choose the number of lags by `AIC`, `BIC` or `t-stat`; null: it is `maxlag`."""

    def __post_init__(self) -> None:
        check(self.window >= 8, f"trigger.window={self.window}: a test for stationarity needs 8 evaluations or more")
        check(0 < self.level < 1, f"trigger.level={self.level:g}: must be above 0 and below 1")
        check(self.tolerance >= 0, f"trigger.tolerance={self.tolerance:g}: must be 0 or more")
        most = self.window // 2 - 2
        check(0 <= self.maxlag <= most, f"trigger.maxlag={self.maxlag}: must be from 0 to {most} with this window")
        check(
            self.autolag in (None, "AIC", "BIC", "t-stat"),
            f"trigger.autolag={self.autolag}: must be AIC, BIC, t-stat or null",
        )

    def check_run(self, config: Config) -> list[str]:
        stop, evaluate = config.stop, config.evaluate
        length = stop.epochs if evaluate.unit == "epochs" else stop.steps
        asked = self.window if length is None else length * config.growth.until / evaluate.every
        if asked >= self.window or not config.method.grows:
            return []
        return [
            f"trigger={self.name} needs {self.window} evaluations before it can fire, and while growth is allowed there are "
            f"{asked:.0f} (growth.until={config.growth.until:g}): evaluate more often (evaluate.every), or train longer"
        ]

    def build(self) -> Trigger:
        return Adf(self)
