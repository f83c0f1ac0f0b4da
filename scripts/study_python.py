"""Which blocks to add to a language model, and when: operators × moments, four budgets, a rule for the moment.

    python scripts/study_python.py --jobs 2
    python scripts/study_python.py --finished

A byte-level GPT of two blocks on Python's sources becomes one of six. First all operators at all moments at one budget; then
the three best operators, by validation, at four budgets, the best of them at every moment. A rule for the moment is fitted on
the three smaller budgets and judged on the largest. Each finished run is a row of docs/results/data/python.csv and is not
trained again; the second command trains nothing and writes docs/results/python.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from common import ROOT, write_page
from matplotlib.figure import Figure
from numpy.typing import NDArray
from studies import FIRST_SEED, TUNING_SEED
from study import LEVEL, PLANNED, judged, loss_cells, planned, verdict_row
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
    "midas": "the middle block, of two the lower one, five times: a **A A A A** b",
    "zero": "fresh blocks on top that add nothing at first",
    "random": "fresh blocks on top that speak at once",
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
DRAWS = 2000
"""Of the bootstrap over seeds."""

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


def larger(order: Sequence[str], moments: Mapping[str, float]) -> list[Cell]:
    """What is tried at the other budgets.

    :param order: the operators that are kept, the best first
    :param moments: the best moment of each
    """
    best, *others = order
    ways = [(best, moment) for moment in MOMENTS] + [(way, moments[way]) for way in others]
    statics = [(way, 0.0) for way in STATIC]
    return [(budget, way, moment) for budget in reversed(BUDGETS) if budget != GRID for way, moment in ways + statics]


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
    def kept(self) -> list[str]:
        """The operators with the lowest validation loss, each at its best moment; the best first."""
        return sorted(OPERATORS, key=lambda way: self._mean(way, self.moment[way]))[:KEPT]

    def _mean(self, way: str, moment: float) -> float:
        return float(self.of((GRID, way, moment), "val").mean())

    def rate(self, budget: float, way: str) -> str:
        """The one with the lowest validation loss on the tuning seed; a run that diverged has the highest."""

        def loss(key: Key) -> float:
            value = float(self.rows[key]["val_loss"])
            return value if math.isfinite(value) else math.inf

        return RATES[min(range(len(RATES)), key=lambda i: loss(tuning(budget, [way])[i]))]

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
    def larger(self) -> list[Cell]:
        """The cells of the other budgets."""
        return larger(self.kept, self.moment)


def at(way: str, moment: float) -> str:
    """How a way that grows is called."""
    return f"{way} at {moment:.0%}"


# --- the rule for the moment


def fit(budgets: Values, moments: Values, losses: Values) -> Values:
    """(3, 2): c of ln L = Σ c[i, j] · momentⁱ · log₂(budget)ʲ, by least squares.

    A parabola in the moment, whose coefficients change linearly with the logarithm of the budget.

    :param budgets: (b,)
    :param moments: (m,)
    :param losses: (b, m)
    """
    x, f = np.meshgrid(np.log2(budgets / LEAST), moments, indexing="ij")
    terms = np.stack([f**i * x**j for i in range(3) for j in range(2)], -1).reshape(-1, 6)
    return np.linalg.lstsq(terms, np.log(losses).ravel(), rcond=None)[0].reshape(3, 2)


def predicted(found: Values, budget: float, moments: Values) -> Values:
    """(m,): losses at these moments."""
    powers = np.stack([moments**i for i in range(3)], -1)
    return np.exp(powers @ found @ np.array([1.0, math.log2(budget / LEAST)]))


def lowest(moments: Values, losses: Values) -> tuple[float, float]:
    """The moment, between the first and the last, and the loss where the parabola through ln L is lowest."""
    parabola = np.polyfit(moments, np.log(losses), 2)
    fine = np.linspace(moments[0], moments[-1], 701)
    values = np.polyval(parabola, fine)
    return float(fine[values.argmin()]), float(np.exp(values.min()))


def judge(losses: Values) -> tuple[float, float, float, float, float]:
    """Of the rule that is fitted on all budgets but the last.

    :param losses: (budgets, moments)
    :return: the moment that it gives for the last budget and the one that was best there; the loss that it gives for its
        moment and the one that was found there; the largest error of a loss at any of the moments, as a part of it
    """
    moments, budgets = np.array(MOMENTS), np.array(BUDGETS)
    rule = fit(budgets[:-1], moments, losses[:-1])
    told = predicted(rule, budgets[-1], moments)
    moment, loss = lowest(moments, told)
    measured = float(np.exp(np.polyval(np.polyfit(moments, np.log(losses[-1]), 2), moment)))
    worst = float(np.abs(told / losses[-1] - 1).max())
    return moment, lowest(moments, losses[-1])[0], loss, measured, worst


def g_stack(parameters: float, flops: float) -> float:
    """Tokens after which to grow, as "Stacking your transformers" has it (2405.15319):
    log10 d = 0.88 log10 N + 163.27 / log10 C − 5.74."""
    return float(10 ** (0.88 * math.log10(parameters) + 163.27 / math.log10(flops) - 5.74))


def rule(found: Found) -> list[str]:
    """What the page says of it."""
    way = found.kept[0]
    losses = np.stack([[found.of((b, way, m), "val") for m in MOMENTS] for b in BUDGETS])  # (budgets, moments, seeds)
    moment, best, loss, measured, worst = judge(losses.mean(-1))
    draws = np.random.default_rng(0).integers(losses.shape[-1], size=(DRAWS, losses.shape[-1]))
    resampled = np.array([judge(losses[..., draw].mean(-1)) for draw in draws])
    ends = [np.quantile(values, (0.025, 0.975)) for values in resampled.T]
    shown = "below" if ends[4][1] < 0.01 else "above" if ends[4][0] > 0.01 else "not decided whether below"
    last = BUDGETS[-1]
    cell = (last, way, MOMENTS[0])
    tokens = g_stack(found.column(cell, "parameters").mean(), last)
    seen = last / STEP * 16 * 64
    return [
        f"## A rule for the moment, fitted on three budgets and judged on {last:.3g} FLOPs",
        "",
        f"ln L is a parabola in the moment whose coefficients are linear in the logarithm of the budget, fitted to the mean "
        f"validation losses of *{way}* at {', '.join(f'{b:.3g}' for b in BUDGETS[:-1])} FLOPs: six numbers from "
        f"{(len(BUDGETS) - 1) * len(MOMENTS)}. In brackets: 95 % of {DRAWS} bootstraps over seeds.",
        "",
        "| | the rule says | was found |",
        "| --- | ---: | ---: |",
        f"| best moment | {moment:.0%} ({', '.join(f'{end:.0%}' for end in ends[0])}) | {best:.0%} "
        f"({', '.join(f'{end:.0%}' for end in ends[1])}) |",
        f"| validation loss at the rule's moment, nats | {loss:.4f} | {measured:.4f} |",
        f"| largest error of a loss at the five moments | {worst:.2%} ({', '.join(f'{end:.2%}' for end in ends[4])}) | 1 % was "
        f"the goal: **{shown}** |",
        "",
        f"G_stack's rule gives {tokens:.1g} tokens for a final net of this size at this budget, which pays for {seen:.2g} bytes "
        "of two blocks: never grow. That is the net of two blocks, "
        f"{found.of((last, 'static-2', 0.0), 'val').mean():.4f} nats on validation.",
        "",
    ]


# --- the page


def cells(found: Found) -> list[str]:
    """Test losses of the grid."""
    lines = [
        "| operator | rate | " + " | ".join(f"{moment:.0%}" for moment in MOMENTS) + " |",
        "| --- | ---: " + "| ---: " * len(MOMENTS) + "|",
    ]
    for way in OPERATORS:
        shown = []
        for moment in MOMENTS:
            test = found.of((GRID, way, moment), "test")
            mark = "**" if moment == found.moment[way] else ""
            shown.append(f"{mark}{test.mean():.4f}{mark} ± {test.std(ddof=1):.4f}")
        lines.append(f"| {way} | {found.rate(GRID, way)} | " + " | ".join(shown) + " |")
    for way in STATIC:
        test = found.of((GRID, way, 0.0), "test")
        lines.append(
            f"| {way} | {found.rate(GRID, way)} | {test.mean():.4f} ± {test.std(ddof=1):.4f}" + " |" * len(MOMENTS)
        )
    return lines


def questions(found: Found) -> dict[str, Values]:
    """The differences of test losses that are judged at the budget of the grid, fixed before the runs."""
    over = {way: np.mean([found.of((GRID, way, at), "test") for at in MOMENTS], 0) for way in OPERATORS}
    best, chosen = found.kept[0], found.static_best(GRID)
    asked = {f"{way} − stack, mean of the moments": over[way] - over["stack"] for way in OPERATORS if way != "stack"}
    for moment in MOMENTS:
        if moment != TUNED_AT:
            asked[f"{at(best, moment)} − at {TUNED_AT:.0%}"] = found.of((GRID, best, moment), "test") - found.of(
                (GRID, best, TUNED_AT), "test"
            )
    for way, moment in found.moment.items():
        test = found.of((GRID, way, moment), "test")
        asked[f"{at(way, moment)} − {FINAL}"] = test - found.of((GRID, FINAL, 0.0), "test")
        asked[f"{at(way, moment)} − static-best ({chosen[1]})"] = test - found.of(chosen, "test")
    return asked


def verdicts(asked: Mapping[str, Values]) -> list[str]:
    """A row for each."""
    answers = judged(asked, DELTA)
    return [
        f"| first − second | verdict, δ = {DELTA:g} nats | Δ | 95 %, uncorrected | p of a difference | p of none beyond δ |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *(
            verdict_row(name, d, answers.get(name), d.mean() < 0, f"{DELTA:g} nats", "+.4f")
            for name, d in asked.items()
        ),
    ]


def budgets(found: Found) -> list[str]:
    """The kept operators beside the final net and the best static size, at each budget."""
    best, *others = found.kept
    ways = [(best, moment) for moment in MOMENTS] + [(way, found.moment[way]) for way in others]
    lines = [
        "| | " + " | ".join(f"{budget:.3g}" for budget in BUDGETS) + " |",
        "| --- " + "| --- " * len(BUDGETS) + "|",
    ]
    others_of: dict[str, Callable[[float], Cell]] = {
        f"− {FINAL} (`static-flops`)": lambda budget: (budget, FINAL, 0.0),
        "− `static-best`": found.static_best,
    }
    for title, other in others_of.items():
        asked = {
            (way, moment, budget): found.of((budget, way, moment), "test") - found.of(other(budget), "test")
            for way, moment in ways
            for budget in BUDGETS
        }
        told = loss_cells(asked, DELTA)
        for way, moment in ways:
            lines.append(f"| {at(way, moment)} {title} | " + " | ".join(told[way, moment, b] for b in BUDGETS) + " |")
    for way in STATIC:
        means = [found.of((budget, way, 0.0), "test").mean() for budget in BUDGETS]
        chosen = [" (best)" if found.static_best(budget)[1] == way else "" for budget in BUDGETS]
        lines.append(
            f"| {way}, test loss | " + " | ".join(f"{m:.4f}{c}" for m, c in zip(means, chosen, strict=True)) + " |"
        )
    return lines


def searched(found: Found) -> list[str]:
    """Validation losses on the tuning seed."""
    lines = ["| budget | way | " + " | ".join(RATES) + " |", "| --- | --- " + "| ---: " * len(RATES) + "|"]
    for budget in BUDGETS if found.finished else (GRID,):
        for way in (*(OPERATORS if budget == GRID else found.kept), *STATIC):
            tried = [float(found.rows[run]["val_loss"]) for run in tuning(budget, [way])]
            lines.append(f"| {budget:.3g} | {way} | " + " | ".join(f"{loss:.4f}" for loss in tried) + " |")
    return lines


def draw(found: Found, output: Path) -> None:
    """Left: operators over moments at one budget; right: the best one over moments at every budget."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    at_all = [100 * moment for moment in MOMENTS]
    for way in OPERATORS:
        left.plot(at_all, [found.of((GRID, way, m), "test").mean() for m in MOMENTS], marker="o", ms=4, label=way)
    for way, style in zip(STATIC, (":", "-.", "--"), strict=True):
        left.axhline(found.of((GRID, way, 0.0), "test").mean(), color="0.4", lw=1.2, ls=style, label=way)
    left.set_title(f"Six ways from 2 to 6 blocks, {GRID:.3g} FLOPs", fontsize=10)
    left.set_ylabel("test loss, nats per byte (lower is better)")
    left.legend(frameon=False, fontsize=8, ncols=2)
    way = found.kept[0]
    for number, budget in enumerate(BUDGETS):
        best = found.of(found.static_best(budget), "test")
        means = [(found.of((budget, way, m), "test") - best).mean() for m in MOMENTS]
        shade = 0.25 + 0.25 * number
        right.plot(at_all, means, marker="o", ms=4, color=(0.1, 0.35, 0.75, shade), label=f"{budget / LEAST:g}×")
    right.axhline(0, color="0.4", lw=1.2, ls="--", label="best static size")
    right.set_title(f"{way}: what it loses against the best static size", fontsize=10)
    right.set_ylabel("nats per byte")
    right.legend(frameon=False, fontsize=8, title=f"budget, 1× = {LEAST:.0e}", title_fontsize=8)
    for axes in (left, right):
        axes.set_xlabel("growth after, % of the training FLOPs")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=110)


