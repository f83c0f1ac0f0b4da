"""`grow compare --until-decided`: verdicts that are valid whenever one stops adding seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grow_cli.analysis.betting import anytime_pvalues, evidence
from grow_cli.analysis.verdicts import UNDECIDED, corrected, word


@dataclass(frozen=True)
class Decision:
    """What the seeds of a pair show when they are read one at a time."""

    verdict: str
    evalue: float
    """Two-sided, that the ways differ, of all seeds that there are."""
    seeds: int
    """Shared seeds that there are."""
    after: int | None
    """Shared seeds after which the verdict was no longer `UNDECIDED`; None as long as it is."""

    @property
    def decided(self) -> bool:
        return self.after is not None


def decide(pairs: Sequence[Mapping[int, float]], delta: float | None = None, within: str = "") -> list[Decision]:
    """Each pair's seed → difference (above 0: the first is better), read in the order of the seeds.

    After every seed all pairs of the family are corrected together. p-values of e-values only fall, so a verdict stays, but for
    a further word ("but within δ").
    """
    arrays = [np.array([d[seed] for seed in sorted(d)]) for d in pairs]
    pvalues = [anytime_pvalues(d, delta) for d in arrays]
    first: list[int | None] = [None] * len(pairs)
    verdicts = [UNDECIDED] * len(pairs)
    for seed in sorted({seed for d in pairs for seed in d}):
        read = [sum(other <= seed for other in d) for d in pairs]
        now = [_at(of, n) for of, n in zip(pvalues, read, strict=True)]
        family = corrected([(min(above, below), equal) for above, below, equal in now])
        for i, ((above, below, _), (differs, equal)) in enumerate(zip(now, family, strict=True)):
            verdicts[i] = word(above < below, differs, equal, within)
            if first[i] is None and verdicts[i] != UNDECIDED:
                first[i] = read[i]
    return [
        Decision(verdict, evidence(d), len(d), after) for verdict, d, after in zip(verdicts, arrays, first, strict=True)
    ]


def _at(of: tuple[np.ndarray, np.ndarray, np.ndarray | None], n: int) -> tuple[float, float, float | None]:
    """The three p-values after n pairs."""
    above, below, equal = of
    if n == 0:
        return 1.0, 1.0, None if equal is None else 1.0
    return float(above[n - 1]), float(below[n - 1]), None if equal is None else float(equal[n - 1])
