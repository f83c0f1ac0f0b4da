"""Grow when the training loss is stationary, by a statistical test (Fold, section 3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from grow_cli.errors import check
from grow_cli.keys import key
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, Verdict

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.moment import Moment


@option("trigger", "adf")
@dataclass
class Adf(Trigger):
    """Fires when the last `window` training losses are stationary and the last is the smallest.

    The Augmented Dickey-Fuller test on the training loss, a value per evaluation (the paper: per epoch). It is tested
    at each evaluation, so a single window has no level; `patience` windows that do not overlap have one
    (`theory/stationarity.py`).
    """

    window: int = key(20, at_least=8, unit="evaluations", why="a test for stationarity needs them")
    """Number of losses tested; none is older than the last growth."""
    patience: int = key(3, at_least=1, unit="window")
    """Windows in a row that must be stationary, without a falling slope over all of them; 1: as in the paper
    (`trigger=adf_paper`)."""
    level: float = key(0.05, above=0, below=1)
    """The loss counts as stationary if the p-value is below this."""
    tolerance: float = key(1.0, at_least=0)
    """How far the last loss may be above the window's minimum, in standard deviations of the window; 0: as in the
    paper."""
    require_flat: bool = True
    """Also require that the loss is not significantly falling, which the test does not see; false: as in the paper."""
    maxlag: int = key(0, at_least=0)
    """Number of lagged differences in the test; with `autolag` the largest number tried."""
    autolag: str | None = key(None, one_of=("AIC", "BIC", "t-stat"), null="for maxlag itself")
    """Choose the number of lags by `AIC`, `BIC` or `t-stat`; null: use `maxlag`."""

    readings = ("adf_pvalue", "adf_slope_pvalue", "adf_minimum")
    falling = ("adf_pvalue",)

    @dataclass
    class State:
        losses: list[float] = field(default_factory=list)

    def thresholds(self, now: Moment) -> dict[str, float]:
        return {"adf_pvalue": self.level}

    def __post_init__(self) -> None:
        super().__post_init__()
        most = self.window // 2 - 2
        check(self.maxlag <= most, f"trigger.maxlag={self.maxlag}: must be from 0 to {most} with this window")

    def check_run(self, config: Config) -> list[str]:
        stop, evaluate = config.stop, config.evaluate
        length = stop.epochs if evaluate.unit == "epochs" else stop.steps
        asked = math.inf if length is None else length * config.growth.until / evaluate.every
        needed = self.window * self.patience
        if asked > needed or not config.method.grows:  # at the end of the part that grows nothing does
            return []
        return [
            f"trigger={self.name} needs {needed} evaluations before it can fire, and while growth is allowed there are "
            f"{asked:.0f} (growth.until={config.growth.until:g}): evaluate more often (evaluate.every), or train longer"
        ]

    def update(self, now: Moment) -> Verdict:
        from grow_cli.theory.stationarity import stationarity

        loss = now.measured["train_loss"]
        if math.isnan(loss):  # nothing was trained since the last evaluation
            return Verdict(False, dict.fromkeys(self.readings, math.nan))
        losses = self.state.losses = [*self.state.losses, loss][-self.window * self.patience :]
        found = stationarity(
            losses,
            self.window,
            patience=self.patience,
            level=self.level,
            tolerance=self.tolerance,
            require_flat=self.require_flat,
            maxlag=self.maxlag,
            autolag=self.autolag,
        )
        minimum = math.nan if math.isnan(found.pvalue) else float(found.is_minimum)
        readings = zip(self.readings, (found.pvalue, found.slope_pvalue, minimum), strict=True)
        return Verdict(found.converged, dict(readings))
