"""Benchmarks: ways of growing with one recipe each, their controls, the comparison and the report.

    python scripts/bench.py mnist --jobs 2
    python scripts/bench.py cifar_cpu --jobs 2 --cifar-images DIR
    python scripts/bench.py alether --jobs 2
    python scripts/bench.py deepen --jobs 2
    python scripts/bench.py python --jobs 2

Runs `grow train` and `grow controls` into outputs/bench/<name>/<way>/<seed> (finished runs are used again, interrupted ones
resumed), then writes a page into docs/results with its pictures, and outputs/bench/<name>/report.html.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import tuned
from common import ROOT, grow, train_once, write_page

from grow_cli.analysis.comparing import draw_anytime, draw_fronts, markdown
from grow_cli.analysis.comparison import Comparison, compare
from grow_cli.analysis.numbers import short_number
from grow_cli.analysis.runs import Record, read_records
from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.metrics import read_metrics

CONTROLS = ("static-flops", "static-steps", "random-replay")
"""Of a way that is held against its controls, besides `static-best` and its final net at that net's own rate."""


@dataclass(frozen=True)
class Bench:
    """Ways that are compared with each other on one dataset."""

    title: str
    ways: dict[str, list[str]]
    """Label → overrides."""
    recipe: list[str] = field(default_factory=list)
    """Overrides of every run."""
    controls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Label → kinds of controls."""
    seeds: int = 5
    cifar: bool = False
    note: str = ""
    to: float | None = None
    """A validation accuracy, for what it cost to reach it."""
    events: bool = False
    """Whether the page tells what happened at the growth events."""
    first_seed: int = 0
    """Where what is tested was chosen on other seeds, these begin above them."""
    within: float | None = None
    """The difference that does not matter, in points; fixed before the runs. With it ways and their static nets are tuned
    alike, and `static-best` is a control of those that have controls."""

    def range(self, seeds: int | None) -> Sequence[int]:
        """The seeds of its runs, or of so many."""
        return range(self.first_seed, self.first_seed + (seeds or self.seeds))


# SENN's published length cut so that five seeds and their controls take half an hour on two cores.
_SENN = ["experiment=senn_mnist", "stop.epochs=10", "method.samples=8192", "method.held_out=4096", "method.steps=60"]
_SENN_CIFAR = [
    "dataset.scale=1",
    "model.dropout=0",
    "optimizer.lr=5e-3",
    "optimizer.weight_decay=5e-4",
    "method.tau=1.05",
    "method.alpha=1e-4",
    "method.layer_penalty=60",
    "method.judged=cross_fitted",
]
_STUDY = {"alether": ["method=alether"], "copy": ["method=copy"], "random": ["method=random"]}
_STUDY_NOTE = (
    "The three grow at the same steps (a fifth and two fifths of the run), at the same place, with the same warm-up; they "
    "differ in the weights of the new block only, and until the first event the runs of a seed are the same."
)
_VIT = [
    "model=vit",
    "model.dim=32",
    "model.mlp=[64,64]",
    "optimizer.lr=1e-3",
    "optimizer.weight_decay=0.05",
    "clip_norm=1",
    "subset=10000",
    "dataset.validation=0.02",  # two evaluations of 6,000 samples would cost as much as the training between them
]


def _study(title: str, recipe: list[str], steps: int) -> Bench:
    budget = ["stop.epochs=null", f"stop.steps={steps}", "trigger=at", f"trigger.steps=[{steps // 5},{2 * steps // 5}]"]
    rest = [
        "batch_size=128",
        "evaluate.unit=steps",
        f"evaluate.every={max(40, steps // 40)}",
        f"method.warmup_steps={steps // 10}",
    ]
    plain = ["dataset.crop=0", "dataset.flip=false"] if (cifar := "dataset=cifar10" in recipe) else []
    controls = {"alether": ("static-flops",)}
    return Bench(title, _STUDY, [*recipe, *plain, *budget, *rest], controls, 10, cifar, _STUDY_NOTE, events=True)


def _held(
    title: str,
    ways: dict[str, list[str]],
    recipe: Sequence[str] = (),
    *,
    within: float,
    cifar: bool = False,
    seeds: int = 5,
) -> Bench:
    """The first way against its controls; the others have its recipe and its final net."""
    return Bench(title, ways, [*recipe], {next(iter(ways)): CONTROLS}, seeds=seeds, cifar=cifar, within=within)


_CIFAR = ["dataset=cifar10", "dataset.crop=0", "dataset.flip=false", "subset=10000"]
# none is better on the validation split of MNIST beyond noise; with best updates 0.9 points worse on that of CIFAR-10
_TINY = ["method.significance=false", "method.best_update=false"]
_SHORT = {
    "tiny": _TINY,
    "gradmax": ["method=gradmax"],
    "net2net": ["method=net2net"],
    "random": ["method=random_width"],
}
# 280 steps that grow cost as many FLOPs as the static nets get.
_GROWN = ["model.mlp=[64,64]", "stop.steps=280", "trigger.fractions=[0.3]"]
_BELOW = ["method.blocks=4", "method.pattern=before_frontier"]
_FIXED = ["method=static", "stop.flops=78833319936"]

BENCHES = {
    "closest": Bench(
        "MNIST: TINY as it comes closest to its static-flops control",
        {"tiny": _TINY},
        ["experiment=tiny_mnist", "trigger.every=0.1", "evaluate.every=0.1"],
        {"tiny": ("static-flops", "static-steps", "random-replay")},
        seeds=20,
        to=0.98,
        note="Units every tenth of an epoch, the present weights left to the optimizer: of some twenty configurations of 25 "
        "epochs that were tried none is better on the validation split beyond noise. Twenty seeds: with five the difference "
        "was lost in the noise (the notes at the end).",
    ),
    # a net of the final size is far from trained then, so that steps of a small one are worth their FLOPs
    "short_3": Bench(
        "MNIST in 3 epochs: width growth while the training is young",
        _SHORT,
        ["experiment=tiny_mnist", "stop.epochs=3", "growth.until=0.5"],
        dict.fromkeys(_SHORT, ("static-flops",)),
        to=0.9,
        note="Grown from [1, 1] to at most [110, 51] during the first half of the training.",
    ),
    "mnist_alether": _held("MNIST: Alether", {"alether": ["experiment=alether_mnist", "stop.epochs=15"]}, within=0.2),
    "mnist_tiny": _held(
        "MNIST: TINY, GradMax, Net2Net",
        {way: [*_SHORT[way], "stop.epochs=10", "growth.until=0.25"] for way in ("tiny", "gradmax", "net2net")},
        ["experiment=tiny_mnist"],
        within=0.2,
    ),
    "mnist_senn": _held("MNIST: SENN", {"senn": _SENN}, within=0.2, seeds=3),
    "mnist_fold": _held("MNIST: Fold", {"fold": ["experiment=fold_mnist", "stop.epochs=16"]}, within=0.2, seeds=3),
    "gpu_alether": _held("CIFAR-10: Alether", {"alether": ["experiment=alether_cifar10"]}, within=0.5, cifar=True),
    "gpu_vit": _held(
        "CIFAR-10: Alether, transformer", {"alether-vit": ["experiment=alether_cifar10_vit"]}, within=0.5, cifar=True
    ),
    "gpu_tiny": _held(  # controls need a whole budget
        "CIFAR-10: TINY",
        {"tiny": ["experiment=tiny_cifar10", "subset=null", "stop.train_score=null"]},
        within=0.5,
        cifar=True,
    ),
    "gpu_fold": _held("CIFAR-10: Fold", {"fold": ["experiment=fold_cifar10"]}, within=0.5, cifar=True),
    "cifar_alether": _held(
        "CIFAR-10 (10,000 images): Alether",
        {"alether": ["experiment=alether_mnist", "stop.epochs=30", "trajectory.every=5"]},
        _CIFAR,
        within=0.5,
        cifar=True,
    ),
    "cifar_tiny": _held(
        "CIFAR-10 (10,000 images): TINY",
        {"tiny": ["experiment=tiny_mnist", *_TINY, "model.dropout=0.2", "stop.epochs=12"]},
        _CIFAR,
        within=0.5,
        cifar=True,
    ),
    "cifar_senn": _held(
        "CIFAR-10 (10,000 images): SENN", {"senn": [*_SENN, *_SENN_CIFAR]}, _CIFAR, within=0.5, cifar=True, seeds=3
    ),
    "cifar_fold": _held(
        "CIFAR-10 (10,000 images): Fold",
        {"fold": ["experiment=fold_cifar10", "stop.epochs=35", "method.max_mistakes=600", "method.max_clusters=5"]},
        _CIFAR,
        within=0.5,
        cifar=True,
        seeds=3,
    ),
    "alether_mnist_mlp": _study("Alether on MNIST, residual MLP", ["dataset=mnist"], 4000),
    "alether_cifar_mlp": _study("Alether on CIFAR-10, residual MLP", ["dataset=cifar10"], 4000),
    "alether_mnist_vit": _study(
        "Alether on MNIST (10,000 images), transformer", ["dataset=mnist", *_VIT, "model.patch=7"], 800
    ),
    # a tenth of what the net takes to be trained: 0.3 epochs, so that compute is what is scarce
    "deepen_mnist": Bench(
        "Depth growth on MNIST where compute is scarce: a transformer of 2 blocks becomes one of 6",
        {
            "stack": [*_GROWN, "method=stack", "method.factor=3", "optimizer.lr=1.6e-2"],
            "zero-random": [*_GROWN, *_BELOW, "method=zero_blocks", "optimizer.lr=1.6e-2"],
            "static-6": [*_FIXED, "model.mlp=[64,64,64,64,64,64]", "optimizer.lr=8e-3"],
            "static-2": [*_FIXED, "model.mlp=[64,64]", "optimizer.lr=8e-3"],
        },
        [
            *("dataset=mnist", "dataset.validation=0.02", "model=vit", "model.patch=7", "model.dim=32"),
            *("batch_size=64", "optimizer.weight_decay=0.05", "clip_norm=1", "schedule.warmup=10"),
            *("stop.epochs=null", "evaluate.unit=steps", "evaluate.every=28"),
        ],
        seeds=10,
        first_seed=100,
        note="280 steps of 64 images (0.3 epochs), four blocks added at 30 % of them, without steps of the new blocks alone. "
        "stack: the whole stack three times; zero-random: fresh blocks before the last one that add nothing at first; "
        "static-6: the net that these end with, from scratch; static-2: the one that they begin with. All for as many "
        "training FLOPs (within a step). Each way at its own rate, chosen among 2e-3, 4e-3, 8e-3, 1.6e-2 and 3.2e-2 by "
        "validation on seed 50 (docs/depth.md): 1.6e-2 for what grows, 8e-3 for what does not. The first seed is 100.",
        events=True,
    ),
    # 226 steps of the final net: far fewer than it takes
    "deepen_python": Bench(
        "Depth growth on Python's sources where compute is scarce: a language model of 2 blocks becomes one of 6",
        {
            "stack": ["model=gpt", "method=stack", "method.factor=3", "trigger.fractions=[0.5]"],
            "zero-random": ["model=gpt", "method=zero_blocks", "method.blocks=4", "trigger.fractions=[0.5]"],
            "static-6": ["model=gpt", "method=static", "model.blocks=6"],
            "static-2": ["model=gpt", "method=static", "model.blocks=2"],
        },
        [
            *("dataset=python", "dataset.measured=65536", "batch_size=32", "optimizer.lr=6e-3", "clip_norm=1"),
            *("schedule=anneal", "schedule.warmup=10", "evaluate.unit=steps", "evaluate.every=50"),
            *("stop.epochs=null", "stop.flops=1e12", "threads=1"),
        ],
        seeds=10,
        first_seed=100,
        note="A byte-level GPT (width 64, context 64) for 1e12 training FLOPs, a minute of one CPU thread; four blocks added"
        " at half of them, without steps of the new blocks alone. stack: the whole stack three times; zero-random: "
        "fresh blocks on top that add nothing at first; static-6: the net that these end with, from scratch; static-2: "
        "the one that they begin with. The rate is constant for 60 % of the budget, then falls to zero. Of 3e-3, 6e-3 "
        "and 1.2e-2, tried for each way on seed 50, 6e-3 has the lowest validation loss of all four (1.794, 1.769, "
        "2.112, 1.658 nats). The first seed is 100.",
        events=True,
    ),
    "alether_cifar_vit": _study(
        "Alether on CIFAR-10 (10,000 images), transformer",
        ["dataset=cifar10", *_VIT, "model.patch=8"],
        800,
    ),
}
PAGES = {
    "deepen": ["deepen_mnist"],
    "python": ["deepen_python"],
    "closest": ["closest", "short_3"],
    "mnist": ["mnist_alether", "mnist_tiny", "mnist_senn", "mnist_fold"],
    "cifar_gpu": ["gpu_alether", "gpu_vit", "gpu_tiny", "gpu_fold"],
    "cifar_cpu": ["cifar_alether", "cifar_tiny", "cifar_senn", "cifar_fold"],
    "alether": ["alether_mnist_mlp", "alether_cifar_mlp", "alether_mnist_vit", "alether_cifar_vit"],
}
INTRODUCTIONS = {
    "mnist": "Each way of growing with its paper's experiment, shortened so that all of this takes one core less than an hour: "
    "Alether 15 epochs (the experiment has 30), TINY, GradMax and Net2Net 10 (25; they grow in the first 2.5, as there), SENN "
    "10 (70, with half of the samples and 60 instead of 100 steps for each search), Fold 16 (60). SENN and Fold, whose runs "
    "cost most, have three seeds, the others five. A difference of 0.2 points was fixed before the runs as one that does not "
    "matter. Left out: the controls at equal seconds and at equal parameters. Other work ran beside it, so seconds are rough.",
    "cifar_cpu": "Each way of growing, small enough for a CPU: 10,000 images, no augmentation; Alether 30 epochs, TINY 12, SENN "
    "10, Fold 35. SENN and Fold have three seeds, the others five. A difference of 0.5 points was fixed before the runs as one "
    "that does not matter. Left out: the controls at equal seconds and at equal parameters. Other work ran beside it, so "
    "seconds are rough.",
}
"""Page → what a reader must know before its tables."""


def folder(name: str) -> Path:
    """Where a benchmark's runs are."""
    return ROOT / "outputs" / "bench" / name


