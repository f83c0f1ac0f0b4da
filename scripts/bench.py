"""Benchmarks: ways of growing with one recipe each, their controls, the comparison and the report.

    python scripts/bench.py mnist --jobs 2
    python scripts/bench.py cifar_cpu --jobs 2 --cifar-images DIR
    python scripts/bench.py alether --jobs 2
    python scripts/bench.py python --jobs 2

Runs `grow train` and `grow controls` into outputs/bench/<name>/<way>/<seed> (finished runs are used again, interrupted ones
resumed), then writes a page into docs/results with its pictures, and outputs/bench/<name>/report.html.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tuned
from bench_page import Searches, report
from benches import BENCHES, PAGES, Bench, folder
from common import grow, train_once


def overrides_of(bench: Bench, way: str, more: list[str]) -> list[str]:
    """Of every run of a way, the seed left out."""
    return [*bench.overrides(way), *more, f"label={way}"]


def tuning(name: str, more: list[str]) -> Searches:
    """The search for the rates of each way and of the net it ends with."""
    bench, place = BENCHES[name], folder("tuning") / name
    return {
        way: tuned.search(place / way, overrides_of(bench, way, more), fixed=way in bench.controls)
        for way in bench.ways
    }


def grew(run: Path) -> bool:
    """Whether anything of what it grew was kept."""
    summary = json.loads((run / "summary.json").read_text())
    return bool(summary["events"] > summary["undone"])


def run_once(name: str, way: str, seed: int, more: list[str], searches: Searches) -> None:
    """One run and its controls, one after the other: what they are held against then ran on the same machine."""
    bench, run = BENCHES[name], folder(name) / way / str(seed)
    begun = time.perf_counter()
    own, fixed = searches.get(way, (None, None))
    rate = [f"optimizer.lr={own.best}", *own.said()] if own else []
    train_once(run, [*overrides_of(bench, way, more), *rate, f"seed={seed}"])
    kinds = bench.controls.get(way)
    if kinds and not grew(run):
        print(f"{name} {way} {seed} did not grow: it has no controls", flush=True)
    elif kinds:
        grow("controls", str(run), "--only", ",".join(kinds), "progress=off", "threads=1")
        if own and fixed and own.best != fixed.best:  # else static-flops has the static net's own rate
            tuned.static(run, run / "controls" / tuned.OWN_RATE, fixed.best, tuned.OWN_RATE)
    print(f"{name} {way} {seed}: {time.perf_counter() - begun:.0f} s", flush=True)


def ladders(name: str, seeds: int | None) -> None:
    """The control `static-best`: one ladder for all seeds of a way."""
    bench = BENCHES[name]
    for way in bench.controls:
        begun = time.perf_counter()
        runs = [run for seed in bench.range(seeds) if grew(run := folder(name) / way / str(seed))]
        if runs:
            best = ["--only", "static-best", "--halving", "progress=off", "threads=1"]
            print(grow("controls", *map(str, runs), *best), flush=True)
        print(f"{name} {way} ladder: {time.perf_counter() - begun:.0f} s", flush=True)


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

    names = PAGES[options.page]
    with ThreadPoolExecutor(options.jobs) as pool:
        held = [name for name in names if BENCHES[name].within]
        searches = dict(zip(held, pool.map(lambda name: tuning(name, more(name)), held), strict=True))
        runs = [
            (name, way, seed, more(name), searches.get(name, {}))
            for name in names
            for seed in BENCHES[name].range(options.seeds)
            for way in BENCHES[name].ways
        ]
        list(pool.map(lambda run: run_once(*run), runs))
        list(pool.map(lambda name: ladders(name, options.seeds), held))
    shown = [f"--jobs {options.jobs}"] + [f"--seeds {options.seeds}"] * bool(options.seeds)
    shown += [o for o in options.overrides if not o.startswith("data_dir")] + ["--cifar-images DIR"] * bool(images)
    command = " ".join(["python scripts/bench.py", options.page, *shown])
    of_all = {way: search for of in searches.values() for way, search in of.items()}
    print(report(options.page, options.seeds, command, of_all, copied=bool(images)))


if __name__ == "__main__":
    main()
