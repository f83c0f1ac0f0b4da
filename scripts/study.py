"""Studies of a few ways at one budget: each tuned alike, ten seeds, the verdicts of `grow compare`.

    python scripts/study.py scarce --jobs 2 data_dir=DIR --cifar-images DIR
    python scripts/study.py scarce --finished

Finished runs are rows of docs/results/data/<name>.csv and are not trained again; the second command trains nothing and
writes docs/results/<page>.md of those seeds that are complete. What is trained: scripts/studies.py.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from common import write_page
from numpy.typing import NDArray
from scipy import stats
from studies import BEST, FIRST_SEED, PAGES, STUDIES, TUNING_SEED, Study
from training_table import Table

from grow_cli.analysis.equivalence import findable, tost
from grow_cli.analysis.verdicts import corrected, word

Values = NDArray[np.float64]
LEVEL = 0.05


def table(name: str) -> Table:
    """Where its runs are."""
    return Table(name, ("way", "rate", "seed"), STUDIES[name].score)


def overrides(study: Study, way: str, rate: str, seed: int, more: Sequence[str]) -> list[str]:
    """The words of a run."""
    return [*study.recipe, *study.ways[way], *more, f"optimizer.lr={rate}", f"seed={seed}"]


def train(name: str, jobs: int, seeds: int, more: Sequence[str]) -> None:
    """The search for each way's rate, then its seeds."""
    study, runs = STUDIES[name], table(name)
    tried: dict[tuple[str, ...], list[str]] = {
        (way, rate, str(TUNING_SEED)): overrides(study, way, rate, TUNING_SEED, more)
        for way in study.ways
        for rate in study.rates
    }
    runs.train(tried, jobs)
    best = rates(study, runs)
    wanted = range(FIRST_SEED, FIRST_SEED + seeds)
    runs.train(
        {
            (way, best[way], str(seed)): overrides(study, way, best[way], seed, more)
            for seed in wanted
            for way in study.ways
        },
        jobs,
    )


def rates(study: Study, runs: Table) -> dict[str, str]:
    """Way → the rate with the best validation score on the tuning seed."""
    rows = runs.rows()

    def score(way: str, rate: str) -> float:
        return study.sign * float(rows[way, rate, str(TUNING_SEED)][f"val_{study.score}"])

    return {way: max(study.rates, key=lambda rate: score(way, rate)) for way in study.ways}


@dataclass
class Found:
    """The numbers of a study, of the seeds of which every way was trained."""

    study: Study
    runs: Table
    best: dict[str, str] = field(init=False)
    """Way → rate."""
    seeds: list[str] = field(init=False)

    def __post_init__(self) -> None:
        rows = self.runs.rows()
        self.best = rates(self.study, self.runs)
        trained = {seed for *_, seed in rows if int(seed) >= FIRST_SEED}
        complete = [seed for seed in trained if all((way, rate, seed) in rows for way, rate in self.best.items())]
        self.seeds = sorted(complete, key=int)

    def of(self, way: str, column: str) -> Values:
        """(seeds,): a column of a way's rows; `static-best` is the static size that is best on validation."""
        way = self.chosen() if way == BEST else way
        rows = self.runs.rows()
        return np.array([float(rows[way, self.best[way], seed][column]) for seed in self.seeds])

    def chosen(self) -> str:
        """The static size with the best mean validation score."""
        column = f"val_{self.study.score}"
        return max(self.study.ladder, key=lambda way: self.study.sign * float(self.of(way, column).mean()))

    def test(self, way: str) -> Values:
        """(seeds,): in points, or in nats."""
        return self.study.unit * self.of(way, f"test_{self.study.score}")


def verdicts(found: Found) -> list[str]:
    """A row for each pair of the study."""
    study = found.study
    rows = {(a, b): found.test(a) - found.test(b) for a, b in study.pairs}
    asked = {pair: d for pair, d in rows.items() if np.ptp(d) > 0}
    answers = dict(
        zip(
            asked,
            corrected([(float(stats.ttest_1samp(d, 0).pvalue), tost(d, study.within)) for d in asked.values()]),
            strict=True,
        )
    )
    lines = []
    for (first, second), d in rows.items():
        if (first, second) not in answers:
            lines.append(f"| {first} − {second} | no spread | {d.mean():+.3g} | | |")
            continue
        differs, equal = answers[first, second]
        half = stats.t.ppf(1 - LEVEL / 2, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d))
        verdict = word(study.sign * float(d.mean()) > 0, differs, equal, f"{study.within:g} {study.unit_name}")
        lines.append(
            f"| {first} − {second} | **{verdict}** | {d.mean():{study.signed}} | {d.mean() - half:{study.signed}} to "
            f"{d.mean() + half:{study.signed}} | {differs:.2g} |"
        )
    return lines


