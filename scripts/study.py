"""Studies of a few ways at one budget: each tuned alike, ten seeds, the verdicts of `grow compare`.

    python scripts/study.py scarce --jobs 2 --data-dir DIR --cifar-images DIR
    python scripts/study.py scarce --finished

Finished runs are rows of docs/results/data/<name>.csv and are not trained again; the second command trains nothing and
writes docs/results/<page>.md and its picture of those seeds that are complete. What is trained: scripts/studies.py; the words of
the pages: scripts/study_pages.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rates
import training_table
from common import write_page
from numpy.typing import NDArray
from scipy import stats
from studies import BEST, FIRST_SEED, STUDIES, Study
from study_figure import draw
from study_pages import PAGES
from training_table import Table, arguments

from grow_cli.analysis.equivalence import findable, tost
from grow_cli.analysis.verdicts import corrected, word

Values = NDArray[np.float64]
LEVEL = 0.05
PLANNED = 10
"""Seeds of every study."""


def table(name: str) -> Table:
    """Where its runs are."""
    study = STUDIES[name]

    def words(way: str, rate: str, seed: str) -> list[str] | None:
        if way not in study.ways:
            return None
        return [*study.recipe, *study.ways[way], f"optimizer.lr={rate}", f"seed={seed}"]

    return Table(name, ("way", "rate", "seed"), (f"val_{study.score}", f"test_{study.score}"), words)


def train(name: str, jobs: int, seeds: int, more: Sequence[str]) -> None:
    """The search for each way's rate, then its seeds."""
    study, runs = STUDIES[name], table(name)
    while asked := rates.missing(study, rates.tried(study, runs.rows())):
        runs.train([(way, rate, seed) for way, rate in asked for seed in study.tuning], jobs, more, trials=True)
    best = rates.best(rates.tried(study, runs.rows()))
    wanted = range(FIRST_SEED, FIRST_SEED + seeds)
    runs.train([(way, best[way], str(seed)) for seed in wanted for way in study.ways], jobs, more)


class Found:
    """The numbers of a study, of the seeds of which every way was trained. ValueError where they are fewer than two."""

    def __init__(self, name: str) -> None:
        self.study, self.rows = STUDIES[name], table(name).rows()
        self.tried = rates.tried(self.study, self.rows)
        if rates.missing(self.study, self.tried):
            raise ValueError("the search for the rates is not finished")
        self.best = rates.best(self.tried)
        """Way → rate."""
        trained = {seed for *_, seed in self.rows if int(seed) >= FIRST_SEED}
        complete = [seed for seed in trained if all((way, rate, seed) in self.rows for way, rate in self.best.items())]
        self.seeds = sorted(complete, key=int)
        if len(self.seeds) < 2:
            raise ValueError("fewer than two seeds are complete")

    def of(self, way: str, column: str) -> Values:
        """(seeds,): a column of a way's rows; `static-best` is the static size that is best on validation."""
        way = self.chosen() if way == BEST else way
        return np.array([float(self.rows[way, self.best[way], seed][column] or "nan") for seed in self.seeds])

    def chosen(self) -> str:
        """The static size with the best mean validation score."""
        column = f"val_{self.study.score}"
        return max(self.study.ladder, key=lambda way: self.study.sign * float(self.of(way, column).mean()))

    def test(self, way: str) -> Values:
        """(seeds,): in points, or in nats."""
        return self.study.unit * self.of(way, f"test_{self.study.score}")

    def pairs(self) -> dict[tuple[str, str], Values]:
        """The differences that are judged. That to `static-best` is left out where it is a pair already."""
        known = {(first, second) for first, second in self.study.pairs if second != BEST}
        kept = [(a, b) for a, b in self.study.pairs if b != BEST or (a, self.chosen()) not in known]
        return {(a, b): self.test(a) - self.test(b) for a, b in kept}


def judged(differences: Mapping[Any, Values], within: float) -> dict[Any, tuple[float, float]]:
    """p-values (differs, equal within δ) of each difference that has a spread, corrected over all of them."""
    asked = {name: d for name, d in differences.items() if np.ptp(d) > 0}
    ps = corrected([(float(stats.ttest_1samp(d, 0).pvalue), tost(d, within)) for d in asked.values()])
    return dict(zip(asked, ps, strict=True))


