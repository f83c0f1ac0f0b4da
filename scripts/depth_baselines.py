"""Alether against copying, fresh initialization and no growth, with the same recipe: a table in docs/results.

    python scripts/depth_baselines.py digits --seeds 10
    python scripts/depth_baselines.py mnist --seeds 5 --data-dir ../shared/data

Runs `grow train -m` into outputs/depth_baselines/<dataset> (finished runs are used again), then tabulates the run
folders: what the grown nets reached, what the growth did at the event, and what it cost. The static nets are trained for
the same epochs: one of the initial size, one of the final size. The grown ones have their warm-ups besides, which count
in FLOPs and seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

ROOT = Path(__file__).resolve().parent.parent
RECIPES = {
    "digits": [],
    "mnist": ["experiment=alether_mnist"],
}
WAYS = {
    "alether": ["method=alether"],
    "copy": ["method=copy"],
    "random": ["method=random"],
    "static, initial size": ["method=static"],
    "static, final size": ["method=static", "model.hidden=[64,64,64,64]"],
}


def train(dataset: str, seeds: int, data_dir: Path | None, folder: Path) -> None:
    """Every way with every seed that is not there yet."""
    for way, overrides in WAYS.items():
        for seed in range(seeds):
            run = folder / way.replace(", ", "-").replace(" ", "_") / str(seed)
            if (run / "summary.json").exists():
                status = json.loads((run / "summary.json").read_text())["status"]
                if status == "finished":
                    continue
                raise SystemExit(f"{run} is {status}: remove it, or go on with `grow resume {run}`")
            where = [f"data_dir={data_dir}"] if data_dir else []
            command = [*RECIPES[dataset], *overrides, *where, f"seed={seed}", f"run_dir={run}", "progress=off"]
            subprocess.run([sys.executable, "-m", "grow_cli", "train", *command], check=True, stdout=subprocess.DEVNULL)
            print(way, seed, flush=True)


def read(folder: Path, seeds: int) -> pd.DataFrame:
    """A row per run."""
    rows: list[dict[str, Any]] = []
    for way in WAYS:
        for seed in range(seeds):
            run = folder / way.replace(", ", "-").replace(" ", "_") / str(seed)
            summary = json.loads((run / "summary.json").read_text())
            log = run / "growth.jsonl"
            events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
            grown = [e for e in events if e["units_added"]]
            rows.append(
                {
                    "way": way,
                    "seed": seed,
                    "test": 100 * summary["test_accuracy"],
                    "parameters": summary["parameters"],
                    "events": summary["events"],
                    "GFLOPs": summary["training_flops"] / 1e9,
                    "seconds": summary["seconds"],
                    "change of f": pd.Series([100 * e["function_change_relative"] for e in grown]).mean(),
                    "loss jump": pd.Series([e["loss_after"] - e["loss_before"] for e in grown]).mean(),
                    "after warm-up": pd.Series([e["loss_settled"] - e["loss_before"] for e in grown]).mean(),
                }
            )
    return pd.DataFrame(rows)


def tabulate(runs: pd.DataFrame, dataset: str, seeds: int, command: str) -> str:
    """Markdown: mean ± standard deviation over the seeds, and paired tests against alether."""
    reference = runs[runs["way"] == "alether"].sort_values("seed")["test"].to_numpy()
    lines = [
        f"# Depth growth on {dataset}: {seeds} seeds, one recipe",
        "",
        f"Made by `{command}`. Mean ± standard deviation over the seeds; p: paired t-test of the test accuracy against alether.",
        "Change of f: root of E‖f_new − f_old‖² / E‖f_old‖² when the block is inserted; the loss is of a fixed batch, against",
        "the moment before the event.",
        "",
        "| | test accuracy, % | p | parameters | events | GFLOPs | seconds | change of f, % | loss jump | after warm-up |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for way in WAYS:
        mine = runs[runs["way"] == way].sort_values("seed")
        same = way == "alether" or (mine["test"].to_numpy() == reference).all()
        p = "" if same else f"{stats.ttest_rel(mine['test'].to_numpy(), reference).pvalue:.2f}"
        cells = [way, f"{mine['test'].mean():.2f} ± {mine['test'].std():.2f}", p, f"{mine['parameters'].mean():,.0f}"]
        cells += [f"{mine[name].mean():.1f}" for name in ("events", "GFLOPs", "seconds")]
        grown = mine["change of f"].notna().any()
        cells += [f"{mine['change of f'].mean():.0f}" if grown else ""]
        cells += [f"{mine[name].mean():+.3f}" if grown else "" for name in ("loss jump", "after warm-up")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=sorted(RECIPES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data-dir", type=Path, default=None)
    options = parser.parse_args()
    folder = ROOT / "outputs" / "depth_baselines" / options.dataset
    train(options.dataset, options.seeds, options.data_dir and options.data_dir.absolute(), folder)
    command = f"python scripts/depth_baselines.py {options.dataset} --seeds {options.seeds}"
    text = tabulate(read(folder, options.seeds), options.dataset, options.seeds, command)
    (ROOT / "docs" / "results" / f"depth_{options.dataset}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
