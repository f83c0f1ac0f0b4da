"""A growth method against its comparators with the same recipe: a table in docs/results.

    python scripts/baselines.py depth_digits --seeds 10
    python scripts/baselines.py depth_mnist --data-dir ../shared/data
    python scripts/baselines.py width_mnist --data-dir ../shared/data --seeds 5
    python scripts/baselines.py width_mnist_annealed --data-dir ../shared/data --seeds 5
    python scripts/baselines.py fold_mnist_50 --data-dir ../shared/data --seeds 5

Runs `grow train` into outputs/baselines/<comparison>/<way>/<seed> (finished runs are used again, interrupted ones
resumed), then tabulates the run folders: what the nets reached, what the growth did at the events, and what it cost.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from common import ROOT, train_once, write_page
from scipy import stats


@dataclass(frozen=True)
class Comparison:
    """Ways to come to a net, the first of which the others are tested against."""

    title: str
    recipe: list[str]
    """Overrides of every run."""
    ways: dict[str, list[str]]
    note: str = ""
    paper: dict[str, str] = field(default_factory=dict)
    """Way → the paper's test accuracy, %."""


_DEPTH = {
    "alether": ["method=alether"],
    "copy": ["method=copy"],
    "random": ["method=random"],
    "static, initial size": ["method=static"],
    "static, final size": ["method=static", "model.hidden=[64,64,64,64]"],
}
_DEPTH_NOTE = (
    "The static nets are trained for the same epochs; the grown ones have their warm-ups besides, which count in FLOPs "
    "and seconds."
)
_WIDTH = {
    "tiny": ["method=tiny", "method.significance=false"],
    "tiny without best updates": ["method=tiny", "method.significance=false", "method.best_update=false"],
    "gradmax": ["method=gradmax"],
    "random": ["method=random_width"],
    "net2net": ["method=net2net"],
}


def _fold(hidden: int, epochs: int) -> dict[str, list[str]]:
    """Grown to so many hidden units, and the static nets of that size: for as many epochs, and for the best short training."""
    static = ["method=static", f"model.hidden=[{hidden}]", "evaluate.every=1"]
    return {
        "fold": [f"growth.max_units=[{hidden}]"],
        "static, as many epochs": static,
        f"static, {epochs} epochs": [*static, f"stop.epochs={epochs}"],
    }


