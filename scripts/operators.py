"""What `scripts/study_python.py` trains: operators × moments at one budget, the best at others, and what was found.

A byte-level GPT of two blocks on Python's sources becomes one of six. First all operators at all moments at one budget; then
the three best operators, by validation, at four budgets, the best of them at every moment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from studies import FIRST_SEED, TUNING_SEED
from study import PLANNED
from training_table import Key, Row, Table

OPERATORS: dict[str, tuple[str, ...]] = {
    "stack": ("method=stack", "method.factor=3"),
    "interleave": ("method=deepen", "method.pattern=interleave", "method.factor=3"),
    "midas": ("method=midas", "method.blocks=4"),
    "zero": ("method=zero_blocks", "method.blocks=4"),
    "random": ("method=zero_blocks", "method.blocks=4", "method.output=as_is"),
    "alether": ("method=alether", "method.pattern=stack", "method.factor=3", "method.warmup_steps=0"),
}
ABOUT = {
    "stack": "the stack three times (G_stack): a b **A B A B**",
    "interleave": "each block three times: a **A A** b **B B**",
    "midas": "the middle block, of two the lower one, five times: a **A A A A** b; in one event, which MIDAS does gradually",
    "zero": "fresh blocks on top that add nothing at first",
    "random": "fresh blocks on top that speak at once, each as loud as in a new net of three",
    "alether": "as stack, each new block extrapolated from the trajectory of its source",
}
MOMENTS = (0.15, 0.3, 0.5, 0.7, 0.85)
STATIC = {f"static-{n}": n for n in (1, 2, 6)}
FINAL = "static-6"
LEAST = 8e10
BUDGETS = tuple(LEAST * 2**k for k in range(4))
GRID = BUDGETS[1]
"""The budget at which everything is tried."""
STEP = 251_658_240
"""Training FLOPs of a step of the net of two blocks."""
STEADY = 0.88
"""The part of the budget in which the rate is constant, the latest moment included; then it falls to zero."""
RATES = ("3e-3", "6e-3", "1.2e-2")
TUNED_AT = 0.5
"""The moment at which an operator's rate is chosen, for all moments."""
KEPT = 3
"""Operators that are tried at every budget."""
DELTA = 0.02
"""Nats that do not matter; fixed before the runs."""
BATCH = 16 * 64
"""Bytes of a step."""

Values = NDArray[np.float64]
Rows = Mapping[Key, Row]
Cell = tuple[float, str, float]
"""Budget, way, moment: 0 for a static net."""


def overrides(budget: float, way: str, moment: float) -> list[str]:
    """What a cell is trained with; rate and seed are not its."""
    shared = [
        *("dataset=python", "dataset.measured=32768", "model=gpt", "model.dim=32", "batch_size=16", "clip_norm=1"),
        # at the start and after growth, in proportion to the budget: late growth leaves few steps
        *("schedule=anneal", f"schedule.warmup={round(10 * budget / GRID)}", f"growth.until={STEADY}"),
        *("stop.epochs=null", f"stop.flops={budget:g}", "evaluate.unit=steps"),
    ]
    if way in STATIC:
        return [*shared, "method=static", f"model.blocks={STATIC[way]}", "evaluate.every=1000000"]
    at = math.ceil(moment * budget / STEP)
    # growth waits for an evaluation, and these cost small nets a third: so the first one is at the moment
    grown = [*shared, *OPERATORS[way], "model.blocks=2", "trigger=at", f"trigger.steps=[{at}]", f"evaluate.every={at}"]
    # twenty snapshots at the earliest moment, and the last of them at most 6 steps before it
    return [*grown, f"trajectory.every={round(2.5 * budget / LEAST)}"] if way == "alether" else grown


def words(budget: str, way: str, moment: str, rate: str, seed: str) -> list[str] | None:
    """Of a row's run; None where the study has no such run."""
    at = float(moment)
    if float(budget) not in BUDGETS or not ((way in OPERATORS and at in MOMENTS) or (way in STATIC and not at)):
        return None
    return [*overrides(float(budget), way, at), f"optimizer.lr={rate}", f"seed={seed}"]


TABLE = Table("python", ("budget", "way", "moment", "rate", "seed"), ("val_loss", "test_loss"), words)


def key(cell: Cell, rate: str, seed: int) -> Key:
    """Of a row."""
    budget, way, moment = cell
    return (f"{budget:g}", way, f"{moment:g}", rate, str(seed))


