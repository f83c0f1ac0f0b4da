"""What people type first against what was tuned: docs/results/plain.md.

    python scripts/plain.py
    python scripts/plain.py --only tiny_digits,senn_moons --seeds 10

For each pair of a method and a dataset with an experiment of its own, `grow train method=M dataset=D` (plain) and `grow train
experiment=M_D` (tuned) on the same seeds. A plain line is good enough where it is within 0.3 points of the tuned one (0.5 on
CIFAR-10); this was fixed before anything was trained. Finished runs are rows of docs/results/data/plain.csv, and are not trained
again: after a change of a default delete the rows of the lines that it changes, whose words stay the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import write_page
from training_table import Table, arguments

from grow_cli.analysis.equivalence import tost
from grow_cli.analysis.numbers import short_number
from grow_cli.analysis.statistics import Paired, differences, paired
from grow_cli.analysis.verdicts import corrected, word

WAYS = ("plain", "tuned")
FIRST_SEED, PLANNED = 100, 5
"""Defaults and experiments were chosen on smaller ones."""

Runs = dict[int, dict[str, str]]
"""Seed → a row of the CSV."""


@dataclass(frozen=True)
class Pair:
    """A method and a dataset."""

    method: str
    dataset: str
    subset: int | None = None
    """Training images of both ways, where all are too dear."""

    @property
    def experiment(self) -> str:
        return f"{self.method}_{self.dataset}"

    @property
    def name(self) -> str:
        return f"{self.experiment}_{self.subset}" if self.subset else self.experiment

    @property
    def data(self) -> str:
        """As the page has it."""
        return f"{self.dataset}, {self.subset:,} images" if self.subset else self.dataset

    @property
    def allowed(self) -> float:
        """By how much accuracy, as a fraction, the plain line may fall short."""
        return 0.005 if self.dataset == "cifar10" else 0.003

    def line(self, way: str) -> list[str]:
        """The overrides that somebody types."""
        own = (
            [f"method={self.method}", f"dataset={self.dataset}"]
            if way == "plain"
            else [f"experiment={self.experiment}"]
        )
        return [*own, *([f"subset={self.subset}"] if self.subset else [])]


PAIRS = (
    Pair("tiny", "digits"),
    Pair("senn", "moons"),
    Pair("tiny", "mnist"),
    *(Pair(method, "mnist", 10_000) for method in ("alether", "senn", "fold")),
    Pair("fold", "cifar10", 10_000),
    *(Pair(method, "cifar10", 2_000) for method in ("alether", "tiny")),  # nets of convolutions: dearer
)


def words(name: str, way: str, seed: str) -> list[str] | None:
    """Of a row's run; None where the study has no such pair."""
    pair = next((pair for pair in PAIRS if pair.name == name), None)
    return None if pair is None else [*pair.line(way), f"seed={seed}"]


TABLE = Table(
    "plain", ("pair", "way", "seed"), ("val_accuracy", "test_accuracy"), words, apart=2
)  # an experiment may have other training samples


def images(pair: Pair, way: str, folder: Path) -> list[str]:
    """Overrides that read CIFAR-10 from a folder of images, with the dataset's own defaults where the way has none."""
    as_it_is = ["dataset.crop=4", "dataset.flip=true"] if way == "plain" or pair.method == "alether" else []
    return ["dataset=image_folder", f"dataset.path={folder.absolute()}", *as_it_is]


def runs_of(pair: Pair, way: str) -> Runs:
    """What the CSV has of a way."""
    return {int(seed): row for (name, of, seed), row in TABLE.rows().items() if (name, of) == (pair.name, way)}


def scores(runs: Runs, column: str) -> dict[int, float]:
    return {seed: float(row[column]) for seed, row in runs.items()}


def mean(runs: Runs, column: str) -> float:
    return float(np.mean(list(scores(runs, column).values())))


@dataclass(frozen=True)
class Answer:
    """What was found on a pair over the seeds that both ways have."""

    pair: Pair
    plain: Runs
    tuned: Runs
    found: Paired
    equal: float
    """p-value that the mean difference lies outside what is allowed."""

    @property
    def on_average(self) -> bool:
        """Whether the mean alone is within what is allowed."""
        return self.found.difference >= -self.pair.allowed

    @property
    def shown(self) -> bool:
        """Whether the lower end of the interval is."""
        return self.found.low >= -self.pair.allowed


def answer(pair: Pair) -> Answer | None:
    """None where fewer than two seeds are trained in both ways."""
    plain, tuned = (runs_of(pair, way) for way in WAYS)
    both = sorted(set(plain) & set(tuned))
    plain, tuned = ({seed: runs[seed] for seed in both} for runs in (plain, tuned))
    first, second = scores(plain, "test_accuracy"), scores(tuned, "test_accuracy")
    found = paired(first, second)
    if found is None:
        return None
    if len({row["data"].split()[1] for runs in (plain, tuned) for row in runs.values()}) > 1:
        raise ValueError(f"{pair.name}: the plain and the tuned runs have different test parts")
    return Answer(pair, plain, tuned, found, tost(list(differences(first, second).values()), pair.allowed))


