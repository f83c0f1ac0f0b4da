"""Stages against static nets: the maximum error on ten functions, at equal training FLOPs and with the same optimizer.

    python scripts/study_stages.py --seeds 10 --write
    python scripts/study_stages.py --seeds 1 --write --finished

The first trains, for each function and seed, a net in stages and three static ones into outputs/study-stages, and writes
docs/results/stages.md. Finished runs are used again, so that it can be stopped and gone on with at any time. The second trains
nothing, and writes the page of those functions that are finished in every way.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import ROOT, write_page

sys.path.insert(0, str(ROOT))

from grow_cli.data.formulas import FUNCTIONS
from grow_cli.records.words import counted

FOLDER = ROOT / "outputs" / "study-stages"
SHARED = (
    *("dataset=functions", "optimizer=lbfgs", "schedule=constant", "schedule.warmup=0", "precision=fp64", "device=cpu"),
    *(
        "batch_size=1000000",
        "threads=1",
        "stop.epochs=null",
        "evaluate.every=4",
        "progress=off",
        "checkpoint.every=1000",
    ),
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


def run_of(function: str, way: str, seed: int) -> Path:
    return FOLDER / function / way.replace(" ", "-") / str(seed)


def result(function: str, way: str, seed: int) -> dict[str, Any] | None:
    """The summary of a finished run."""
    file = run_of(function, way, seed) / "summary.json"
    summary: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return summary if summary.get("status") == "finished" else None


def train(function: str, way: str, seed: int) -> None:
    """In this process, for a process takes longer to start than some of these runs."""
    import grow_cli

    if result(function, way, seed) is not None:
        return
    folder = run_of(function, way, seed)
    shutil.rmtree(folder, ignore_errors=True)  # it was not finished, and takes seconds
    variables = FUNCTIONS[function].variables
    size = (f"dataset.samples={SAMPLES[variables]}", f"stop.flops={FLOPS[variables]:g}")
    run = grow_cli.train(
        [*WAYS[way], *SHARED, *size, f"dataset.function={function}", f"seed={seed}", f"run_dir={folder}"]
    )
    print(f"{function} {way} {seed}: {run.summary['grid_max_error']:.2e} in {run.summary['seconds']:.0f} s", flush=True)


def errors(function: str, way: str, seeds: Sequence[int]) -> list[float]:
    return [float(found["grid_max_error"]) for seed in seeds if (found := result(function, way, seed)) is not None]


def middle(values: Sequence[float]) -> float:
    """The geometric mean: errors of one way differ by factors."""
    return math.exp(statistics.fmean(map(math.log, values)))


def row(function: str, seeds: Sequence[int]) -> tuple[str, float]:
    """A line of the table, and by how much stages are more exact than the best static way."""
    found = {way: errors(function, way, seeds) for way in WAYS}
    means = {way: middle(values) for way, values in found.items()}
    best = min(OTHERS, key=lambda way: means[way])
    gain = means[best] / means[GROWN]
    worst = min(min(found[way][i] for way in OTHERS) / found[GROWN][i] for i in range(len(seeds)))
    cells = [f"**{means[w]:.1e}**" if w in (GROWN, best) else f"{means[w]:.1e}" for w in WAYS]
    mark = "" if gain >= AIM else " (missed)"
    return f"| {function} | " + " | ".join([*cells, f"{gain:.1f}×{mark}", f"{worst:.1f}×"]) + " |", gain


def page(seeds: Sequence[int], command: str) -> str:
    done = [f for f in FUNCTIONS if all(result(f, w, s) is not None for w in WAYS for s in seeds)]
    if not done:
        raise SystemExit("no function is finished in every way: train without --finished")
    rows = {function: row(function, seeds) for function in done}
    reached = sum(gain >= AIM for _, gain in rows.values())
    runs = [found for f in done for w in WAYS for s in seeds if (found := result(f, w, s)) is not None]
    grown = [found for f in done for s in seeds if (found := result(f, GROWN, s)) is not None]
    slowest = max(found["seconds"] for found in grown)
    spent = [found["training_flops"] for found in runs]
    parameters = {w: sorted({result(f, w, seeds[0])["parameters"] for f in done}) for w in WAYS}  # type: ignore[index]
    which = "all" if reached == len(rows) else f"{reached} of"
    verdict = f"In stages it is at least {AIM:g} times smaller on {which} {counted(len(rows), 'function')}"
    if len(done) < len(FUNCTIONS):
        missing = ", ".join(f for f in FUNCTIONS if f not in done)
        verdict += f" of the {len(FUNCTIONS)}, the others of which were not run ({missing}),"
    return "\n".join(
        [
            "# Stages: how exactly ten functions are fitted",
            "",
            "```sh",
            command,
            "```",
            "",
            "The maximum error on a dense grid (10,001 points, or 201 × 201), geometric mean over "
            f"{counted(len(seeds), 'seed')}, after {min(spent):.2g} to {max(spent):.2g} training FLOPs, by the number of "
            f"variables; float64, and L-BFGS of the same kind for all. {verdict} than the best of three static ways, which "
            "is chosen here, for each function, by that very error. Only the training points are used: nothing is "
            "selected. Seconds are of one thread on a machine that did other work, too; the slowest run in stages took "
            f"{slowest:.0f} s.",
            "",
            "| function | " + " | ".join(WAYS) + " | best static / stages | worst seed |",
            "| --- | " + " | ".join(["---"] * (len(WAYS) + 2)) + " |",
            *(line for line, _ in rows.values()),
            "",
            "*Worst seed*: the least ratio of any seed, of the best static run of that seed and the run in stages.",
            "",
            "| way | what it is | parameters (1-D, 2-D) |",
            "| --- | --- | --- |",
            *(f"| {w} | {ABOUT[w]} | {', '.join(f'{n:,}' for n in parameters[w])} |" for w in WAYS),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--write", action="store_true", help="write docs/results/stages.md")
    parser.add_argument("--finished", action="store_true", help="train nothing")
    options = parser.parse_args()
    seeds = range(options.seeds)
    jobs = [] if options.finished else [(f, w, s) for s in seeds for f in FUNCTIONS for w in WAYS]
    for job in jobs:
        train(*job)
    made = page(
        seeds, f"python scripts/study_stages.py --seeds {options.seeds} --write" + " --finished" * options.finished
    )
    print(made)
    if options.write:
        write_page("stages", made)


if __name__ == "__main__":
    main()