def tuning(budget: float, ways: Iterable[str]) -> list[Key]:
    """The runs that decide the rates."""
    return [key((budget, way, 0.0 if way in STATIC else TUNED_AT), rate, TUNING_SEED) for way in ways for rate in RATES]


def grid() -> list[Cell]:
    """All that is tried at one budget."""
    return [(GRID, way, moment) for way in OPERATORS for moment in MOMENTS] + [(GRID, way, 0.0) for way in STATIC]


class Found:
    """The numbers of the study.

    :param rows: finished runs
    :param seeds: how many
    """

    def __init__(self, rows: Rows, seeds: int = PLANNED) -> None:
        self.rows, self.seeds = rows, range(FIRST_SEED, FIRST_SEED + seeds)

    def _has(self, keys: Iterable[Key]) -> bool:
        return all(key in self.rows for key in keys)

    @property
    def grid_finished(self) -> bool:
        """Whether everything is trained at the budget of the grid."""
        return self._has(tuning(GRID, (*OPERATORS, *STATIC))) and self._has(self.runs(grid()))

    @property
    def finished(self) -> bool:
        """Whether the other budgets are trained, too."""
        searched = all(self._has(tuning(budget, (*self.kept, *STATIC))) for budget in BUDGETS)
        return searched and self._has(self.runs(self.larger))

    @cached_property
    def moment(self) -> dict[str, float]:
        """Operator → the moment that is best on validation at the budget of the grid."""
        return {way: min(MOMENTS, key=lambda at: self._mean(way, at)) for way in OPERATORS}

    @cached_property
    def order(self) -> list[str]:
        """The operators by validation loss, each at its best moment; the best first."""
        return sorted(OPERATORS, key=lambda way: self._mean(way, self.moment[way]))

    @property
    def kept(self) -> list[str]:
        """The best operators, which are tried at the other budgets, too."""
        return self.order[:KEPT]

    def ranking(self) -> str:
        """The operators with their validation losses, the best first."""
        told = [f"{way} ({self._mean(way, self.moment[way]):.4f})" for way in self.order]
        return f"{', '.join(told[:KEPT])}; not {', '.join(told[KEPT:])}"

    def _mean(self, way: str, moment: float) -> float:
        return float(self.of((GRID, way, moment), "val").mean())

    def rate(self, budget: float, way: str) -> str:
        """The one with the lowest validation loss on the tuning seed."""
        losses = [float(self.rows[run]["val_loss"]) for run in tuning(budget, [way])]
        return RATES[losses.index(min(losses))]

    def runs(self, cells: Iterable[Cell]) -> Iterator[Key]:
        """Seed by seed."""
        known = [(cell, self.rate(*cell[:2])) for cell in cells]
        return (key(cell, rate, seed) for seed in self.seeds for cell, rate in known)

    def column(self, cell: Cell, name: str) -> Values:
        """(seeds,)"""
        return np.array([float(self.rows[run][name] or "nan") for run in self.runs([cell])])

    def of(self, cell: Cell, part: str) -> Values:
        """(seeds,): nats.

        :param part: val, test
        """
        return self.column(cell, f"{part}_loss")

    def static_best(self, budget: float) -> Cell:
        """The static size with the lowest mean validation loss."""
        return min(((budget, way, 0.0) for way in STATIC), key=lambda cell: float(self.of(cell, "val").mean()))

    @property
    def everywhere(self) -> list[tuple[str, float]]:
        """Ways that grow and their moments at every budget: the best operator at all, the others at their best."""
        best, *others = self.kept
        return [(best, moment) for moment in MOMENTS] + [(way, self.moment[way]) for way in others]

    @property
    def larger(self) -> list[Cell]:
        """The cells of the other budgets, the largest first."""
        ways = self.everywhere + [(way, 0.0) for way in STATIC]
        return [(budget, way, moment) for budget in reversed(BUDGETS) if budget != GRID for way, moment in ways]


def train_all(jobs: int, seeds: int) -> None:
    """What has no row yet; what is trained at the other budgets depends on the grid."""
    TABLE.train(tuning(GRID, (*OPERATORS, *STATIC)), jobs)
    TABLE.train(Found(TABLE.rows(), seeds).runs(grid()), jobs)
    kept = Found(TABLE.rows(), seeds).kept
    TABLE.train([run for budget in BUDGETS for run in tuning(budget, (*kept, *STATIC))], jobs)
    found = Found(TABLE.rows(), seeds)
    TABLE.train(found.runs(found.larger), jobs)
