"""The tests of a comparison as rows of compare_tests.csv."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grow_cli.analysis.equivalence import seeds_to_equate, seeds_to_find
from grow_cli.analysis.verdicts import ALPHA

if TYPE_CHECKING:
    from grow_cli.analysis.comparison import Comparison


def rows_of_tests(comparison: Comparison) -> list[dict[str, object]]:
    """A row per test: everything that was computed, in the score's own unit."""
    return [
        {
            "dataset": comparison.title,
            "metric": comparison.metric,
            "first": t.first.label,
            "second": t.second.label,
            **vars(t.found),
            "t_holm": t.t_holm,
            "wilcoxon_holm": t.wilcoxon_holm,
            "verdict": t.verdict,
            "verdict_p": t.differs,
            **_further(comparison, number),
        }
        for number, t in enumerate(comparison.tests_made)
    ]


def _further(comparison: Comparison, number: int) -> dict[str, object]:
    """The columns of a test's row that an option asked for."""
    test = comparison.tests_made[number]
    row: dict[str, object] = {}
    level = ALPHA / len(comparison.tests_made)
    if (within := comparison.within) is not None:
        spread = test.found.deviation
        row |= {"delta": within.delta, "tost_pvalue": test.tost_pvalue, "tost_corrected": test.equal}
        row |= {"seeds_to_find": seeds_to_find(within.delta, spread, level) if spread else None}
        row |= {"seeds_to_equate": seeds_to_equate(within.delta, spread, level) if spread else None}
    if comparison.decisions is not None:
        decision = comparison.decisions[number]
        row |= {"evalue": decision.evalue, "anytime_verdict": decision.verdict, "decided_after": decision.after}
    if comparison.sooner:
        sooner = comparison.sooner[number]
        row |= {f"sooner_{column}": p for column, p in sooner.pvalues.items()}
        row |= {f"sooner_{column}_holm": p for column, p in sooner.holm.items()}
    return row
