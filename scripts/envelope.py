"""Regret against the envelope, on a language model: docs/results/envelope.md.

    python scripts/envelope.py --jobs 2
    python scripts/envelope.py --finished

What an oracle of sizing gets at a budget is the lower envelope of all static sizes; regret is what a net loses against it. A
byte-level GPT on Python's sources: static nets of one to six blocks and three that grow, at five budgets of training FLOPs,
each twice the one before. One rate for all ways at a budget: of four, the one with the lowest validation loss on another
seed, summed over three ways. The envelope's size is chosen on validation, regrets are of the test part.

Each finished run is a row of docs/results/data/envelope.csv, and nothing that has a row there is trained again: the study
can be stopped and gone on with at any time, on another machine too if it has the same corpus. The second command trains
nothing, and writes the page of those seeds that are complete.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, write_page
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats
from study import loss_cells
from training_table import Table, arguments

SIZES = (1, 2, 3, 4, 6)
STATIC = tuple(f"static-{n}" for n in SIZES)
SPENT = "grown as FLOPs are spent"
GROWN = {"grown 2 → 6 at 50 %": (2, 0.5), "grown 1 → 6 at 50 %": (1, 0.5), SPENT: (1, None)}
WAYS = (*STATIC, *GROWN)
LEAST = 8e10
BUDGETS = tuple(LEAST * 2**k for k in range(5))
ADDED = (1.75e11, 5e11)
"""FLOPs after which the third way gains its second and third block, whatever the budget is: half of those from which on such a
net, from scratch, is the best. On the tuning seed two blocks overtook one at about 3.5e11; the best number of blocks grows
with the root of the budget, so that three are to overtake two at three times as many."""
STEADY = 0.6
"""The part of the budget in which nets may grow, at a constant rate; then it falls to zero."""
RATES = ("3e-3", "6e-3", "1.2e-2", "2.4e-2")
TUNED = ("static-1", "static-6", "grown 2 → 6 at 50 %")
TUNING_SEED = 50
FIRST_SEED = 100
CLAIM = {"static": 0.05, "grown": 0.02}
"""Nats: every static size loses more than the first somewhere, a grown net never more than the second."""
LEVEL = 0.05
DELTA = 0.02
"""Nats that do not matter where two ways are held against each other; fixed before the runs."""

Run = tuple[float, str, str, int]
"""Budget, way, rate, seed."""
Losses = dict[Run, dict[str, float]]
Values = NDArray[np.float64]


def grows_at(way: str, budget: float) -> list[float]:
    """The fractions of the budget at which a way grows. The third does not while its rate falls."""
    if way in STATIC:
        return []
    fraction = GROWN[way][1]
    return [fraction] if fraction is not None else [at / budget for at in ADDED if at < STEADY * budget]


def overrides(run: Run) -> list[str]:
    """What a run is trained with."""
    budget, way, rate, seed = run
    fractions = grows_at(way, budget)
    blocks = int(way.removeprefix("static-")) if way in STATIC else GROWN[way][0]
    added = (6 - blocks) if way != SPENT else 1
    grown = ["method=zero_blocks", f"method.blocks={added}", f"trigger.fractions={fractions}"]
    # growth waits for an evaluation; where nothing grows one at the end is enough, and they cost small nets a third
    evaluated = round(24 * budget / LEAST) if fractions else 1_000_000
    return [
        *("dataset=python", "dataset.measured=32768", "model=gpt", "model.dim=32", "batch_size=16", "clip_norm=1"),
        *("schedule=anneal", "schedule.warmup=10", f"growth.until={STEADY}"),
        *("evaluate.unit=steps", f"evaluate.every={evaluated}"),
        *("stop.epochs=null", f"stop.flops={budget:g}", f"optimizer.lr={rate}"),
        *(f"model.blocks={blocks}", f"seed={seed}", *(grown if fractions else ["method=static"])),
    ]


def words(budget: str, way: str, rate: str, seed: str) -> list[str] | None:
    """Of a row's run; None where the study has no such run."""
    known = way in WAYS and float(budget) in BUDGETS
    return overrides((float(budget), way, rate, int(seed))) if known else None


