"""Stages against static nets: the maximum error on ten functions, at equal training FLOPs and with the same optimizer.

    python scripts/study_stages.py --jobs 2
    python scripts/study_stages.py --finished

For each function and seed, a net in stages and three static ones. Each finished run is a row of docs/results/data/stages.csv and
is not trained again; the second command trains nothing, and writes docs/results/stages.md of those seeds that are complete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from common import write_page
from numpy.typing import NDArray
from scipy import stats
from study import PLANNED, planned
from training_table import Key, Row, Table, arguments

from grow_cli.data.formulas import FUNCTIONS
from grow_cli.records.words import counted

SHARED = (
    *("dataset=functions", "optimizer=lbfgs", "schedule=constant", "schedule.warmup=0", "precision=fp64", "device=cpu"),
    *("batch_size=1000000", "stop.epochs=null", "evaluate.every=4", "checkpoint.every=1000"),
    *("optimizer.history=25", "dataset.test_samples=500"),
)
# By the number of variables: training points, and FLOPs, which pay for some 500 evaluations of the loss in stages.
SAMPLES, FLOPS = {1: 400, 2: 900}, {1: 7e8, 2: 1.5e9}
STATIC = ("method=static", "trigger=never")
WAYS: dict[str, tuple[str, ...]] = {
    "stages": ("method=stages", "model=stages", "model.hidden=[[20,20]]", "trigger.fractions=[0.45]"),
    "one tanh net": (*STATIC, "model=mlp", "model.activation=tanh", "model.hidden=[29,29]"),
    "one sine net": (*STATIC, "model=stages", "model.hidden=[[29,29]]"),
    "all at once": (*STATIC, "model=stages", "model.hidden=[[20,20],[20,20]]"),
}
ABOUT = {
    "stages": "two nets of 20-20 units (sine, then tanh), one after the other, the second for what the first left",
    "one tanh net": "one net of 29-29 units, tanh",
    "one sine net": "one net of 29-29 units, sine, then tanh",
    "all at once": "the same sum of two nets, trained together from the start (the control `static-flops`)",
}
GROWN, *OTHERS = WAYS
AIM = 10.0
"""Times by which the maximum error is to be smaller."""

Rows = Mapping[Key, Row]
Values = NDArray[np.float64]


def words(function: str, way: str, seed: str) -> list[str] | None:
    """Of a row's run; None where the study has no such run."""
    if function not in FUNCTIONS or way not in WAYS:
        return None
    variables = FUNCTIONS[function].variables
    size = (f"dataset.samples={SAMPLES[variables]}", f"stop.flops={FLOPS[variables]:g}")
    return [*WAYS[way], *SHARED, *size, f"dataset.function={function}", f"seed={seed}"]


TABLE = Table("stages", ("function", "way", "seed"), ("grid_max_error",), words, apart=1)


def complete(rows: Rows) -> list[str]:
    """The seeds of which every function has been fitted in every way."""
    seeds = sorted({seed for *_, seed in rows}, key=int)
    return [seed for seed in seeds if all((f, way, seed) in rows for f in FUNCTIONS for way in WAYS)]


def column(rows: Rows, function: str, way: str, seeds: Sequence[str], name: str) -> Values:
    """(seeds,)"""
    return np.array([float(rows[function, way, seed][name]) for seed in seeds])


def gains(rows: Rows, function: str, seeds: Sequence[str]) -> tuple[str, Values]:
    """The best static way, by its mean error, and (seeds,) by what factor it errs more than stages, as a logarithm."""
    logs = {way: np.log(column(rows, function, way, seeds, "grid_max_error")) for way in WAYS}
    best = min(OTHERS, key=lambda way: float(logs[way].mean()))
    return best, logs[best] - logs[GROWN]


def line(rows: Rows, function: str, seeds: Sequence[str]) -> str:
    """A row of the table."""
    best, factor = gains(rows, function, seeds)
    low, high = (math.exp(end) for end in stats.ttest_1samp(factor, 0).confidence_interval(0.95))
    errors = {way: math.exp(np.log(column(rows, function, way, seeds, "grid_max_error")).mean()) for way in WAYS}
    cells = [f"**{errors[way]:.1e}**" if way in (GROWN, best) else f"{errors[way]:.1e}" for way in WAYS]
    mean = math.exp(factor.mean())
    word = "shown" if low >= AIM else "refuted" if high < AIM else "undecided"
    seconds = column(rows, function, GROWN, seeds, "seconds").max()
    ends = (
        f"{mean:.1f}×",
        f"{low:.1f} to {high:.1f}",
        f"**{word}**",
        f"{math.exp(factor.min()):.1f}×",
        f"{seconds:.0f}",
    )
    return f"| {function} | " + " | ".join((*cells, *ends)) + " |"


def page(rows: Rows, seeds: Sequence[str]) -> str:
    """docs/results/stages.md."""
    reached = sum(float(gains(rows, function, seeds)[1].mean()) >= math.log(AIM) for function in FUNCTIONS)
    which = "all" if reached == len(FUNCTIONS) else f"{reached} of"
    spent = [float(rows[f, w, s]["training_flops"]) for f in FUNCTIONS for w in WAYS for s in seeds]
    parameters = {w: sorted({int(rows[f, w, seeds[0]]["parameters"]) for f in FUNCTIONS}) for w in WAYS}
    return "\n".join(
        [
            "# Stages: how exactly ten functions are fitted",
            "",
            "Made by `python scripts/study_stages.py`; every run is a row of [stages.csv](data/stages.csv).",
            "",
            "The maximum error on a dense grid (10,001 points, or 201 × 201), geometric mean over "
            f"{counted(len(seeds), 'seed')}{planned(len(seeds))}, after {min(spent):.2g} to {max(spent):.2g} training FLOPs, by "
            f"the number of variables; float64, and L-BFGS of the same kind for all. In stages it is at least {AIM:g} times "
            "smaller on "
            f"{which} {counted(len(FUNCTIONS), 'function')} than the best of three static ways, which is chosen here, for each "
            "function, by that very error. Only the training points are used: nothing is selected.",
            "",
            "| function | "
            + " | ".join(WAYS)
            + f" | best static / stages | 95 % interval | {AIM:g}×? | worst seed | seconds |",
            "| --- | " + " | ".join(["---"] * (len(WAYS) + 5)) + " |",
            *(line(rows, function, seeds) for function in FUNCTIONS),
            "",
            "The interval is that of a t-test of the logarithms, paired by seed, uncorrected: *shown* where it lies above "
            f"{AIM:g}, *refuted* where it lies below. *Worst seed*: the least ratio of any seed. *Seconds*: of the slowest run "
            "in stages, one thread of a machine that ran other studies, too.",
            "",
            "| way | what it is | parameters (1-D, 2-D) |",
            "| --- | --- | --- |",
            *(f"| {w} | {ABOUT[w]} | {', '.join(f'{n:,}' for n in parameters[w])} |" for w in WAYS),
            "",
        ]
    )


def main() -> None:
    options = arguments(__doc__, PLANNED).parse_args()
    if not options.finished:
        TABLE.train(
            [(f, way, str(seed)) for seed in range(options.seeds) for f in FUNCTIONS for way in WAYS], options.jobs
        )
    rows = TABLE.rows()
    seeds = complete(rows)
    if len(seeds) < 2:
        raise SystemExit(f"{len(seeds)} seeds are complete, and a page needs two: leave out --finished to train more")
    print(write_page("stages", page(rows, seeds)))


if __name__ == "__main__":
    main()