def overrides_of(bench: Bench, way: str, more: list[str]) -> list[str]:
    """Of every run of a way, the seed left out."""
    return [*bench.ways[way], *bench.recipe, *more, f"label={way}"]


def tuning(name: str, more: list[str]) -> dict[str, tuple[tuned.Search, tuned.Search | None]]:
    """The search for the rates of each way and of the net it ends with."""
    bench, place = BENCHES[name], folder("tuning") / name
    return {
        way: tuned.search(place / way, overrides_of(bench, way, more), fixed=way in bench.controls)
        for way in bench.ways
    }


def run_once(name: str, way: str, seed: int, more: list[str]) -> None:
    """One run and its controls, one after the other: what they are held against then ran on the same machine."""
    bench, run = BENCHES[name], folder(name) / way / str(seed)
    begun = time.perf_counter()
    searched = tuning(name, more)[way] if bench.within else None
    rate = [f"optimizer.lr={searched[0].best}", *searched[0].said()] if searched else []
    train_once(run, [*overrides_of(bench, way, more), *rate, f"seed={seed}"])
    kinds = bench.controls.get(way)
    summary = json.loads((run / "summary.json").read_text())
    if kinds and summary["events"] <= summary["undone"]:
        print(f"{name} {way} {seed} did not grow: it has no controls", flush=True)
    elif kinds:
        grow("controls", str(run), "--only", ",".join(kinds), "progress=off", "threads=1")
        if searched and searched[1] and searched[1].best != searched[0].best:  # else static-flops has its own rate
            tuned.static(run, run / "controls" / tuned.OWN_RATE, searched[1].best, tuned.OWN_RATE)
    print(f"{name} {way} {seed}: {time.perf_counter() - begun:.0f} s", flush=True)