_FOLD_NOTE = (
    "All have the recipe of `conf/experiment`, which was tuned on the validation split: AdamW, one cycle, which begins anew "
    "after each growth."
)
# clustering 3,072 numbers is what an event costs
_FEW_MISTAKES = ["method.max_mistakes=600", "method.max_clusters=5"]
COMPARISONS = {
    "depth_digits": Comparison("Depth growth on the digits", [], _DEPTH, _DEPTH_NOTE),
    "depth_mnist": Comparison("Depth growth on MNIST", ["experiment=alether_mnist"], _DEPTH, _DEPTH_NOTE),
    "width_mnist": Comparison(
        "Width growth on MNIST from [1, 1] to [110, 51], the paper's training",
        ["experiment=tiny_mnist_paper"],
        _WIDTH,
        "Equal schedule, equal limits at every event (a method adds as many units as it finds), equal final widths; 4 epochs at "
        "a constant small rate. TINY's GFLOPs hold 8 for the second moments of the raw inputs, computed once.",
    ),
    "width_mnist_annealed": Comparison(
        "Width growth on MNIST from [1, 1] to [110, 51], trained to the end",
        ["experiment=tiny_mnist"],
        _WIDTH | {"static, final size": ["method=static", "model.hidden=[110,51]"]},
        "The recipe with which the static net is at its best: dropout, L2, one cycle over 25 epochs. The static net is trained "
        "for as many epochs.",
    ),
    "resnet18": Comparison(
        "ResNet-18 from Table 1's widths, five units at a time at the block where they are worth most (TINY, E.3)",
        [],
        {method: [f"experiment={method}_cifar100_resnet18"] for method in ("tiny", "gradmax")},
        "2,300 steps, an event every tenth of an epoch. The paper's measure of size is what the net costs for one sample. On "
        "CIFAR-100, unless the command says that images of CIFAR-10 were read (a copy as JPEG).",
    ),
    "fold_mnist_50": Comparison(
        "Fold on MNIST, 10 to 50 hidden units",
        ["experiment=fold_mnist"],
        _fold(50, 25),
        _FOLD_NOTE,
        {"fold": "97.79 ± 0.14", "static, as many epochs": "97.65 ± 0.12"},
    ),
    "fold_mnist_100": Comparison(
        "Fold on MNIST, 10 to 100 hidden units",
        ["experiment=fold_mnist", "stop.epochs=180", "growth.until=0.8", "evaluate.every=0.05"],
        _fold(100, 25),
        _FOLD_NOTE,
        {"fold": "97.79 ± 0.14", "static, as many epochs": "97.78 ± 0.12"},
    ),
    "fold_cifar10": Comparison(
        "Fold on CIFAR-10, 10 to 70 hidden units",
        ["experiment=fold_cifar10"],
        _fold(70, 15) | {"fold": ["growth.max_units=[70]", *_FEW_MISTAKES]},
        _FOLD_NOTE,
        {"fold": "50.47 ± 0.60", "static, as many epochs": "50.41 ± 0.60"},
    ),
    "fold_cifar10_100": Comparison(
        "Fold on CIFAR-10, 10 to 100 hidden units",
        ["experiment=fold_cifar10"],
        _fold(100, 15) | {"fold": ["growth.max_units=[100]", "evaluate.every=0.015", *_FEW_MISTAKES]},
        _FOLD_NOTE,
        {"fold": "50.53 ± 0.60", "static, as many epochs": "50.95 ± 0.61"},
    ),
}


def _folder(comparison: str, way: str, seed: int) -> Path:
    return ROOT / "outputs" / "baselines" / comparison / way.replace(", ", "-").replace(" ", "_") / str(seed)


def train(name: str, seeds: int, more: list[str], jobs: int) -> None:
    """Every way with every seed that is not there yet, so many at a time."""
    comparison = COMPARISONS[name]
    runs = [
        (_folder(name, way, seed), [*comparison.recipe, *overrides, *more, f"seed={seed}"])
        for seed in range(seeds)
        for way, overrides in comparison.ways.items()
    ]
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(train_once, *zip(*runs, strict=True)):  # when one fails, those not begun are dropped
            pass


def read(name: str, seeds: int) -> pd.DataFrame:
    """A row per run."""
    rows: list[dict[str, Any]] = []
    for way in COMPARISONS[name].ways:
        for seed in range(seeds):
            run = _folder(name, way, seed)
            summary = json.loads((run / "summary.json").read_text())
            log = run / "growth.jsonl"
            events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
            grown = [e for e in events if e["units_added"]]
            rows.append(
                {
                    "way": way,
                    "seed": seed,
                    "widths": summary["widths"],
                    "test": 100 * summary["test_accuracy"],
                    "train": 100 * summary["train_accuracy"],
                    "parameters": summary["parameters"],
                    "MFLOPs/sample": summary["flops_per_sample"] / 1e6,
                    "events": summary["events"],
                    "GFLOPs": summary["training_flops"] / 1e9,
                    "seconds": summary["seconds"],
                    "growing": summary["growth_seconds"],
                    "change of f": pd.Series([100 * e["function_change_relative"] for e in grown]).mean(),
                    "loss jump": pd.Series([e["loss_after"] - e["loss_before"] for e in grown]).mean(),
                    "settled": pd.Series([e["loss_settled"] - e["loss_before"] for e in grown]).mean(),
                    "corrected": summary.get("mistakes_corrected", float("nan")),
                }
            )
    return pd.DataFrame(rows)


