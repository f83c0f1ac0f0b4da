"""What SENN's experiments come to, over seeds: a page in docs/results.

    python scripts/senn.py moons curve mnist subsets --seeds 5 --data-dir ../shared/data --write

Runs `grow train experiment=senn_...` into outputs/senn/<experiment>/<case>/<seed> (finished runs are used again), then reads
the run folders.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import pandas as pd
from common import ROOT, train_once, write_page
from scipy import stats

SUBSETS = ("0.02", "0.05", "0.15", "0.4", "1.0")
IMAGES = 54_000
"""Of the whole training split."""
EQUAL = {round(IMAGES * float(SUBSETS[first])): SUBSETS[first:] for first in (0, 2)}
"""As many samples for an event of each of these parts: all that the first of them has. Without, a larger part brings more
samples, too."""
CASES: dict[str, dict[str, list[str]]] = {
    "moons": {"all": []},
    "curve": {"all": []},
    "mnist": {"all": []},
    "subsets": {part: [f"subset={part}"] for part in SUBSETS}
    | {
        f"{part}-{n}": [f"subset={part}", f"method.samples={n * 4 // 5}", f"method.held_out={n // 5}"]
        for n, parts in EQUAL.items()
        for part in parts[1:]  # an event of the first looks at all that there is, without these words, too
    },
}
NAMES = {"moons": "senn_moons", "curve": "senn_curve", "mnist": "senn_mnist", "subsets": "senn_mnist_subsets"}


def _folder(experiment: str, case: str, seed: int) -> Path:
    return ROOT / "outputs" / "senn" / experiment / case / str(seed)


def train(experiment: str, case: str, seed: int, more: list[str]) -> None:
    """One run, unless it is there."""
    overrides = [f"experiment={NAMES[experiment]}", *CASES[experiment][case], *more, f"seed={seed}"]
    train_once(_folder(experiment, case, seed), overrides)


def read(experiment: str, case: str, seed: int) -> dict[str, Any]:
    """What a run came to."""
    run = _folder(experiment, case, seed)
    summary = json.loads((run / "summary.json").read_text())
    events = [json.loads(line) for line in (run / "growth.jsonl").read_text().splitlines()]
    grown = [e for e in events if e["units_added"]]
    widths = [int(w) for w in summary["widths"].split("-")]
    row = {
        "seed": seed,
        "widths": summary["widths"],
        "units": sum(widths),
        "layers": len(widths),
        "seconds": summary["seconds"],
        "growing": summary["growth_seconds"],
        "largest change of f": max((e["function_change_relative"] for e in grown), default=0.0),
    }
    if "val_accuracy" in summary:
        row |= {f"{split} %": 100 * summary[f"{split}_accuracy"] for split in ("train", "val", "test")}
        drops = [100 * (e["accuracy_before"] - e["accuracy_after"]) for e in grown]
        row["largest drop at an event"] = max(drops, default=0.0)
    else:
        row |= {"train loss": summary["train_loss"], "distance from the curve": _distance(run)}
    return row


def _distance(run: Path) -> float:
    """Root mean square of f − the true curve on the training points: the data drawn again without noise."""
    command = [sys.executable, "-m", "grow_cli", "eval", str(run), "--json", "dataset.noise=0"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(answer)["train_loss"]) ** 0.5


def tabulate(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row per seed, then the means."""
    frame = pd.DataFrame(rows)
    columns = list(frame.columns)
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    for row in rows:
        lines.append("| " + " | ".join(_cell(name, row[name]) for name in columns) + " |")
    means = frame.drop(columns=["seed", "widths"]).mean()
    spread = frame.drop(columns=["seed", "widths"]).std()
    cells = [f"{_cell(name, means[name])} ± {_cell(name, spread[name])}" if name in means else "" for name in columns]
    return [*lines, "| mean ± s.d. | " + " | ".join(cells[1:]) + " |"]


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str) or name in ("seed",):
        return str(value)
    if name == "largest change of f":
        return f"{value:.1e}"
    if name in ("train loss", "distance from the curve"):
        return f"{value:.4f}"
    return f"{value:.2f}" if "%" in name or "drop" in name else f"{value:.1f}".removesuffix(".0")


def by_size(seeds: int) -> list[str]:
    """Markdown: final width against the part of MNIST, and the same with as many samples an event for every part."""
    lines = [
        "| part | training images | samples at an event | hidden units | test accuracy, % |",
        "| --- | --- | --- | --- | --- |",
    ]
    ranks = []
    for samples, parts in [(0, SUBSETS), *EQUAL.items()]:
        widths, sizes = [], []
        for part in parts:
            case = part if not samples or part == parts[0] else f"{part}-{samples}"
            rows = pd.DataFrame([read("subsets", case, seed) for seed in range(seeds)])
            images = round(IMAGES * float(part))
            looked, name = (samples, f"{part}, equal") if samples else (min(images, 20_480), part)
            measured = f"{_mean(rows['units'], '.1f')} | {_mean(rows['test %'], '.2f')}"
            lines.append(f"| {name} | {images:,} | {looked:,} | {measured} |")
            widths += list(rows["units"])
            sizes += [float(part)] * seeds
        rho = stats.spearmanr(sizes, widths)
        ranks.append(
            f"{f'{samples:,} for every part' if samples else 'up to 20,480'} {rho.statistic:.2f} (p = {rho.pvalue:.1g})"
        )
    return [
        *lines,
        "",
        "Samples at an event are those on which units are optimised (four fifths) and judged: 16,384 and 4,096 as far as there "
        "are as many, or, *equal*, all that the smallest part of those rows has (whose runs are the same). "
        f"± is the standard error. Spearman's ρ of width and size, by samples at an event: {', '.join(ranks)}.",
    ]


def _mean(values: pd.Series, form: str) -> str:
    return f"{values.mean():{form}} ± {values.std() / len(values) ** 0.5:{form}}"


def main() -> None:
    """Run what is not there yet, print the tables, and write each to its page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="+", choices=[*CASES])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--data-dir", help="passed on as data_dir=")
    parser.add_argument("--write", action="store_true", help="write docs/results/senn_<experiment>.md")
    options = parser.parse_args()
    more = [f"data_dir={Path(options.data_dir).resolve()}"] if options.data_dir else []
    runs = [(name, case, seed) for name in options.experiments for seed in range(options.seeds) for case in CASES[name]]
    with ThreadPoolExecutor(options.jobs) as pool:
        for _ in pool.map(train, *zip(*runs, strict=True), repeat(more)):  # when one fails, those not begun are dropped
            pass
    for experiment in options.experiments:
        table = (
            by_size(options.seeds)
            if experiment == "subsets"
            else tabulate([read(experiment, "all", seed) for seed in range(options.seeds)])
        )
        text = [
            f"# `experiment={NAMES[experiment]}`",
            "",
            f"`python scripts/senn.py {experiment} --seeds {options.seeds}`",
            "",
            *table,
        ]
        print("\n".join(text), flush=True)
        if options.write:
            write_page(f"senn_{experiment}", "\n".join(text))


if __name__ == "__main__":
    main()
