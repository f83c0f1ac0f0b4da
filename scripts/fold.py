"""What one fold does in the plane, over seeds: a page in docs/results.

    python scripts/fold.py --seeds 10 --write

Runs `grow train experiment=fold_sines` and `fold_quadratics` into outputs/fold/<experiment>/<seed> (finished runs are used
again), then reads the run folders.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import pandas as pd
from common import ROOT, train_once, write_page

EXPERIMENTS = ("fold_sines", "fold_quadratics")


def read(experiment: str, seed: int) -> dict[str, Any]:
    """Accuracies when the neuron came and at the end, and how its mistakes fared."""
    run = ROOT / "outputs" / "fold" / experiment / str(seed)
    train_once(run, [f"experiment={experiment}", f"seed={seed}"])
    metrics = pd.read_csv(run / "metrics.csv")
    event = json.loads((run / "growth.jsonl").read_text().splitlines()[0])
    mistake = pd.read_csv(run / "mistakes" / "mistakes.csv").iloc[0]
    before, end = metrics[metrics["step"] == event["step"]].iloc[0], metrics.iloc[-1]
    return {
        "seed": seed,
        "grown at epoch": event["epoch"],
        "train %, before": 100 * before["train_accuracy"],
        "train %, at the end": 100 * end["train_accuracy"],
        "validation %, before": 100 * before["val_accuracy"],
        "validation %, at the end": 100 * end["val_accuracy"],
        "cluster, mistakes before": int(mistake["cluster"]),
        "at the end": int(mistake["cluster_at_end"]),
        "instance right": "yes" if mistake["right_at_end"] else "no",
    }


def tabulate(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row per seed, then the means."""
    frame = pd.DataFrame(rows)
    names = list(frame.columns)
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
    for row in rows:
        lines.append("| " + " | ".join(f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    means = frame.drop(columns=["seed", "instance right"]).mean()
    cells = [f"{means[name]:.1f}" if name in means else "" for name in names]
    better = int((frame["train %, at the end"] > frame["train %, before"]).sum())
    right = int((frame["instance right"] == "yes").sum())
    return [
        *lines,
        "| mean | " + " | ".join(cells[1:-1]) + f" | {right} of {len(rows)} |",
        "",
        f"Training accuracy is up on {better} seeds of {len(rows)}.",
    ]


def main() -> None:
    """Run what is not there yet, print the tables, and write them to their page if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--write", action="store_true", help="write docs/results/fold_planes.md")
    options = parser.parse_args()
    text = ["# One fold in the plane", "", f"`python scripts/fold.py --seeds {options.seeds}`"]
    for experiment in EXPERIMENTS:
        rows = [read(experiment, seed) for seed in range(options.seeds)]
        text += ["", f"## `experiment={experiment}`", "", *tabulate(rows)]
    page = "\n".join(text) + "\n"
    print(page)
    if options.write:
        write_page("fold_planes", page)


if __name__ == "__main__":
    main()