COLUMNS = [
    ("parameters", "{:,.0f}"), ("MFLOPs/sample", "{:.2f}"), ("events", "{:.1f}"),
    ("GFLOPs", "{:.0f}"), ("seconds", "{:.1f}"), ("growing", "{:.1f}"),
    ("change of f", "{:.0f}"), ("loss jump", "{:+.3f}"), ("settled", "{:+.3f}"), ("corrected", "{:.0%}"),
]  # fmt: skip


def tabulate(runs: pd.DataFrame, name: str, seeds: int, command: str) -> str:
    """Markdown: mean ± standard deviation over the seeds, and paired tests against the first way."""
    comparison = COMPARISONS[name]
    first, *_ = comparison.ways
    reference = runs[runs["way"] == first].sort_values("seed")["test"].to_numpy()
    columns = [(column, form) for column, form in COLUMNS if runs[column].notna().any()]
    lines = [
        f"# {comparison.title}: {seeds} seed{'s' * (seeds > 1)}, one recipe",
        "",
        f"Made by `{command}`. Mean ± standard deviation over the seeds; p: two-sided t-test of the test accuracy against",
        f"{first}, paired by seed, and Welch's, unpaired. GFLOPs and seconds are of the whole run, growing included (`growing`:",
        "seconds of it). Change of f: root of E‖f_new − f_old‖² / E‖f_old‖² at the growth events; loss jump: of a fixed batch,",
        "just after the event against before; settled: after the new block's own warm-up, where the method has one.",
        *["corrected: instances that a neuron was grown for about which the net is right at the end."]
        * ("corrected" in dict(columns)),
        *([comparison.note] if comparison.note else []),
        "",
        "| | test accuracy, % | "
        + "the paper, % | " * bool(comparison.paper)
        + "p | Welch's p | train, % | widths | "
        + " | ".join(column for column, _ in columns)
        + " |",
        "| --- " * (len(columns) + 6 + bool(comparison.paper)) + "|",
    ]
    for way in comparison.ways:
        mine = runs[runs["way"] == way].sort_values("seed")
        same = way == first or (mine["test"].to_numpy() == reference).all()
        paired, welch = "", ""
        if not same and seeds > 1:
            paired = f"{stats.ttest_rel(mine['test'].to_numpy(), reference).pvalue:.3f}"
            welch = f"{stats.ttest_ind(mine['test'].to_numpy(), reference, equal_var=False).pvalue:.3f}"
        widths = mine["widths"].unique()
        cells = [
            way,
            f"{mine['test'].mean():.2f}" + (f" ± {mine['test'].std():.2f}" if seeds > 1 else ""),
            *([comparison.paper.get(way, "")] if comparison.paper else []),
            paired,
            welch,
            f"{mine['train'].mean():.2f}",
        ]
        cells += [widths[0] if len(widths) == 1 else f"{min(widths)} to {max(widths)}"]
        cells += [form.format(mine[c].mean()) if mine[c].notna().any() else "" for c, form in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", choices=sorted(COMPARISONS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, of one thread each")
    parser.add_argument("--cifar-images", type=Path, help="a copy of CIFAR-10 as train/<class>/*, test/<class>/*")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE of every run, say device=cuda")
    options = parser.parse_intermixed_args()
    where = [f"data_dir={options.data_dir.absolute()}"] if options.data_dir else []
    if images := options.cifar_images:
        where += ["dataset=image_folder", f"dataset.path={images.absolute()}"]
    train(options.comparison, options.seeds, [*where, *options.overrides], options.jobs)
    words = ["python scripts/baselines.py", options.comparison, f"--seeds {options.seeds}", *options.overrides]
    words += ["--cifar-images DIR"] * bool(images)
    text = tabulate(read(options.comparison, options.seeds), options.comparison, options.seeds, " ".join(words))
    write_page(options.comparison, text)
    print(text)


if __name__ == "__main__":
    main()
