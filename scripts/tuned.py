"""Three learning rates for each way of a benchmark and for the static net it ends with, chosen on one seed by validation.

    python scripts/tuned.py RUN TARGET RATE KIND

is what it starts itself: trains the final net of a finished run from scratch, for as many training FLOPs, at that rate, in
TARGET. KIND `trial` measures no test split; another is what the control is called.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from common import ROOT, environment, train_once

from grow_cli.analysis.numbers import short_number
from grow_cli.controls import control_config, train_beside
from grow_cli.records.folder import RunFolder

FACTORS = (0.5, 1.0, 2.0)
"""Times the recipe's rate."""
SEED = 1000
"""No seed of a comparison: those begin at 0."""
OWN_RATE = "static-tuned"
"""The control `static-flops` at the static net's own rate."""
_TRIAL = "trial"


@dataclass(frozen=True)
class Search:
    """What came of the trials of a way, or of its static net."""

    scores: dict[float, float]
    """Rate → validation accuracy at the end."""
    flops: float
    """Of all trials."""
    seconds: float

    @property
    def best(self) -> float:
        """The rate with the best validation accuracy; of equal ones the smaller."""
        return max(sorted(self.scores), key=lambda rate: self.scores[rate])

    def said(self) -> list[str]:
        """Overrides by which `grow compare` knows of the search."""
        cost = {"trials": len(self.scores), "seeds": 1, "flops": self.flops, "space": "rates"}
        return [f"+tuned.{key}={value}" for key, value in cost.items()]


def search(folder: Path, overrides: list[str], *, fixed: bool) -> tuple[Search, Search | None]:
    """The rates of a way, and if `fixed` those of the net that its best trial ends with; None where that did not grow."""
    train_once(folder / "1", [*overrides, f"seed={SEED}"])
    recipe = float(RunFolder(folder / "1").config()["optimizer"]["lr"])
    rates = {factor: float(f"{factor * recipe:.3g}") for factor in FACTORS}
    for factor, rate in rates.items():
        train_once(folder / f"{factor:g}", [*overrides, f"optimizer.lr={rate}", f"seed={SEED}"])
    grown = _read({rate: folder / f"{factor:g}" for factor, rate in rates.items()})
    chosen = next(folder / f"{factor:g}" for factor, rate in rates.items() if rate == grown.best)
    if not fixed or not _summary(chosen)["events"]:
        return grown, None
    for factor, rate in rates.items():
        static(chosen, folder / f"static-{factor:g}", rate, _TRIAL)
    return grown, _read({rate: folder / f"static-{factor:g}" for factor, rate in rates.items()})


def static(run: Path, target: Path, rate: float, kind: str) -> None:
    """Train the final net of a run from scratch at this rate, for the run's FLOPs, in a process of its own."""
    summary = target / "summary.json"
    if summary.exists() and _summary(target)["status"] == "finished":
        return
    command = [sys.executable, __file__, str(run), str(target), str(rate), kind]
    if subprocess.run(command, env=environment(), check=False).returncode:
        raise SystemExit(" ".join(command))
    print(os.path.relpath(target, ROOT), flush=True)


def at_the_edge(searches: dict[str, tuple[Search, Search | None]]) -> str:
    """A sentence about those whose best rate is the smallest or the largest of theirs."""
    found = [
        name
        for way, (grown, fixed) in searches.items()
        for name, one in ((way, grown), (f"{way}'s final net", fixed))
        if one is not None and one.best in (min(one.scores), max(one.scores))
    ]
    return f"At the edge of the search, so that a better rate may lie beyond: {', '.join(found)}." if found else ""


def table(searches: dict[str, tuple[Search, Search | None]]) -> str:
    """Markdown: the scores of all trials, the chosen ones in bold, and what they cost."""
    lines = [
        "| | " + " | ".join(f"rate × {factor:g}" for factor in FACTORS) + " | chosen rate | FLOPs | s |",
        "| --- " + "| ---: " * (len(FACTORS) + 3) + "|",
    ]
    for way, (grown, fixed) in searches.items():
        for name, one in ((way, grown), (f"{way}: its final net from scratch", fixed)):
            if one is not None:
                shown = [
                    f"**{100 * one.scores[rate]:.2f}**" if rate == one.best else f"{100 * one.scores[rate]:.2f}"
                    for rate in sorted(one.scores)
                ]
                cells = [*shown, f"{one.best:g}", short_number(one.flops), f"{one.seconds:.0f}"]
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _read(folders: dict[float, Path]) -> Search:
    summaries = {rate: _summary(folder) for rate, folder in folders.items()}
    return Search(
        {rate: s["val_accuracy"] for rate, s in summaries.items()},
        math.fsum(s["training_flops"] for s in summaries.values()),
        math.fsum(s["seconds"] for s in summaries.values()),
    )


def _summary(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return found


def _train(run: Path, target: Path, rate: float, kind: str) -> None:
    source = RunFolder(run)
    raw = control_config(source, "static-flops") | {"control": kind}
    raw["optimizer"] = raw["optimizer"] | {"lr": rate}
    splits = ("train", "val") if kind == _TRIAL else ("train", "val", "test")
    train_beside(source, RunFolder(target), lambda: raw, {"progress": "off"}, splits=splits)


if __name__ == "__main__":
    _train(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