def verdicts(answers: list[Answer]) -> list[str]:
    """A word for each, by the rule of `grow compare`, corrected for the whole table."""
    ps = corrected([(a.found.t_pvalue, a.equal) for a in answers])
    return [
        word(a.found.difference > 0, differs, equal, f"{100 * a.pair.allowed:g} points")
        for a, (differs, equal) in zip(answers, ps, strict=True)
    ]


def percent(runs: Runs) -> str:
    values = 100 * np.array(list(scores(runs, "test_accuracy").values()))
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"


def yes(holds: bool) -> str:
    return "yes" if holds else "no"


def sizes(runs: Runs) -> str:
    """Widths of the run whose number of parameters is in the middle, and the smallest and largest number."""
    ordered = sorted(runs.values(), key=lambda row: int(row["parameters"]))
    middle, ends = ordered[len(ordered) // 2], (int(ordered[0]["parameters"]), int(ordered[-1]["parameters"]))
    span = f"{ends[0]:,}" if ends[0] == ends[1] else f"{ends[0]:,} to {ends[1]:,}"
    return f"{middle['widths']} ({span})"


def cost(runs: Runs) -> str:
    return f"{short_number(mean(runs, 'training_flops'))} FLOPs, {mean(runs, 'seconds'):.0f} s"


def page(answers: list[Answer], command: str) -> str:
    lines = [
        "# What people type first, against what was tuned",
        "",
        f"Made by `{command}`; the numbers of each run are in [data/plain.csv](data/plain.csv).",
        "",
        "*Plain* is `grow train method=METHOD dataset=DATASET`, all else by default; *tuned* is `grow train "
        "experiment=METHOD_DATASET`. One thread, the same seeds, from 100 on: what was chosen was chosen on smaller ones, by "
        "validation. The plain line may fall short by 0.3 points of test accuracy, 0.5 on CIFAR-10.",
        "",
        "| method | dataset | seeds | plain, % | tuned, % | plain − tuned (95 % interval) | verdict | within: mean | within: "
        "interval |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | --- | --- |",
    ]
    for a, said in zip(answers, verdicts(answers), strict=True):
        f = a.found
        lines.append(
            f"| {a.pair.method} | {a.pair.data} | {f.n} | {percent(a.plain)} | {percent(a.tuned)} | {100 * f.difference:+.2f} "
            f"({100 * f.low:+.2f} to {100 * f.high:+.2f}) | **{said}** | {yes(a.on_average)} | {yes(a.shown)} |"
        )
    for pair in PAIRS:
        if pair not in {a.pair for a in answers}:
            trained = ", ".join(f"{way}: {len(runs_of(pair, way))}" for way in WAYS)
            lines.append(
                f"| {pair.method} | {pair.data} | | | | | *not told: fewer than two seeds of both* ({trained}) | | |"
            )
    lines += [
        "",
        f"{PLANNED} seeds are planned for each; a line with fewer is preliminary. "
        "Mean ± standard deviation over seeds; the interval is the paired t-test's, uncorrected. Verdicts are [those of `grow "
        "compare`](../compare.md#verdicts), at 5 % for the whole table. *Within: mean*: the mean difference is no lower than "
        "allowed; *within: interval*: the interval's lower end is not, either.",
        "",
        "## Sizes and costs",
        "",
        "| method | dataset | plain: widths (parameters) | tuned: widths (parameters) | plain | tuned |",
        "| --- | --- | --- | --- | ---: | ---: |",
    ]
    cells: list[Callable[[Runs], str]] = [sizes, cost]
    for a in answers:
        found = " | ".join(cell(runs) for cell in cells for runs in (a.plain, a.tuned))
        lines.append(f"| {a.pair.method} | {a.pair.data} | {found} |")
    lines += [
        "",
        "Widths of the run in the middle, and the range of parameters; FLOPs and seconds are means of training and growth.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__, PLANNED)
    parser.add_argument("--only", default=",".join(pair.name for pair in PAIRS), help="pairs to train, with commas")
    parser.add_argument("--cifar-images", type=Path, help="a copy of CIFAR-10 as train/<class>/*, test/<class>/*")
    parser.add_argument("--data-dir", type=Path, help="where MNIST and CIFAR-10 are")
    options = parser.parse_args()
    where = [] if options.data_dir is None else [f"data_dir={options.data_dir.absolute()}"]
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    for pair in (pair for pair in PAIRS if pair.name in options.only.split(",") and not options.finished):
        for way in WAYS:
            copied = options.cifar_images is not None and pair.dataset == "cifar10"
            more = images(pair, way, options.cifar_images) if copied else []
            TABLE.train([(pair.name, way, str(seed)) for seed in seeds], options.jobs, [*where, *more])
    answers = [found for pair in PAIRS if (found := answer(pair))]
    print(write_page("plain", page(answers, "python scripts/plain.py")))


if __name__ == "__main__":
    main()
