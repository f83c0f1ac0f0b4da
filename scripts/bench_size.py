"""Does growing find the right size? `grow size` on eleven problems: docs/results/size.md.

    python scripts/bench_size.py data_dir=DIR --cifar-images DIR
    python scripts/bench_size.py --problems wine,moons --methods tiny --seeds 5

For each problem and method the real command, `grow size ... --against sweep`, into outputs/size/bench/<problem>/<method>: the
same command continues, and nothing is trained twice. Every recipe was fixed before any ladder was trained: a method has
one for all problems, and a problem only says how many steps it gets. Tables are written into outputs/size/tables.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import ROOT, grow, write_page
from matplotlib.figure import Figure

from grow_cli.analysis.equivalence import findable

OUT = ROOT / "outputs" / "size"
THIRD = 1 / 3
"""The most that growing may cost, as a part of the ladder's FLOPs."""
ON = 8 / 10
"""The part of the problems on which both conditions must hold."""


@dataclass(frozen=True)
class Problem:
    """What is learned, for how many steps, with how many seeds."""

    words: str
    overrides: list[str]
    steps: int
    seeds: int
    task: str = "classification"


# small sets: the more samples a score is measured on, the less chance there is in it
_MANY = ["dataset.validation=0.3"]


def _table(name: str, target: str) -> list[str]:
    return ["dataset=table", f"dataset.path={OUT / 'tables' / name}.csv", f"dataset.target={target}", *_MANY]


PROBLEMS = {
    "digits": Problem("digits, 8 × 8", ["dataset=digits", *_MANY], 400, 5),
    "mnist_1k": Problem("MNIST, 1,000 images", ["dataset=mnist", "subset=1000"], 400, 5),
    "mnist_10k": Problem("MNIST, 10,000 images", ["dataset=mnist", "subset=10000"], 600, 3),
    "mnist_60k": Problem("MNIST, all 54,000 images", ["dataset=mnist"], 1000, 3),
    "cifar_10k": Problem("CIFAR-10, 10,000 images", ["dataset=cifar10", "subset=10000"], 600, 2),
    "moons": Problem("moons", ["dataset=moons", "dataset.samples=3000", *_MANY], 400, 5),
    "python": Problem("Python's sources", ["dataset=python", "dataset.measured=16384"], 300, 2, "language"),
    "wine": Problem("wine (table)", _table("wine", "class"), 400, 5),
    "cancer": Problem("breast cancer (table)", _table("cancer", "diagnosis"), 400, 5),
    "houses": Problem("houses (table, generated)", _table("houses", "value"), 400, 5, "regression"),
    "piecewise": Problem("piecewise curve (table, generated)", _table("piecewise", "y"), 400, 5, "regression"),
}

_SENN = ["method.proposals=16", "method.layer_proposals=2", "method.steps=15"]
_FOLD = ["method.max_mistakes=300", "method.max_clusters=5", "method.steps=10"]
METHODS = {
    "tiny": ["method=tiny", "model.hidden=[16,16]"],
    "senn": ["method=senn", "model.hidden=[4]", *_SENN],
    "fold": ["method=fold", "model.hidden=[16]", "method.neurons_per_event=5", *_FOLD],
    "zero_blocks": ["method=zero_blocks", "method.blocks=1", "model.width=32", "model.hidden=[32]"],
}
_GPT = ["model=gpt", "model.dim=32", "batch_size=16"]
ON_TEXT = {
    "tiny": ["method=tiny", "method.samples=200", *_GPT, "model.mlp=[16,16]"],
    "zero_blocks": ["method=zero_blocks", "method.blocks=1", *_GPT, "model.blocks=1"],
}
"""The same methods on a language model."""
UNFIT = {
    ("senn", "language"): "it grows chains of layers, and a language model is none",
    ("fold", "language"): "it explains wrong classes of vectors",
    ("fold", "regression"): "it needs classes: a quantity is never classified wrongly",
}


def recipe(problem: Problem, method: str) -> list[str]:
    """Of a run: the method's own, as many steps as the problem has, an event at every tenth part of them."""
    way = ON_TEXT[method] if problem.task == "language" else METHODS[method]
    part = problem.steps // 10
    return [
        *(way if "batch_size=16" in way else [*way, "batch_size=128"]),
        *("threads=1", "dataset.split_seed=seed", "stop.epochs=null", f"stop.steps={problem.steps}"),
        *("evaluate.unit=steps", f"evaluate.every={part}"),
        *("trigger=every", "trigger.unit=steps", f"trigger.every={part}", "growth.plateau=2"),
        *problem.overrides,
    ]


