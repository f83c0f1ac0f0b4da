"""Does growing find the right size? `grow size` on eleven problems: docs/results/size.md.

    python scripts/bench_size.py data_dir=DIR --cifar-images DIR
    python scripts/bench_size.py --problems wine,moons --methods tiny --seeds 5

For each problem and method the real command, `grow size ... --against sweep`, into outputs/size/bench/<problem>/<method>: the
same command continues, and nothing is trained twice. A method has one recipe for all problems (another for a language
model), and a problem only says how many steps it gets. Tables are written into outputs/size/tables.
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
from scipy import stats

from grow_cli.analysis.equivalence import seeds_to_equate

OUT = ROOT / "outputs" / "size"
THIRD = 1 / 3
"""The most that growing may cost, as a part of the ladder's FLOPs."""
EVENTS = 5
"""The most that a recipe allows."""
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
    "mnist_60k": Problem("MNIST, all 54,000 images", ["dataset=mnist"], 1000, 2),
    "cifar_10k": Problem("CIFAR-10, 10,000 images", ["dataset=cifar10", "subset=10000"], 600, 2),
    "moons": Problem("moons", ["dataset=moons", "dataset.samples=3000", *_MANY], 400, 5),
    "python": Problem("Python's sources", ["dataset=python", "dataset.measured=16384"], 300, 2, "language"),
    "wine": Problem("wine (table)", _table("wine", "class"), 400, 5),
    "cancer": Problem("breast cancer (table)", _table("cancer", "diagnosis"), 400, 5),
    "houses": Problem("houses (table, generated)", _table("houses", "value"), 400, 5, "regression"),
    "piecewise": Problem("piecewise curve (table, generated)", _table("piecewise", "y"), 400, 5, "regression"),
}