def page(found: Found) -> str:
    """docs/results/python.md."""
    seeds = len(found.seeds)
    late = max(
        float(found.column((GRID, way, moment), "grown_at").max()) - moment for way in OPERATORS for moment in MOMENTS
    )
    lines = [
        "# Which blocks to add to a language model, and when",
        "",
        "Made by `python scripts/study_python.py`; every run is a row of [python.csv](data/python.csv).",
        "",
        "A byte-level GPT (width 32, context 64, batches of 16 windows, clip_norm=1) of two blocks on Python's sources becomes "
        f"one of six in one event, {'/'.join(f'{moment:.0%}' for moment in MOMENTS)} through its training FLOPs (at most "
        f"{late:.1%} later), without steps of the new blocks alone. For all ways, static ones too, the rate is constant for "
        f"{STEADY:.0%} of the FLOPs and then falls to zero. {seeds} seeds{planned(seeds)}, from {FIRST_SEED} on.",
        "",
        "| operator | what is added |",
        "| --- | --- |",
        *(f"| {way} | {about} |" for way, about in ABOUT.items()),
        "",
        f"## Operator × moment at {GRID:.3g} FLOPs: test loss, nats, mean ± sd",
        "",
        *cells(found),
        "",
        "Bold: the moment with the lowest *validation* loss.",
        "",
        *verdicts(questions(found)),
        "",
    ]
    if found.finished:
        lines += [
            "![operators and moments](../images/python.png)",
            "",
            f"## The three best operators at four budgets, test loss, δ = {DELTA:g} nats",
            "",
            f"Kept for their validation loss at {GRID:.3g} FLOPs: {', '.join(found.kept)}; the first at every moment, the others "
            "at the one that was best there.",
            "",
            *budgets(found),
            "",
            *rule(found),
        ]
    else:
        lines += ["The other budgets are not told yet: they are not finished.", ""]
    lines += [
        f"## Rates: validation loss on seed {TUNING_SEED}",
        "",
        f"Each way has the best of {len(RATES)} at each budget, an operator for all moments that of {TUNED_AT:.0%}.",
        "",
        *searched(found),
        "",
        "Paired t-tests and, for equality, two one-sided ones, corrected over each table as `grow compare` does (the two "
        f"comparisons of the table of budgets are a table each; level {LEVEL:g}); δ and the questions were fixed before the "
        "runs. `static-best` is the static size that is best on validation; the test part is read once, at a run's end.",
    ]
    return "\n".join(lines)


def train_all(jobs: int, seeds: int) -> None:
    """What has no row yet; what is trained at the other budgets depends on the grid."""
    TABLE.train(tuning(GRID, (*OPERATORS, *STATIC)), jobs)
    TABLE.train(Found(TABLE.rows(), seeds).runs(grid()), jobs)
    kept = Found(TABLE.rows(), seeds).kept
    TABLE.train([run for budget in BUDGETS for run in tuning(budget, (*kept, *STATIC))], jobs)
    found = Found(TABLE.rows(), seeds)
    TABLE.train(found.runs(found.larger), jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=PLANNED)
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--finished", action="store_true", help="train nothing")
    options = parser.parse_args()
    if not options.finished:
        train_all(options.jobs, options.seeds)
    found = Found(TABLE.rows(), options.seeds)
    if not found.grid_finished:
        raise SystemExit(
            f"not all {options.seeds} seeds of the grid are trained: leave out --finished, or give fewer --seeds"
        )
    if found.finished:
        draw(found, ROOT / "docs" / "images" / "python.png")
    print(write_page("python", page(found)))


if __name__ == "__main__":
    main()