def section(found: Found) -> list[str]:
    """What the page says of a study."""
    study, seeds = found.study, found.seeds
    chosen = found.chosen() if study.ladder else ""
    lines = [
        f"## {study.title}, {len(seeds)} seeds",
        "",
        study.note,
        "",
        f"| way | rate | test {study.score_name}, mean ± sd | parameters | training FLOPs | seconds | events |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way, rate in found.best.items():
        test = found.test(way)
        numbers = [found.of(way, column).mean() for column in ("parameters", "training_flops", "seconds", "events")]
        name = f"{way} (`{BEST}`)" if way == chosen else way
        lines.append(
            f"| {name} | {rate} | {test.mean():{study.plain}} ± {test.std(ddof=1):{study.plain}} | {numbers[0]:,.0f} | "
            f"{numbers[1]:.3g} | {numbers[2]:.0f} | {numbers[3]:g} |"
        )
    spread = [float((found.test(a) - found.test(b)).std(ddof=1)) for a, b in study.pairs]
    power = [findable(s, len(seeds), LEVEL / len(spread)) for s in spread if s]
    lines += [
        "",
        f"| first − second | verdict, δ = {study.within:g} {study.unit_name} | Δ | 95 % | p, corrected |",
        "| --- | --- | ---: | ---: | ---: |",
        *verdicts(found),
        "",
        f"These seeds would find {min(power):.2g} to {max(power):.2g} {study.unit_name}.",
        "",
        f"Validation {study.score_name} on seed {TUNING_SEED}, by which each way's rate was chosen:",
        "",
        "| way | " + " | ".join(study.rates) + " |",
        "| --- " + "| ---: " * len(study.rates) + "|",
    ]
    rows = found.runs.rows()
    for way in study.ways:
        tried = [study.unit * float(rows[way, rate, str(TUNING_SEED)][f"val_{study.score}"]) for rate in study.rates]
        lines.append(f"| {way} | " + " | ".join(f"{value:{study.plain}}" for value in tried) + " |")
    flops = {key: float(row["training_flops"]) for key, row in rows.items()}
    searched = sum(value for (*_, seed), value in flops.items() if int(seed) == TUNING_SEED)
    ladder = sum(float(found.of(way, "training_flops").mean()) for way in study.ladder)
    lines += [
        "",
        f"The search for the rates took {searched:.2g} FLOPs, {len(study.rates)} runs of each way."
        + (f" The ladder that `{BEST}` is chosen from costs {ladder:.2g} a seed." if ladder else ""),
        "",
    ]
    return lines


def page(name: str) -> str:
    """docs/results/<name>.md."""
    title, about, studies = PAGES[name]
    lines = [
        f"# {title}",
        "",
        f"Made by `python scripts/study.py {name}`; every run is a row of "
        + ", ".join(f"[{study}.csv](data/{study}.csv)" for study in studies)
        + ".",
        "",
        about,
        "",
    ]
    for study in studies:
        lines += section(Found(STUDIES[study], table(study)))
    lines += [
        "Every way has its own rate. Verdicts are those of `grow compare`: paired t-tests and, for equality, two one-sided "
        f"ones, corrected over each table; δ was fixed before the runs. The seeds begin at {FIRST_SEED}; the test part is read "
        f"once, at a run's end. `{BEST}` is the static size that is best on validation. Seconds are of a machine that did other "
        "work, too.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", choices=sorted(PAGES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--finished", action="store_true", help="train nothing")
    parser.add_argument("--cifar-images", type=Path, help="a copy of CIFAR-10 as train/<class>/*, test/<class>/*")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE of every run, say data_dir=DIR")
    options = parser.parse_intermixed_args()
    for name in PAGES[options.page][2]:
        images = (
            []
            if options.cifar_images is None or "dataset=cifar10" not in STUDIES[name].recipe
            else ["dataset=image_folder", f"dataset.path={options.cifar_images.absolute()}"]
        )
        if not options.finished:
            train(name, options.jobs, options.seeds, [*options.overrides, *images])
    print(write_page(options.page, page(options.page)))


if __name__ == "__main__":
    main()