def verdicts(found: Found) -> list[str]:
    """A row for each pair of the study."""
    study, rows = found.study, found.pairs()
    answers = judged(rows, study.within)
    lines = []
    for (first, second), d in rows.items():
        name = f"{first} − {second}" + (f" ({found.chosen()})" if second == BEST else "")
        better, within = study.sign * float(d.mean()) > 0, f"{study.within:g} {study.unit_name}"
        lines.append(verdict_row(name, d, answers.get((first, second)), better, within, study.signed))
    return lines


def planned(seeds: int) -> str:
    """What a page says after the number of its seeds."""
    return "" if seeds >= PLANNED else f" of the {PLANNED} that are planned: preliminary"


def loss_cells(differences: Mapping[Any, Values], within: float) -> dict[Any, str]:
    """The mean of each difference of losses that has a spread, and the verdict on its first way, corrected over all."""
    means = {name: float(d.mean()) for name, d in differences.items()}
    answers = judged(differences, within).items()
    return {name: f"{means[name]:+.3f} **{word(means[name] < 0, *answer, f'{within:g}')}**" for name, answer in answers}


def verdict_row(
    name: str, difference: Values, answer: tuple[float, float] | None, better: bool, within: str, signed: str
) -> str:
    """A row of a table of verdicts.

    :param answer: its p-values from `judged`; None where the difference has no spread
    :param better: whether the first is, by the mean
    :param within: δ with its unit
    :param signed: format of a difference
    """
    mean = f"{difference.mean():{signed}}"
    if answer is None:
        return f"| {name} | no spread | {mean} | | | |"
    low, high = stats.ttest_1samp(difference, 0).confidence_interval(1 - LEVEL)
    interval = f"{low:{signed}} to {high:{signed}}"
    return f"| {name} | **{word(better, *answer, within)}** | {mean} | {interval} | {answer[0]:.2g} | {answer[1]:.2g} |"