def write_tables() -> None:
    """The four tables: two of scikit-learn's, two generated; the same each time."""
    from sklearn import datasets

    folder = OUT / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for name, loaded, target in (
        ("wine", datasets.load_wine(as_frame=True), "class"),
        ("cancer", datasets.load_breast_cancer(as_frame=True), "diagnosis"),
    ):
        frame = loaded.data.assign(**{target: [loaded.target_names[i] for i in loaded.target]})
        frame.to_csv(folder / f"{name}.csv", index=False)
    houses(4000).to_csv(folder / "houses.csv", index=False)
    piecewise(2000).to_csv(folder / "piecewise.csv", index=False)


def houses(rows: int) -> pd.DataFrame:
    """Eight columns as of California's districts; a value that depends on income, two centres, and how they interact."""
    draw = np.random.default_rng(0)
    income, age = draw.gamma(4.0, 1.0, rows), draw.integers(1, 53, rows).astype(float)
    rooms, people = draw.gamma(12.0, 0.45, rows), draw.gamma(9.0, 350 / 9 * 4, rows)
    occupied, north, east = draw.gamma(10.0, 0.3, rows), draw.uniform(0, 10, rows), draw.uniform(0, 10, rows)
    bedrooms = rooms * draw.uniform(0.15, 0.3, rows)
    near = np.exp(-np.hypot(north - 3, east - 7) / 1.2) + np.exp(-np.hypot(north - 8, east - 2) / 0.8)
    value = 0.4 * income * (1 + near) + 1.5 * near + 0.3 * np.sin(age / 8) + 0.2 * rooms - 0.25 * occupied
    value = np.minimum(value + draw.normal(0, 0.3, rows), 5.5)
    columns = (income, age, rooms, bedrooms, people, occupied, north, east)
    names = ("income", "age", "rooms", "bedrooms", "people", "occupied", "north", "east")
    return pd.DataFrame(dict(zip(names, columns, strict=True)) | {"value": value})


def piecewise(rows: int) -> pd.DataFrame:
    """A line, a wave, a step and a plateau, with noise."""
    draw = np.random.default_rng(1)
    x = draw.uniform(0, 4, rows)
    y = np.select([x < 1, x < 2, x < 3], [2 * x, np.sin(6 * np.pi * x), x**2 - 5], -1.0)
    return pd.DataFrame({"x": x, "y": y + draw.normal(0, 0.1, rows)})


def cell(problem: str, method: str) -> Path:
    """The folder that `grow size` works in."""
    return OUT / "bench" / problem / method


def ask(problem: str, method: str, seeds: int, more: list[str]) -> None:
    """`grow size`; what it refuses to answer is kept in its words."""
    begun, folder = time.perf_counter(), cell(problem, method)
    folder.parent.mkdir(parents=True, exist_ok=True)
    within = ["--within", f"{0.02 / math.log(2):.6f}"] if PROBLEMS[problem].task == "language" else []
    refused = folder.with_suffix(".txt")
    try:
        words = ["--seeds", str(seeds), "--against", "sweep", *within, "--out", str(folder), "progress=off"]
        grow("size", *recipe(PROBLEMS[problem], method), *more, *words)
        refused.unlink(missing_ok=True)
    except SystemExit as error:
        if not any(words in str(error) for words in REFUSALS):
            raise
        refused.write_text(str(error).strip().splitlines()[-1].removeprefix("error: ") + "\n", encoding="utf-8")
    print(f"{problem} {method}, {seeds} seeds: {time.perf_counter() - begun:.0f} s", flush=True)


REFUSALS = ("nothing grew", "cannot be compared with a ladder")
"""Where the command has no answer for finished runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="names, with commas (default: all)")
    parser.add_argument("--methods", default=",".join(METHODS), help="names, with commas (default: all)")
    parser.add_argument("--seeds", type=int, help="at most so many (default: what each problem has)")
    parser.add_argument("--cifar-images", type=Path, help="a copy of CIFAR-10 as train/<class>/*, test/<class>/*")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE of every run, say data_dir=DIR")
    options = parser.parse_intermixed_args()
    if options.cifar_images is not None:
        images = ["dataset=image_folder", f"dataset.path={options.cifar_images.absolute()}", "subset=10000"]
        PROBLEMS["cifar_10k"].overrides[:] = images
    write_tables()
    for problem in options.problems.split(","):
        for method in options.methods.split(","):
            if (method, PROBLEMS[problem].task) not in UNFIT:
                seeds = min(options.seeds or PROBLEMS[problem].seeds, PROBLEMS[problem].seeds)
                ask(problem, method, seeds, options.overrides)


if __name__ == "__main__":
    main()
