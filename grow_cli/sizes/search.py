"""Which rung of a ladder is best, by validation over paired seeds, and what finding it costs. Pure functions.

Successive halving (Jamieson and Talwalkar 2016; what Optuna's SuccessiveHalvingPruner does one trial after another): all rungs
are trained for a part of the budget, the better half for twice that part, and so on; one is left for the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Scores = dict[tuple[int, int], float]
"""(rung, seed) → validation score, more is better; -inf where its training failed."""

Train = Callable[[Sequence[tuple[int, int]], float], Scores]
"""Trains these (rung, seed), or continues them, to a fraction of their budgets."""


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    best: int
    """The chosen rung."""
    reached: dict[int, float]
    """Rung → the fraction of its budget by which it was last judged."""
    scores: dict[float, Scores] = field(default_factory=dict)
    """By fraction."""

    def last(self, rung: int, seeds: Sequence[int]) -> list[float]:
        """A rung's scores when it was last judged, in the order of the seeds."""
        return [self.scores[self.reached[rung]][rung, seed] for seed in seeds]


def fractions(rungs: int) -> list[float]:
    """The fractions of the budget at which half of the rungs are dropped, the last one 1. For 8 rungs: 1/8, 1/4, 1/2, 1."""
    return [2.0**-k for k in range(math.ceil(math.log2(rungs)), -1, -1)] if rungs > 1 else [1.0]


def search(rungs: int, seeds: Sequence[int], train: Train, *, halving: bool) -> Found:
    """The best of the rungs 0, 1, ... (ascending in size) by their mean score over the seeds; of equals the smaller."""
    alive, reached = list(range(rungs)), dict[int, float]()
    scores: dict[float, Scores] = {}
    for fraction in fractions(rungs) if halving else [1.0]:
        scores[fraction] = train([(rung, seed) for rung in alive for seed in seeds], fraction)
        reached |= dict.fromkeys(alive, fraction)
        order = ranked(scores[fraction], alive, seeds)
        alive = sorted(order[: max(1, math.ceil(len(alive) / 2))]) if fraction < 1 else order
    return Found(alive[0], reached, scores)


def ranked(scores: Mapping[tuple[int, int], float], rungs: Sequence[int], seeds: Sequence[int]) -> list[int]:
    """Rungs from the best mean over the seeds to the worst; of equals the smaller first."""

    def mean(rung: int) -> float:
        values = [scores[rung, seed] for seed in seeds]
        return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else -math.inf

    # a mean's last bits must not choose a larger net
    return sorted(rungs, key=lambda rung: (-round(mean(rung), 12), rung))
