"""What `grow compare` costs for a thousand folders, and how many seeds its stopping rule needs.

python scripts/bench_compare.py folders [--runs 1000] [--seeds 10] [--datasets 4]    seconds and memory, as a line
python scripts/bench_compare.py stopping [--repetitions 20000]                       the table of docs/compare.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT

from grow_cli.analysis.betting import anytime_pvalues
from grow_cli.analysis.equivalence import t_power
from grow_cli.analysis.verdicts import ALPHA
from grow_cli.commands.compare import NOT_DECIDED

_EVALUATIONS = 40


def write_run(folder: Path, *, dataset: str, label: str, seed: int, accuracy: float, **more: Any) -> Path:
    """A finished run's files as `grow train` writes them, but for checkpoints; `more`: other fields of the summary."""
    (folder / ".hydra").mkdir(parents=True)
    config = {
        "dataset": {"name": dataset, "validation": 0.1, "split_seed": 0},
        "model": {"name": "mlp", "hidden": [4], "activation": "relu"},
        "method": {"name": "tiny"},
        "trigger": {"name": "every", "every": 1},
        "optimizer": {"name": "adam", "lr": 0.01, "weight_decay": 0.0},
        "label": label,
        "seed": seed,
        "run_dir": str(folder),
    }
    (folder / ".hydra" / "config.yaml").write_text(json.dumps(config))
    summary = {
        "status": "finished",
        "dataset": dataset,
        "model": "mlp",
        "method": "tiny",
        "trigger": "every",
        "seed": seed,
        "label": label,
        "control": None,
        "device": "cpu (1 thread)",
        "architecture": {"outputs": 10},
        "widths": "4",
        "test_accuracy": accuracy,
        "val_accuracy": accuracy - 0.01,
        "parameters": 1000,
        "flops_per_sample": 2000,
        "training_flops": 1e9,
        "growth_flops": 0,
        "seconds": 3.0,
        "growth_seconds": 1.0,
        "steps": 10 * _EVALUATIONS,
        "events": 2,
        "undone": 0,
    }
    (folder / "summary.json").write_text(json.dumps(summary | more))
    rows = ["step,epoch,flops,seconds,parameters,val_accuracy"]
    for i in range(1, _EVALUATIONS + 1):
        part = i / _EVALUATIONS
        score = 0.1 + (accuracy - 0.11) * part**0.3
        rows.append(f"{10 * i},{3 * part},{1e9 * part},{3 * part},{1000 if part > 0.5 else 500},{score}")
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    return folder


def fabricate(root: Path, *, runs: int, seeds: int, datasets: int) -> None:
    """So many runs: ways × seeds on each dataset, whose scores share what a seed does to them."""
    rng = np.random.default_rng(0)
    for number in range(runs):
        rest, seed = divmod(number, seeds)
        way, dataset = divmod(rest, datasets)
        shared = np.random.default_rng([dataset, seed]).normal(scale=0.01)
        accuracy = 0.8 + 0.02 * dataset + 0.001 * way + shared + rng.normal(scale=0.002)
        write_run(
            root / f"{number:04}", dataset=f"data{dataset}", label=f"way{way}", seed=seed, accuracy=float(accuracy)
        )


def measure(runs: int, seeds: int, datasets: int, *options: str) -> tuple[float, float]:
    """Processor seconds and GB that `grow compare` takes for them, in a process of its own: what else runs does not count."""
    with tempfile.TemporaryDirectory() as folder:
        fabricate(Path(folder) / "runs", runs=runs, seeds=seeds, datasets=datasets)
        command = [sys.executable, "-m", "grow_cli", "compare", "runs", *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with tempfile.TemporaryFile() as errors:
            child = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            if child.returncode not in (0, NOT_DECIDED):
                raise SystemExit(errors.read().decode())
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9


def fixed_seeds(effect: float, power: float) -> int:
    """The least number of pairs whose t-test finds an effect, in deviations of the differences, with this power."""
    return next(n for n in range(2, 10_000) if t_power(effect, 1.0, n, ALPHA) >= power)


def stopping_times(effect: float, most: int, repetitions: int) -> np.ndarray:
    """(repetitions,) pairs after which an effect, in deviations, was found better seed by seed; `most` + 1: not until then."""
    d = np.random.default_rng(0).normal(effect, 1.0, size=(repetitions, most))
    above, _, _ = anytime_pvalues(d)
    found = above <= ALPHA
    return np.where(found.any(1), found.argmax(1) + 1, most + 1)


def cap_of(effect: float, power: float, repetitions: int) -> int:
    """After how many seeds to give up, so that the power is that of the fixed number."""
    fixed = fixed_seeds(effect, power)
    times = stopping_times(effect, 4 * fixed + 20, repetitions)
    return int(np.quantile(times, t_power(effect, 1.0, fixed, ALPHA), method="inverted_cdf"))


def stopping(repetitions: int) -> str:
    """Fixed number of seeds against the mean number until decided, at equal power for the planned effect."""
    lines = ["| planned effect | power | fixed | gives up after | true effect | seeds on average | saved |"]
    lines.append("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for planned in (0.5, 1.0):
        for power in (0.8, 0.9, 0.95):
            fixed, cap = fixed_seeds(planned, power), cap_of(planned, power, repetitions)
            for times in (0, 1, 1.5, 2, 3):
                mean = float(np.minimum(stopping_times(times * planned, cap, repetitions), cap).mean())
                cells = (f"{planned:g}", f"{power:.0%}", fixed, cap, f"{times * planned:g}", f"{mean:.1f}")
                lines.append(f"| {' | '.join(map(str, cells))} | {1 - mean / fixed:+.0%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("folders", "stopping"))
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--datasets", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=20_000)
    parser.add_argument("options", nargs="*", help="of grow compare, after --")
    options = parser.parse_args()
    if options.what == "stopping":
        print(stopping(options.repetitions))
        return
    seconds, memory = measure(options.runs, options.seeds, options.datasets, *options.options)
    print(
        f"{options.runs} folders, {options.seeds} seeds, {options.datasets} datasets: {seconds:.1f} s, {memory:.2f} GB"
    )


if __name__ == "__main__":
    main()
