"""TINY's Figures 5, 6 and 11 to 13 on MNIST (preprint; Figures 11 to 13 of the appendix): docs/results/paper_tiny.md.

    python scripts/tiny.py --data-dir ../shared/data

From hidden widths [1, 1] to [110, 51] with SELU and Adam at 1e-4, beside random units, the static net of the final widths and
one of [1000, 1000], all for the same seconds. Runs lie in outputs/paper_tiny (finished ones are used again).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import ROOT, train_once, write_page
from matplotlib.figure import Figure

from grow_cli.analysis.comparing import mean_curve
from grow_cli.analysis.statistics import paired

WAYS = {
    "TINY, [1, 1] to [110, 51]": ["method=tiny", "method.significance=false"],
    "random units, [1, 1] to [110, 51]": ["method=random_width"],
    "static [110, 51]": ["method=static", "model.hidden=[110,51]"],
    "static [1000, 1000]": ["method=static", "model.hidden=[1000,1000]"],
}
MARKS = (0.5, 1, 2, 5, 10, 15)
SITES = ("hidden 1", "hidden 2")


def folder(way: str, seed: int) -> Path:
    """Where a run is."""
    name = "".join(c if c.isalnum() else "_" for c in way)
    return ROOT / "outputs" / "paper_tiny" / name / str(seed)


def spectra(run: Path) -> list[dict[str, float]]:
    """For each growth and site: the mean of λ² and the largest λ of the neurons that were found."""
    rows = []
    events = [json.loads(line) for line in (run / "growth.jsonl").read_text().splitlines()]
    for number, event in enumerate((e for e in events if e["units_added"]), start=1):
        for proposal in event["details"]["proposals"]:
            found = np.array(proposal["eigenvalues"])
            if len(found):
                row = {
                    "growth": number,
                    "site": proposal["site"],
                    "mean": float((found**2).mean()),
                    "max": float(found.max()),
                }
                rows.append(row)
    return rows


def curves(runs: list[Path], column: str) -> list[tuple[list[float], list[float]]]:
    """Validation accuracy against a column, as steps."""
    read = [pd.read_csv(run / "metrics.csv") for run in runs]
    return [([0.0, *m[column]], [0.1, *m["val_accuracy"]]) for m in read]


def draw(seeds: int, seconds: float, output: Path) -> None:
    """Figures 5, 6 and 13: accuracy against time and against epochs, mean ± standard deviation."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2, sharey=True), ("seconds", "epoch"), strict=True):
        for number, way in enumerate(WAYS):
            found = curves([folder(way, s) for s in range(seeds)], column)
            grid = np.linspace(0, min(xs[-1] for xs, _ in found), 300)
            mean, squares = mean_curve(found, grid), mean_curve([(x, [v * v for v in y]) for x, y in found], grid)
            spread = np.sqrt(np.maximum(squares - mean**2, 0))
            axes.plot(grid, 100 * mean, color=f"C{number}", label=way)
            axes.fill_between(grid, 100 * (mean - spread), 100 * (mean + spread), color=f"C{number}", alpha=0.2, lw=0)
        axes.set_xlabel(f"{column if column == 'seconds' else 'epochs'}, growing included")
        axes.set_ylim(80, 100)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("validation accuracy, %")
    figure.axes[0].legend(frameon=False, loc="lower right", fontsize=8)
    figure.savefig(output, dpi=110)


def draw_spectra(rows: pd.DataFrame, output: Path) -> None:
    """Figures 11 and 12 of the preprint."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, (column, label) in zip(
        figure.subplots(1, 2),
        (("mean", r"$\frac{1}{K}\sum_k \lambda_k^2$"), ("max", r"$\max_k \lambda_k$")),
        strict=True,
    ):
        for number, site in enumerate(SITES):
            of = rows[rows["site"] == site].groupby("growth")[column].agg(["mean", "std"])
            axes.errorbar(of.index, of["mean"], of["std"], color=f"C{number}", marker="o", capsize=3, label=site)
        axes.set_yscale("log")
        axes.set_xlabel("growth")
        axes.set_ylabel(label)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=110)


def tabulate(seeds: int, seconds: float, command: str) -> str:
    """Markdown: accuracy after so many seconds, epochs trained, and the test accuracy at the end."""
    marks = [m for m in MARKS if m <= seconds]
    lines = [
        f"# TINY on MNIST as in the preprint's Figures 5, 6 and 11 to 13: {seeds} seeds, {seconds:g} seconds each",
        "",
        f"Made by `{command}`. One CPU thread, SELU, Adam at 1e-4 throughout, minibatches of 100, growth every 0.1 epochs.",
        "Mean ± standard deviation over the seeds; p: two-sided t-test of the test accuracy against TINY, paired by seed.",
        "",
        "| validation accuracy, % after | "
        + " | ".join(f"{m:g} s" for m in marks)
        + " | epochs | parameters | test at the end, % | p |",
        "| --- " + "| ---: " * (len(marks) + 4) + "|",
    ]
    reference: dict[int, float] = {}
    for way in WAYS:
        runs = [folder(way, s) for s in range(seeds)]
        summaries: list[dict[str, Any]] = [json.loads((run / "summary.json").read_text()) for run in runs]
        test = {s["seed"]: 100 * s["test_accuracy"] for s in summaries}
        found = curves(runs, "seconds")
        at = [np.array([mean_curve([curve], np.array([m]))[0] for curve in found]) * 100 for m in marks]
        result = paired(test, reference) if reference else None
        reference = reference or test
        values = np.array(list(test.values()))
        cells = [way, *(f"{a.mean():.1f} ± {a.std(ddof=1):.1f}" for a in at)]
        cells += [
            f"{np.mean([s['epochs'] for s in summaries]):.1f}",
            f"{np.mean([s['parameters'] for s in summaries]):,.0f}",
        ]
        cells += [f"{values.mean():.2f} ± {values.std(ddof=1):.2f}", "" if result is None else f"{result.t_pvalue:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--data-dir", type=Path, default=None)
    options = parser.parse_args()
    recipe = ["experiment=tiny_mnist_paper", "stop.epochs=null", f"stop.seconds={options.seconds}", "threads=1"]
    recipe += [f"data_dir={options.data_dir.absolute()}"] if options.data_dir else []
    for seed in range(options.seeds):
        for way, overrides in WAYS.items():
            train_once(folder(way, seed), [*recipe, *overrides, f"seed={seed}"])
    first, *_ = WAYS
    rows = pd.DataFrame([row for s in range(options.seeds) for row in spectra(folder(first, s))])
    command = f"python scripts/tiny.py --seeds {options.seeds} --seconds {options.seconds:g}"
    text = tabulate(options.seeds, options.seconds, command)
    table = rows.groupby(["growth", "site"])[["mean", "max"]].mean().unstack("site")
    text += "\n| growth | " + " | ".join(f"{what}, {site}" for what in ("mean λ²", "max λ") for site in SITES) + " |\n"
    text += "| --- " + "| ---: " * 4 + "|\n"
    for growth, row in table.iterrows():
        text += f"| {growth} | " + " | ".join(f"{row[(c, s)]:.2e}" for c in ("mean", "max") for s in SITES) + " |\n"
    text += "\n![accuracy against seconds and epochs](../images/paper_tiny.png)\n\n![spectra](../images/paper_tiny_spectra.png)\n"
    images = ROOT / "docs" / "images"
    draw(options.seeds, options.seconds, images / "paper_tiny.png")
    draw_spectra(rows, images / "paper_tiny_spectra.png")
    write_page("paper_tiny", text)
    print(text)


if __name__ == "__main__":
    main()