TABLE = Table("envelope", ("budget", "way", "rate", "seed"), ("val_loss", "test_loss"), words)


def train_all(runs: Iterable[Run], jobs: int) -> None:
    """Train what has no row yet."""
    TABLE.train([(f"{run[0]:g}", *run[1:3], str(run[3])) for run in runs if same_net(run) == run], jobs)


def read() -> Losses:
    """Losses of the finished runs."""
    return {
        (float(budget), way, rate, int(seed)): {"val": float(row["val_loss"]), "test": float(row["test_loss"])}
        for (budget, way, rate, seed), row in TABLE.rows().items()
    }


def same_net(run: Run) -> Run:
    """The run that has its numbers: where the third way does not grow yet it is the static net of one block."""
    budget, way, rate, seed = run
    return (budget, "static-1", rate, seed) if way == SPENT and not grows_at(way, budget) else run


def nats(losses: Losses, budget: float, way: str, rate: str, seeds: Sequence[int], part: str) -> Values:
    """(seeds,): what was measured at the end of training."""
    return np.array([losses[same_net((budget, way, rate, seed))][part] for seed in seeds])


def tuning(rate: str, budget: float) -> list[Run]:
    """The runs that a rate is judged by."""
    return [(budget, way, rate, TUNING_SEED) for way in TUNED]


def tuned(losses: Losses) -> dict[float, str]:
    """The rate of each budget."""
    return {
        budget: min(RATES, key=lambda rate: sum(losses[run]["val"] for run in tuning(rate, budget)))
        for budget in BUDGETS
    }


def complete(losses: Losses, rates: dict[float, str]) -> list[int]:
    """The seeds of which every way has been trained at every budget."""
    seeds = sorted({seed for *_, seed in losses if seed >= FIRST_SEED})
    wanted = [(budget, way, rate) for (budget, rate), way in itertools.product(rates.items(), WAYS)]
    return [seed for seed in seeds if all(same_net((*which, seed)) in losses for which in wanted)]


class Found:
    """The numbers of the page, from losses of several seeds.

    :param seeds: those that are complete
    """

    def __init__(self, losses: Losses, rates: dict[float, str], seeds: Sequence[int]) -> None:
        self.seeds, self.rates = seeds, rates
        val = {b: {way: nats(losses, b, way, rate, seeds, "val") for way in WAYS} for b, rate in rates.items()}
        self.best = {b: min(STATIC, key=lambda way: float(of[way].mean())) for b, of in val.items()}
        self.test = {b: {way: nats(losses, b, way, rate, seeds, "test") for way in WAYS} for b, rate in rates.items()}
        self.regret = {b: {way: values - of[self.best[b]] for way, values in of.items()} for b, of in self.test.items()}


def bound(values: Values, side: int, level: float = LEVEL) -> float:
    """One-sided bound of the mean (t): the lower one for side −1, the upper one for +1. Of one seed there is none."""
    if not values.any():  # the envelope itself
        return 0.0
    if len(values) < 2:
        return side * math.inf
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) + side * float(stats.t.ppf(1 - level, len(values) - 1)) * error


def verdicts(regrets: dict[float, dict[str, Values]]) -> list[str]:
    """A line for each way: whether its part of the claim is confirmed, refuted, or undecided.

    That a way is above its limit *somewhere* is asked at every budget, so that each lower bound has its part of the level;
    that it is below it everywhere must hold at each, whose upper bounds need no correction.
    """
    lines = []
    for way in WAYS:
        at = {budget: found[way] for budget, found in regrets.items()}
        worst = max(at, key=lambda budget: float(at[budget].mean()))
        limit = CLAIM["static" if way in STATIC else "grown"]
        lowest = max(bound(values, -1, LEVEL / len(at)) for values in at.values())
        highest = max(bound(values, 1) for values in at.values())
        above, below = lowest > limit, highest <= limit
        held, refuted = (above, below) if way in STATIC else (below, above)
        verdict = "confirmed" if held else "refuted" if refuted else "undecided"
        wanted = "more than" if way in STATIC else "never more than"
        lines.append(
            f"| {way} | {at[worst].mean():+.3f} at {worst:.3g} | {wanted} {limit:g} nats | **{verdict}** ({lowest:+.3f}, "
            f"{highest:+.3f}) |"
        )
    return lines