def ladders(name: str, seeds: int | None) -> None:
    """The control `static-best`: one ladder for all seeds of a way."""
    bench = BENCHES[name]
    for way in bench.controls if bench.within else ():
        begun = time.perf_counter()
        runs = [str(folder(name) / way / str(seed)) for seed in bench.range(seeds)]
        print(grow("controls", *runs, "--only", "static-best", "--halving", "progress=off", "threads=1"))
        print(f"{name} {way} ladder: {time.perf_counter() - begun:.0f} s", flush=True)


def events(records: list[Record]) -> str:
    """Markdown: what the growth events did, a row per way; means over all events of all seeds."""
    rows: dict[str, list[dict[str, float]]] = {}
    for record in records:
        if record.control is None:
            metrics = read_metrics(record.folder)
            found = [_event(e, metrics) for e in growth_events(record.folder) if e.units_added]
            rows.setdefault(record.label, []).extend(found)
    lines = [
        "| | events | loss jump | after the warm-up | change of the outputs, % | steps to recover (median) | recovered |",
        "| --- " + "| ---: " * 6 + "|",
    ]
    for label, found in rows.items():
        if not found:
            continue
        frame = pd.DataFrame(found)
        recovered = frame["recover"].notna()
        lines.append(
            f"| {label} | {len(frame)} | {frame['jump'].mean():+.4f} ± {frame['jump'].std():.4f} | "
            f"{frame['settled'].mean():+.4f} ± {frame['settled'].std():.4f} | {100 * frame['change'].mean():.1f} | "
            f"{frame['recover'].fillna(float('inf')).median():.0f} | {recovered.mean():.0%} |"
        )
    return "\n".join(lines)