_SENN = [
    *("method.proposals=16", "method.layer_proposals=2", "method.steps=15", "method.samples=1024", "dataset.scale=1"),
    *("method.tau=1.03", "growth.neurons=10"),  # defaults when its runs were made
]
_FOLD = ["method.max_mistakes=300", "method.max_clusters=5", "method.steps=10"]
_RESIDUAL = ["model=residual_mlp", "model.width=32", "model.hidden=[32]"]
METHODS = {
    "tiny": ["method=tiny", "model=mlp_tiny", "model.hidden=[16,16]"],
    "senn": ["method=senn", "model.hidden=[4]", *_SENN],
    "fold": ["method=fold", "model.hidden=[16]", *_FOLD],
    "zero_blocks": ["method=zero_blocks", "method.blocks=1", *_RESIDUAL],
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


Cell = dict[str, Any] | str
"""size.json, or in words why there is none."""


def read(problem: str, method: str) -> Cell | None:
    """What was found; None where it has not been asked yet."""
    if (method, PROBLEMS[problem].task) in UNFIT:
        return f"does not fit: {UNFIT[method, PROBLEMS[problem].task]}"
    folder = cell(problem, method)
    if folder.with_suffix(".txt").exists():
        return folder.with_suffix(".txt").read_text(encoding="utf-8").strip()
    if not (folder / "size.json").exists():
        return None
    found = json.loads((folder / "size.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found if "ladder" in found else None


def shown(told: dict[str, Any]) -> bool:
    """Whether the verdict says that nothing, or nothing that matters, is lost."""
    return str(told["verdict"]).startswith(("equal", "better")) or "but within" in told["verdict"]


def on_average(told: dict[str, Any]) -> bool:
    """The same of the mean difference alone, whatever its interval is."""
    return bool(told["difference"] >= -told["within"])


def cheap(told: dict[str, Any]) -> bool:
    return bool(told["cost_of_ladder"] <= THIRD)


def deviation(told: dict[str, Any]) -> float:
    """Of the paired differences, from their 95 % interval."""
    low, high = told["difference_interval"]
    n = len(told["seeds"])
    return float((high - low) / 2 * math.sqrt(n) / stats.t.isf(0.025, n - 1))


def seeds_needed(told: dict[str, Any]) -> str:
    """For TOST to show equality within δ with a chance of 80 % where there is no difference."""
    if None in told["difference_interval"] or not deviation(told):
        return "?"
    n = seeds_to_equate(told["within"], deviation(told))
    return f"{n:,}" if n else "> 10,000"


HEAD = (
    "| problem | method | seeds | size found (95 % interval) | score | best of the ladder: size | score | difference (95 % "
    "interval) | verdict | ÷ ladder | ÷ halving | both shown | both on average |"
)


def row(problem: str, method: str, told: Cell) -> str:
    """A line of the table; accuracies in percent."""
    name = f"| {PROBLEMS[problem].words} | {method} |"
    if isinstance(told, str):
        return f"{name} | {told} |" + " |" * 9
    ladder = told["ladder"]
    best = next(rung for rung in ladder["rungs"] if rung["name"] == ladder["chosen"])
    scale = 100 if told["chosen_by"] == "val_accuracy" else 1
    digits = 2 if scale == 100 else 3

    def mean(scores: list[float]) -> str:
        return f"{scale * float(np.mean(scores)):.{digits}f}"

    size = f"{told['size']:,.0f} ({_interval(told['interval'], ',.0f')})"
    difference = f"{told['difference']:+.{digits}f} ({_interval(told['difference_interval'], f'+.{digits}f')})"
    costs = f"{told['cost_of_ladder']:.2f} | {told['cost_of_halving']:.2f}"
    return (
        f"{name} {len(told['seeds'])} | {size} | {mean(told['scores'])} | {best['parameters']:,} (of {len(ladder['rungs'])}) | "
        f"{mean(best['scores'])} | {difference} | {told['verdict'].split(' points')[0]} | {costs} | "
        f"{_yes(shown(told) and cheap(told))} | {_yes(on_average(told) and cheap(told))} |"
    )


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _interval(ends: list[float | None], form: str) -> str:
    return " to ".join("?" if end is None else format(end, form) for end in ends)


@dataclass(frozen=True)
class Count:
    """Of a method's problems: how many there are, and on how many what is true."""

    fit: int
    answered: int
    shown: int
    average: int
    cheap: int
    worse: int
    better: int
    near: int
    """Its size within a factor of two of the ladder's best."""
    failed: int
    """No size, a worse one, or one that cost too much."""

    @property
    def word(self) -> str:
        """Confirmed, refuted or undecided: both conditions on eight of ten."""
        if self.shown >= ON * self.fit:
            return "confirmed"
        return "refuted" if self.failed > (1 - ON) * self.fit + 1e-9 else "undecided"


def count(cells: dict[str, Cell]) -> Count:
    """Of what a method found, by problem."""
    told = [c for c in cells.values() if isinstance(c, dict)]
    fit = sum(not (isinstance(c, str) and c.startswith("does not fit")) for c in cells.values())
    both = sum(shown(c) and cheap(c) for c in told)
    average = sum(on_average(c) and cheap(c) for c in told)
    worse = sum(c["verdict"] == "worse" for c in told)
    better = sum(c["verdict"].startswith("better") for c in told)
    near = sum(0.5 <= c["size"] / c["best"] <= 2 for c in told)
    failed = fit - len(told) + sum(c["verdict"] == "worse" or not cheap(c) for c in told)
    return Count(fit, len(told), both, average, sum(map(cheap, told)), worse, better, near, failed)


def sentence(method: str, c: Count) -> str:
    """The verdict on a method."""
    refused = f", on {c.fit - c.answered} it found no size" if c.fit > c.answered else ""
    return (
        f"- **{method}: {c.word}.** It fits {c.fit} of {len(PROBLEMS)} problems. Both conditions are shown on {c.shown} of these "
        f"and hold on average on {c.average}; it costs a third of the ladder at most on {c.cheap}, is better on {c.better} and "
        f"worse on {c.worse}{refused}. Its size is within a factor of two of the ladder's best on {c.near}."
    )


def draw(found: dict[str, dict[str, Cell]], output: Path) -> None:
    """Left the size found beside the ladder's best, right the difference of their scores in units of δ."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(found)
    for number, method in enumerate(METHODS):
        there = [(i, found[n][method]) for i, n in enumerate(names) if isinstance(found[n].get(method), dict)]
        for first, (i, told) in enumerate(there):
            assert isinstance(told, dict)
            style: dict[str, Any] = {"color": f"C{number}", "fmt": "o", "ms": 5, "label": None if first else method}
            y = i + 0.16 * (number - 1.5)
            ratio, ends = told["size"] / told["best"], [e and e / told["best"] for e in told["interval"]]
            left.errorbar([ratio], [y], xerr=_bars(ratio, ends), **style)
            low_high = [e if e is None else e / told["within"] for e in told["difference_interval"]]
            middle = told["difference"] / told["within"]
            right.errorbar([middle], [y], xerr=_bars(middle, low_high), **style)
    left.set_yticks(range(len(names)), [PROBLEMS[n].words for n in names])
    left.invert_yaxis()
    left.set_xscale("log", base=2)
    left.axvline(1, color="0.6", lw=0.8)
    left.set_xlabel("parameters: grown ÷ the ladder's best")
    right.set_xscale("symlog", linthresh=2)
    right.axvspan(-1, 1, color="0.9")
    right.set_xlabel("score: grown − the ladder's best, in units of δ (right: better)")
    left.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=110)


def _bars(middle: float, ends: list[float | None]) -> list[list[float]] | None:
    low, high = ends
    return None if low is None or high is None else [[middle - low], [high - middle]]


def command(options: argparse.Namespace) -> str:
    """As it can be typed elsewhere."""
    kept = [o for o in options.overrides if not o.startswith("data_dir")]
    names = (("problems", ",".join(PROBLEMS)), ("methods", ",".join(METHODS)), ("seeds", None))
    asked = [f"--{name} {getattr(options, name)}" for name, default in names if getattr(options, name) != default]
    images = ["--cifar-images DIR"] if options.cifar_images is not None else []
    return " ".join(["python scripts/bench_size.py", *asked, *kept, *images])


WORDS = """\
*Confirmed*: both conditions are shown on eight of ten of the problems that the method fits. *Refuted*: on more than two of
ten it found no size, is worse (by more than chance, and not shown to be within δ), or costs more. *Undecided*: neither.
*Shown*: TOST within δ, or a t-test that says better, both at 5 %; the verdict is that of the command, for each cell alone.
*On average*: the mean difference is above −δ, whatever its interval is, which proves nothing."""

NOTES = """\
- **The ladder costs as many runs as it has sizes**, for each of them is trained for the grown run's FLOPs. So "a third of the
  ladder" holds wherever it has three sizes or more, by construction, and the column ÷ halving says more.
- **The ladder's best is chosen by the scores that it is compared by.** That favours it, the more the fewer seeds there are.
- **The power is low.** The recipes are short, and a score of a few hundred samples moves by more than δ when one of them does.
  The next table has the seeds that TOST would need.
- **What growing costs beside training (SENN's search, Fold's explanations, TINY's statistics) is charged, and given to the
  static nets as training.** Where events take 90 % of the FLOPs, the static nets are trained ten times longer, and the recipes
  are so short that it shows. Cheap searches were chosen for that reason; they are not what the papers use.
- **No recipe was tuned, and a longer training may turn the table.** It is what a user gets who asks for a size in a minute."""

RECIPES = """\
An event at every tenth of the steps, until six tenths of them are over or two events in a row did not improve the validation
score (`growth.plateau=2`). The optimizer and its schedule are the defaults. Where the plateau never comes, the schedule and
not the data decided the size, and its interval is narrow for that reason."""

DATA = """\
`houses` (generated) has eight columns and 4,000 rows: a value that depends on income and on the distance to two centres, capped
as California's is. `piecewise` is a line, a wave, a parabola behind a step, and a plateau (2,000 rows). CIFAR-10 is a copy in
JPEG where `--cifar-images` is given. MNIST's size is that of the training part; its validation split is 6,000 other images,
CIFAR-10's 5,000. `dataset.split_seed=seed` draws the splits anew for each seed."""


def page(found: dict[str, dict[str, Cell]], made_by: str) -> str:
    counts = {m: count({p: cells[m] for p, cells in found.items() if m in cells}) for m in METHODS}
    told = [c for cells in found.values() for c in cells.values() if isinstance(c, dict)]
    seconds = sum(c["seconds"] + c["ladder"]["cost"]["seconds"] for c in told)
    delta = "0.2 points of accuracy, 0.01 of R², 0.02 nats (0.029 bits) a byte"
    lines = [
        f"# Does growing find the right size? `grow size` on {len(PROBLEMS)} problems",
        "",
        f"Made by `{made_by}`: for each problem and method the real command, `grow size ... --against sweep`. All scores are of "
        f"the **validation** split. Training took {seconds / 60:.0f} minutes of wall time on one thread, beside other work.",
        "",
        f"**The question.** Is the grown net within δ of the best of a ladder of eight static sizes (δ: {delta}), for at most a "
        "third of the ladder's FLOPs, on eight of ten problems?",
        "",
        *(sentence(m, c) for m, c in counts.items()),
        "",
        WORDS,
        "",
        HEAD,
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | --- | --- |",
        *(row(p, m, cells[m]) for p, cells in found.items() for m in METHODS if m in cells),
        "",
        "![the sizes found, and their scores beside the ladder's best](../images/size.png)",
        "",
        "## What to know before reading it",
        "",
        NOTES,
        "",
        "## The power: deviation of the paired differences in units of δ, and the seeds for equality to be shown (chance 80 %)",
        "",
        "| problem | " + " | ".join(METHODS) + " |",
        "| --- " + "| ---: " * len(METHODS) + "|",
        *(_power(p, cells) for p, cells in found.items()),
        "",
        f"## What decided the size (seeds with fewer than the schedule's {EVENTS} events), and the events' part of the FLOPs",
        "",
        "| problem | " + " | ".join(METHODS) + " |",
        "| --- " + "| ---: " * len(METHODS) + "|",
        *(_decided(p, cells) for p, cells in found.items()),
        "",
        "## Recipes",
        "",
        RECIPES,
        "",
        *(f"- {m}: `{' '.join(words)}`" for m, words in METHODS.items()),
        *(f"- {m} on Python's sources: `{' '.join(words)}`" for m, words in ON_TEXT.items()),
        "",
        "Steps: " + "; ".join(f"{p.words} {p.steps}" for p in PROBLEMS.values()) + ". For example:",
        "",
        "```bash",
        "grow size " + " ".join(recipe(PROBLEMS["digits"], "tiny")) + " --seeds 5 --against sweep",
        "```",
        "",
        DATA,
    ]
    return "\n".join(lines)


def _decided(problem: str, cells: dict[str, Cell]) -> str:
    found = []
    for method in METHODS:
        if not isinstance(cells.get(method), dict):
            found.append("–")
            continue
        runs = [json.loads(p.read_text()) for p in sorted(cell(problem, method).glob("grown/*/summary.json"))]
        early = sum(run["events"] < EVENTS for run in runs)
        share = sum(run["growth_flops"] for run in runs) / sum(run["training_flops"] for run in runs)
        found.append(f"{early} of {len(runs)}, {share:.0%}")
    return f"| {PROBLEMS[problem].words} | " + " | ".join(found) + " |"


def _power(problem: str, cells: dict[str, Cell]) -> str:
    found = []
    for method in METHODS:
        told = cells.get(method)
        measured = isinstance(told, dict) and None not in told["difference_interval"]
        found.append(
            f"{deviation(told) / told['within']:.1f}, {seeds_needed(told)}"
            if measured and isinstance(told, dict)
            else "–"
        )
    return f"| {PROBLEMS[problem].words} | " + " | ".join(found) + " |"


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
    found = {p: {m: c for m in METHODS if (c := read(p, m)) is not None} for p in PROBLEMS}
    draw(found, ROOT / "docs" / "images" / "size.png")
    print(write_page("size", page(found, command(options))))


if __name__ == "__main__":
    main()