def section(found: Found) -> list[str]:
    """What the page says of a study."""
    study, seeds = found.study, found.seeds
    chosen = found.chosen() if study.ladder else ""
    lines = [
        f"## {study.title}",
        "",
        f"{study.note} {len(seeds)} seeds{planned(len(seeds))}.",
        "",
        f"| way | rate | test {study.score_name}, mean ± sd | parameters | training FLOPs | events | grown at | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way, rate in found.best.items():
        test = found.test(way)
        parameters, flops, events, at, seconds = (
            float(found.of(way, column).mean())
            for column in ("parameters", "training_flops", "events", "grown_at", "seconds")
        )
        grown = "" if math.isnan(at) else f"{at:.0%}"
        lines.append(
            f"| {way}{f' (`{BEST}`)' if way == chosen else ''} | {rate} | {test.mean():{study.plain}} ± "
            f"{test.std(ddof=1):{study.plain}} | {parameters:,.0f} | {flops:.3g} | {events:g} | {grown} | "
            f"{seconds:.0f} |"
        )
    differences = found.pairs()
    power = {
        pair: findable(float(d.std(ddof=1)), len(seeds), LEVEL / len(differences))
        for pair, d in differences.items()
        if np.ptp(d) > 0
    }
    lines += [
        "",
        f"| first − second | verdict, δ = {study.within:g} {study.unit_name} | Δ | 95 %, uncorrected | p of a difference | p of "
        "none beyond δ |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *verdicts(found),
        "",
    ]
    if power:
        least, most = min(power, key=lambda pair: power[pair]), max(power, key=lambda pair: power[pair])
        lines += [
            f"In 80 % of repetitions these seeds would find a difference of {power[least]:.2g} {study.unit_name} "
            f"({' − '.join(least)}) to {power[most]:.2g} ({' − '.join(most)}).",
            "",
        ]
    return [*lines, *searched(found)]


def searched(found: Found) -> list[str]:
    """What the page says of the search for the rates, and what that and the ladder cost."""
    study, scores = found.study, found.tried
    columns = [rate for _, rate in sorted({(float(rate), rate) for of in scores.values() for rate in of})]
    lines = [
        f"Validation {study.score_name} {_of_what(study)}, by which each way's rate was chosen:",
        "",
        "| way | " + " | ".join(columns) + " |",
        "| --- " + "| ---: " * len(columns) + "|",
    ]
    for way, of in scores.items():
        lines.append(f"| {way} | " + " | ".join(_trial(study, of.get(rate)) for rate in columns) + " |")
    ends = [way for way, of in scores.items() if rates.at_an_end(of)]
    trials = [found.rows[way, rate, seed] for way, of in scores.items() for rate in of for seed in study.tuning]
    spent = math.fsum(float(row["training_flops"]) for row in trials)
    ladder = sum(float(found.of(way, "training_flops").mean()) for way in study.ladder)
    lines += [
        "",
        (f"The best rate of {', '.join(ends)} lies at an end of the search. " if ends else "")
        + f"The search took {spent:.2g} FLOPs, {len(trials)} runs."
        + (f" The ladder that `{BEST}` is chosen from costs {ladder:.2g} a seed." if ladder else ""),
        "",
    ]
    return lines


def _of_what(study: Study) -> str:
    if study.trials == 1:
        return f"on seed {study.tuning[0]}, one run each"
    return f"on seeds {study.tuning[0]} to {study.tuning[-1]}, their mean"


def _trial(study: Study, score: float | None) -> str:
    """A cell of the table of the search; empty where that rate was not tried."""
    if score is None:
        return ""
    return f"{study.sign * study.unit * score:{study.plain}}" if math.isfinite(score) else "diverged"


def page(name: str) -> str:
    """docs/results/<name>.md, its picture drawn. A study without two complete seeds has a line."""
    title, about, studies = PAGES[name]
    images = " --cifar-images DIR" if any("dataset=cifar10" in STUDIES[study].recipe for study in studies) else ""
    lines = [
        f"# {title}",
        "",
        f"Made by `python scripts/study.py {name}{images}`; every run is a row of "
        + ", ".join(f"[{study}.csv](data/{study}.csv)" for study in studies if table(study).path.exists())
        + ".",
        "",
        about,
        "",
    ]
    told: list[Found] = []
    sections = []
    for study in studies:
        try:
            told.append(Found(study))
            sections += section(told[-1])
        except ValueError as missing:
            sections += [f"## {STUDIES[study].title}", "", f"Not trained yet: {missing}.", ""]
    if told:
        draw(told, training_table.ROOT / "docs" / "images" / f"study_{name}.png")
        lines += [
            f"![{title}: every seed, the mean and its 95 % interval of each way](../images/study_{name}.png)",
            "",
            "Dots are seeds, bars the means and their 95 % intervals; blue: nets that change their size"
            + (
                ", grey: static, the dashed line the best static size."
                if any(one.study.ladder for one in told)
                else "."
            ),
            "",
        ]
    lines += sections
    lines += [
        "Every way has its own rate: where the best of the first ones lies at an end, further ones, by twos, until it does not "
        f"(at most {rates.FURTHER}). Verdicts are those of `grow compare`: paired t-tests and, for equality, two one-sided "
        f"ones, both p-values corrected over each table; δ was fixed before the runs. The seeds begin at {FIRST_SEED}; the test "
        "part is read once, at a run's end. *Grown at*: the part of the FLOPs that were spent at the first event, which "
        "is the first evaluation after the part that was asked for. "
        + (
            f"`{BEST}` is the static size that is best on validation. "
            if any(STUDIES[s].ladder for s in studies)
            else ""
        )
        + "Seconds are of a machine that did other work, too.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__, PLANNED)
    parser.add_argument("page", choices=sorted(PAGES))
    parser.add_argument("--cifar-images", type=Path, help="a copy of CIFAR-10 as train/<class>/*, test/<class>/*")
    parser.add_argument("--data-dir", type=Path, help="where MNIST and CIFAR-10 are")
    options = parser.parse_args()
    where = [] if options.data_dir is None else [f"data_dir={options.data_dir.absolute()}"]
    for name in PAGES[options.page][2]:
        images = (
            []
            if options.cifar_images is None or "dataset=cifar10" not in STUDIES[name].recipe
            else ["dataset=image_folder", f"dataset.path={options.cifar_images.absolute()}"]
        )
        if not options.finished:
            train(name, options.jobs, options.seeds, [*where, *images])
    print(write_page(options.page, page(options.page)))


if __name__ == "__main__":
    main()