def _event(event: GrowthEvent, metrics: pd.DataFrame) -> dict[str, float]:
    before = metrics[metrics["step"] == event.step]["val_loss"].iloc[0]
    later = metrics[(metrics["step"] > event.step) & (metrics["val_loss"] <= before)]
    losses = (event.loss_before, event.loss_after, event.loss_settled, event.function_change_relative)
    first, after, settled, change = (math.nan if value is None else value for value in losses)
    return {
        "jump": after - first,
        "settled": settled - first,
        "change": change,
        "recover": float(later["step"].iloc[0] - event.step) if len(later) else float("nan"),
    }


EVENTS_NOTE = (
    "Loss jump: of a fixed batch, just after the event against before; after the warm-up: once the new block was trained alone. "
    "Steps to recover: from the event to the first evaluation at which the validation loss is no higher than at the event, the "
    "warm-up's steps not counted; inf where less than half of the events came to that."
)


COPY_NOTE = "CIFAR-10 is read from a folder of images here: a copy (JPEG), not the original files."


def verdicts(comparisons: list[Comparison]) -> str:
    """Markdown: each way that has controls beside them, in points, with the word of its table."""
    tests = {
        (t.first.label, t.name_of_second): f"{100 * t.found.difference:+.2f} **{t.verdict}**"
        for comparison in comparisons
        for t in comparison.tests_made
        if t.second.records[0].control
    }
    ways, kinds = list(dict.fromkeys(way for way, _ in tests)), [*CONTROLS, "static-best", tuned.OWN_RATE]
    lines = ["| | " + " | ".join(kinds) + " |", "| --- " + "| --- " * len(kinds) + "|"]
    return "\n".join(
        lines + [f"| {way} | " + " | ".join(tests.get((way, kind), "–") for kind in kinds) + " |" for way in ways]
    )