def final(way: str, budget: float) -> str:
    """The static net of as many blocks as a way ends with."""
    return f"static-{1 + len(grows_at(way, budget)) if way == SPENT else 6}"


def against(found: Found, other: Callable[[str, float], str]) -> list[str]:
    """A line for each way that grows: its test loss minus a static net's at each budget, with verdicts after Holm.

    :param other: way, budget → the static net
    """
    cells = [(way, budget) for way in GROWN for budget in found.rates]
    differences = {
        (way, budget): found.test[budget][way] - found.test[budget][other(way, budget)] for way, budget in cells
    }
    told = loss_cells(differences, DELTA)
    return [
        f"| {way} | " + " | ".join(told.get((way, budget), "the same net") for budget in found.rates) + " |"
        for way in GROWN
    ]


def draw(found: Found, output: Path) -> None:
    """Regret over budgets."""
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes, budgets = figure.subplots(), list(found.rates)
    axes.axhspan(-CLAIM["grown"], CLAIM["grown"], color="C2", alpha=0.13, lw=0)
    shades = {way: str(0.78 - 0.14 * i) for i, way in enumerate(STATIC)}
    for number, way in enumerate(WAYS):
        grown = way in GROWN
        style: dict[str, Any] = {"color": f"C{number - len(STATIC)}" if grown else shades[way], "marker": "o", "ms": 4}
        style |= {"lw": 2.8 if grown else 1.4, "ls": "-" if grown else "--", "zorder": 3 if grown else 2}
        means = [float(found.regret[budget][way].mean()) for budget in budgets]
        label = way.replace("static-", "static, ").replace("static, 1", "static, 1 block")
        axes.plot(budgets, means, label=label, **style)
    axes.set_title(
        "What a size loses against the best static size of each budget\n"
        f"(mean of {len(found.seeds)} seeds; green band: no more than {CLAIM['grown']:g} nats from it)",
        fontsize=10,
    )
    axes.set_ylabel("test loss above that of the best size, nats per byte")
    axes.set_xlabel("training FLOPs (logarithmic)")
    axes.set_xscale("log")
    axes.set_xticks(budgets, [f"{budget / LEAST:g}×" for budget in budgets], minor=False)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(output, dpi=110)


