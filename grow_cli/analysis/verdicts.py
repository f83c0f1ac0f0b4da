"""One word for the result of a comparison, by a rule fixed in advance: at most 1 in 20 tables contains a wrong verdict.

A pair of ways is asked two questions: do they differ (two-sided), and, where δ is given, are they equal within it?
Whatever the truth is, at most one of the answers yes can be wrong: a mean of 0 is not outside ±δ. So a family of m
pairs holds at most m true null hypotheses out of 2m, and Shaffer's correction (1986; Holm's, where hypotheses exclude
each other) multiplies the least p-value by m and not by 2m. Without δ there is one question to a pair, and it is Holm's
correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

ALPHA = 0.05
"""The chance of any wrong verdict in a table."""
UNDECIDED = "undecided"


def corrected(pairs: Sequence[tuple[float, float | None]]) -> list[tuple[float, float]]:
    """p-values (differs, equal within δ) of each pair after Shaffer's correction.

    A None is a question that was not asked. A NaN is one that could not be tested: it stays NaN and counts in the family.
    """
    asked = [(p, i, j) for i, pair in enumerate(pairs) for j, p in enumerate(pair) if p is not None]
    known = sorted(question for question in asked if not math.isnan(question[0]))
    found = [[math.nan, math.nan] for _ in pairs]
    open_questions = [sum(p is not None for p in pair) for pair in pairs]
    least = 0.0
    for p, i, j in known:
        may_be_wrong = sum(count > 0 for count in open_questions)  # of each pair one answer at most
        least = max(least, min(1.0, may_be_wrong * p))
        found[i][j] = least
        open_questions[i] -= 1
    return [(differs, equal) for differs, equal in found]


def word(better: bool, differs: float, equal: float, within: str = "") -> str:
    """The verdict on the first of a pair from its corrected p-values; `better`: the sign of what was measured.

    :param within: δ with its unit
    """
    if differs <= ALPHA:
        found = "better" if better else "worse"
        return f"{found}, but within {within}" if equal <= ALPHA else found
    return f"equal within {within}" if equal <= ALPHA else UNDECIDED