VERDICTS_NOTE = (
    "Test accuracy of the grown nets minus that of the control, in percentage points; the words are those of the tables below, "
    f"each of which has its own level. `{tuned.OWN_RATE}` is `static-flops` at the rate that the static net chose for itself; – "
    "where it chose the same."
)


def costs(records: list[Record]) -> str:
    """Markdown: what the runs, their controls and their ladder cost, means over seeds; a row per way with controls."""
    lines = ["| | a run | its ladder | ladder ÷ run | sizes | chosen |", "| --- " + "| ---: " * 5 + "|"]
    for way in dict.fromkeys(r.of.label for r in records if r.control == "static-best" and r.of):
        best = [r.summary for r in records if r.control == "static-best" and r.of and r.of.label == way]
        own = [r.summary for r in records if r.label == way]
        run, ladder = (
            [sum(s[prefix + key] for s in of) / len(of) for key in ("flops", "seconds")]
            for prefix, of in (("training_", own), ("ladder_", best))
        )
        lines.append(
            f"| {way} | {short_number(run[0])} FLOPs, {run[1]:.1f} s | {short_number(ladder[0])} FLOPs, {ladder[1]:.1f} s | "
            f"{ladder[0] / run[0]:.1f} × FLOPs | {best[0]['ladder_rungs']} | {best[0]['parameters']:,} parameters |"
        )
    return "\n".join(lines)