def page(losses: Losses, found: Found) -> str:
    """docs/results/envelope.md."""
    rates, seeds = found.rates, found.seeds
    head = "| " + " | ".join(f"{budget:.3g}" for budget in rates) + " |"
    lines = [
        f"# Regret against the envelope: Python's sources, {len(seeds)} seeds, {len(rates)} budgets",
        "",
        "Made by `python scripts/envelope.py`; every run is a row of [envelope.csv](data/envelope.csv).",
        "",
        "A byte-level GPT (width 32, context 64, batches of 16 windows, clip_norm=1, a constant rate that falls to zero in the "
        "last 40 % of the budget). Static nets of one to six blocks, and three that grow by fresh blocks that add nothing at "
        f"first; *{SPENT}* begins with one block and gains a second after {ADDED[0]:g} FLOPs and a third after {ADDED[1]:g}, "
        f"whatever the budget is (`trigger=at trigger.flops=[{ADDED[0]:g},{ADDED[1]:g}]`). For each budget the "
        "*envelope* is the static size with the lowest validation loss; *regret* is a way's test loss minus that size's, in nats "
        "per byte, paired by seed. One rate for all ways of a budget, chosen on "
        f"seed {TUNING_SEED}; the seeds below are {seeds[0]} to {seeds[-1]}. Budgets are training FLOPs.",
        "",
        "![regret over budgets](../images/envelope.png)",
        "",
        "## Regret, nats per byte (mean ± standard deviation over seeds)",
        "",
        f"| way {head}",
        "| --- " + "| ---: " * len(rates) + "|",
    ]
    for way in WAYS:
        cells = []
        for budget in rates:
            regret = found.regret[budget][way]
            spread = f" ± {regret.std(ddof=1):.3f}" if len(seeds) > 1 and regret.any() else ""
            cells.append("envelope" if way == found.best[budget] else f"{regret.mean():+.3f}{spread}")
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    reached = " | ".join(f"{found.test[budget][found.best[budget]].mean():.3f}" for budget in rates)
    lines += [
        f"| *test loss of the envelope* | {reached} |",
        "",
        "## The claim: every static size loses more than 0.05 nats somewhere, a grown net never more than 0.02",
        "",
        "| way | largest mean regret | its part of the claim | verdict (largest lower bound, largest upper bound) |",
        "| --- | ---: | --- | --- |",
        *verdicts(found.regret),
        "",
        "One-sided 95 % bounds; each lower one has a fifth of the level, for it is looked for at five budgets. Above the limit "
        "somewhere: the largest lower bound is; below it everywhere: the largest upper bound is; otherwise undecided. Not "
        "corrected for the number of ways.",
        "",
        f"## Against the net that each ends with, from scratch (`static-flops`), δ = {DELTA:g} nats",
        "",
        f"| way {head}",
        "| --- " + "| --- " * len(rates) + "|",
        *against(found, final),
        "",
        f"The first two end with six blocks; *{SPENT}* with "
        + ", ".join(f"{1 + len(grows_at(SPENT, budget))} at {budget:.3g}" for budget in rates)
        + ".",
        "",
        f"## Against the best static size of the budget (`static-best`), δ = {DELTA:g} nats",
        "",
        f"| way {head}",
        "| --- " + "| --- " * len(rates) + "|",
        *against(found, lambda _, budget: found.best[budget]),
        "",
        "Paired t-tests and, for equality, two one-sided ones, corrected over each table as `grow compare` does. The ladder of "
        f"static sizes costs {len(STATIC)} runs, a run that grows one.",
        "",
        f"## Rates: validation loss on seed {TUNING_SEED}",
        "",
        "| budget | rate | " + " | ".join(TUNED) + " | chosen |",
        "| --- | ---: " + "| ---: " * len(TUNED) + "| --- |",
    ]
    for budget, chosen in rates.items():
        for rate in RATES:
            tried = [f"{losses[run]['val']:.3f}" for run in tuning(rate, budget)]
            lines.append(f"| {budget:.3g} | {rate} | " + " | ".join(tried) + f" | {'×' if rate == chosen else ''} |")
    return "\n".join(lines)


def main() -> None:
    options = arguments(__doc__, 10).parse_args()
    if not options.finished:
        train_all([run for budget in BUDGETS for rate in RATES for run in tuning(rate, budget)], options.jobs)
    rates = tuned(read())
    if not options.finished:
        wanted = range(FIRST_SEED, FIRST_SEED + options.seeds)
        cells = [
            (budget, way) for budget in reversed(BUDGETS) for way in WAYS
        ]  # the longest first: none waits at the end
        train_all([(budget, way, rates[budget], seed) for seed in wanted for budget, way in cells], options.jobs)
    losses = read()
    seeds = complete(losses, rates)
    if len(seeds) < 2:
        raise SystemExit(f"{len(seeds)} seeds are complete, and a page needs two: leave out --finished to train more")
    found = Found(losses, rates, seeds)
    draw(found, ROOT / "docs" / "images" / "envelope.png")
    print(write_page("envelope", page(losses, found)))


if __name__ == "__main__":
    main()