TUNING_NOTE = (
    f"Validation accuracy, %, at the end of one run with seed {tuned.SEED}, which is in no comparison. Each way, and the net it "
    "ends with from scratch for as many FLOPs, has the same three multiples of the recipe's rate; the best one is then its "
    "rate. The other controls have the rate of their run."
)
COSTS_NOTE = (
    "The ladder of `static-best`, by successive halving (docs/size.md), for each seed: its FLOPs are in no other table."
)


def report(page: str, seeds: int | None, command: str, more: list[str], *, copied: bool = False) -> Path:
    """The page in docs/results and its pictures, and reports beside the runs."""
    begun = [f"Made by `{command}`.", INTRODUCTIONS.get(page, "")]
    parts: list[str] = []
    comparisons: list[Comparison] = []
    everything: list[Record] = []
    searches: dict[str, tuple[tuned.Search, tuned.Search | None]] = {}
    for name in PAGES[page]:
        bench = BENCHES[name]
        records = read_records([folder(name)])
        records = [r for r in records if r.seed in bench.range(seeds)]
        [comparison] = compare(records, to=bench.to, equal_within=bench.within)
        comparisons.append(comparison)
        everything += records
        if bench.within:
            searches |= tuning(name, more)
        text = markdown([comparison], command, pictures=False).split("\n\n", 2)[2]
        note = COPY_NOTE if bench.cifar and copied else ""
        parts += [f"# {bench.title}, {seeds or bench.seeds} seeds", bench.note, note, text.strip()]
        if bench.events:
            parts += ["## At the growth events", events(records), EVENTS_NOTE]
        images = ROOT / "docs" / "images"
        draw_anytime(comparison, images / f"{name}_anytime.png")
        draw_fronts(comparison, images / f"{name}_fronts.png")
        parts += [f"![{what}](../images/{name}_{what}.png)" for what in ("anytime", "fronts")]
    if searches:
        begun += ["## Verdicts", verdicts(comparisons), VERDICTS_NOTE]
        begun += [
            "## Tuning",
            tuned.table(searches),
            TUNING_NOTE,
            "## Cost of the ladders",
            costs(everything),
            COSTS_NOTE,
        ]
    output = f"bench_{page}" if searches or len(PAGES[page]) == 1 else f"{page}_study"
    written = write_page(output, "\n\n".join(part for part in [*begun, *parts] if part))
    for name in PAGES[page]:
        print(grow("report", str(folder(name))))
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", choices=sorted(PAGES))
    parser.add_argument("--seeds", type=int, help="fewer or more than the benchmark has")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2)), help="runs at a time")
    parser.add_argument("--cifar-images", type=Path, help="a copy of CIFAR-10 as train/<class>/*, test/<class>/*")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE of every run, say device=cuda or data_dir=DIR")
    options = parser.parse_intermixed_args()
    images = (
        []
        if options.cifar_images is None
        else ["dataset=image_folder", f"dataset.path={options.cifar_images.absolute()}"]
    )

    def more(name: str) -> list[str]:
        return [*options.overrides, *(images if BENCHES[name].cifar else [])]

    def all_at_once(what: Callable[..., object], jobs: list[tuple[object, ...]]) -> None:
        with ThreadPoolExecutor(options.jobs) as pool:
            for _ in pool.map(lambda job: what(*job), jobs):
                pass

    names = PAGES[options.page]
    all_at_once(tuning, [(name, more(name)) for name in names if BENCHES[name].within])
    runs = [
        (name, way, seed, more(name))
        for name in names
        for seed in BENCHES[name].range(options.seeds)
        for way in BENCHES[name].ways
    ]
    all_at_once(run_once, runs)
    all_at_once(ladders, [(name, options.seeds) for name in names])
    shown = [o for o in options.overrides if not o.startswith("data_dir")] + ["--cifar-images DIR"] * bool(images)
    command = " ".join(["python scripts/bench.py", options.page, *shown])
    print(report(options.page, options.seeds, command, more(names[0]), copied=bool(images)))


if __name__ == "__main__":
    main()
