"""What a visit of SENN costs beside the matrix products that it cannot avoid, and a natural step beside a plain one.

    python scripts/bench_senn.py [--data-dir ../shared/data] [--layer-proposals 300] [--repetitions 3] [--write]

The visit is that of the issue: MNIST, two hidden layers of 25, 300 proposals a site, 300 ascent steps, 1,024 samples. All in
one process; the products are timed on tensors of the same shapes, one after the other, as ratios in the same minute.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from grow_cli.commands.train import compose
from grow_cli.data.tensors import load_data
from grow_cli.methods.senn.candidates import Candidates
from grow_cli.methods.senn.visit import Visit
from grow_cli.records.folder import RunFolder
from grow_cli.run import assemble
from grow_cli.training.loop import Loop
from grow_cli.training.step import make_step

RESULT = Path("docs/results/senn_speed.md")
SAMPLES = 1024


def seconds(action: Callable[[], Any]) -> float:
    """Of one call."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _repeat(work: list[Callable[[], Any]], times: int) -> None:
    for _ in range(times):
        for action in work:
            action()


def products(candidates: Candidates, count: int, outputs: int) -> tuple[list[Callable[[], Any]], int]:
    """The products of one evaluation of all proposals with its gradient, and their FLOPs.

    Pre-activations, E[a gᵀ], A_p (layers), the residual and what is fitted along K, and the incoming weights' gradient.
    """
    q, p = candidates.units, candidates.fan_in
    rows = count * q
    w, x = torch.randn(rows, p), torch.randn(p, SAMPLES)
    a, g = torch.randn(rows, SAMPLES), torch.randn(SAMPLES, outputs)
    k = torch.randn(rows, outputs)
    work: list[Callable[[], Any]] = [lambda: w @ x, lambda: a @ g, lambda: k @ g.T, lambda: a @ x.T]
    flops = 2 * rows * SAMPLES * (2 * p + 2 * outputs)
    if q > 1:
        cube, square = a.view(count, q, SAMPLES), torch.randn(count, q, q)
        work += [lambda: cube @ cube.mT, lambda: square @ cube]
        flops += 2 * rows * SAMPLES * 2 * q
    return work, flops


def loop_of(data_dir: Path, overrides: list[str]) -> Loop:
    """A short run's loop, trained for a few steps."""
    config = compose(
        ["experiment=senn_mnist", f"data_dir={data_dir}", "model.hidden=[25,25]", "method.samples=1024", "method.steps=300",
         "method.held_out=1024", "method.proposals=300", "growth.max_total_units=null", "batch_size=1024",
         "progress=off", *overrides]
    )  # fmt: skip
    data = load_data(config.dataset, data_dir=data_dir, subset=None, device=torch.device("cpu"))
    folder = RunFolder(Path(tempfile.mkdtemp()) / "run")
    folder.create({})
    loop = assemble(config, folder, data, torch.device("cpu"))
    loop.display.start(100, {})
    loop._train_until(20)
    return loop


def visit(data_dir: Path, layer_proposals: int, repetitions: int) -> list[str]:
    """Lines of the visit's table."""
    loop = loop_of(data_dir, [f"method.layer_proposals={layer_proposals}", "threads=2"])
    searched: list[tuple[Candidates, int, int, float]] = []
    search = Visit._search

    def timed(self: Visit, candidates: Candidates, reading: Any, start: Any, steps: int) -> Any:
        begun = time.perf_counter()
        found = search(self, candidates, reading, start, steps)
        searched.append((candidates, len(start), reading.residual.shape[1], time.perf_counter() - begun))
        return found

    Visit._search = timed  # type: ignore[method-assign]
    lines = [
        "| site | proposals | GFLOP of products | products alone, s | search, s | ratio |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    totals: list[tuple[float, float]] = []
    rows: list[list[tuple[float, float]]] = []
    names: list[str] = []
    for _ in range(repetitions):
        searched.clear()
        whole = seconds(Visit(loop.session.moment(), loop.method, 0, layers_allowed=True).look)  # type: ignore[arg-type]
        alone = []
        for candidates, count, outputs, took in searched:
            work, flops = products(candidates, count, outputs)
            for product in work:
                product()
            each = seconds(partial(_repeat, work, 10)) / 10
            names.append(
                f"{type(candidates).__name__}, fan-in {candidates.fan_in} | {count} | {flops * 301 / 1e9:,.0f}"
            )
            alone.append((each * 301, took))
        rows.append(alone)
        totals.append((sum(plain for plain, _ in alone), whole))
    for i in range(len(rows[0])):
        plain, took = (statistics.median(row[i][j] for row in rows) for j in (0, 1))
        lines.append(f"| {names[i]} | {plain:.1f} | {took:.1f} | {took / plain:.1f} |")
    plain, whole = (statistics.median(total[j] for total in totals) for j in (0, 1))
    lines.append(f"| the whole visit | | | {plain:.1f} | **{whole:.1f}** | **{whole / plain:.1f}** |")
    Visit._search = search  # type: ignore[method-assign]
    return lines


def natural(data_dir: Path, repetitions: int) -> list[str]:
    """Lines of the steps' table."""
    lines = ["| step | ms | of a plain step |", "| --- | --- | --- |"]
    shared = ["threads=2", "optimizer.lr=1e-4"]
    plain = loop_of(data_dir, ["optimizer=sgd", "optimizer.weight_decay=0", *shared])
    timings: dict[str, list[float]] = {"SGD": []}
    loops = {"SGD": plain}
    for iterations in (5, 20, 100):
        name = f"natural, {iterations} products"
        loops[name] = loop_of(
            data_dir,
            [
                "optimizer=natural",
                f"optimizer.iterations={iterations}",
                "optimizer.tolerance=0",
                "optimizer.warm_start=false",
                *shared,
            ],
        )
        timings[name] = []
    for _ in range(repetitions):
        for name, loop in loops.items():
            step, (x, y) = make_step(loop.session), loop.session.batches.next()
            step(x, y)
            timings[name].append(seconds(partial(_repeat, [partial(step, x, y)], 5)) / 5)
    base = statistics.median(timings["SGD"])
    for name, values in timings.items():
        middle = statistics.median(values)
        lines.append(f"| {name} | {1e3 * middle:.1f} | {middle / base:.1f} |")
    return lines


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--layer-proposals", type=int, default=300)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT}")
    options = parser.parse_args()
    text = [
        "# What SENN costs",
        "",
        f"`python scripts/bench_senn.py --layer-proposals {options.layer_proposals} --repetitions {options.repetitions} "
        "--write`, two CPU threads, medians.",
        "",
        "A visit to an MNIST net with two hidden layers of 25, 300 ascent steps on 1,024 samples:",
        "",
        *visit(options.data_dir, options.layer_proposals, options.repetitions),
        "",
        "An optimizer step on the same net, 1,024 samples:",
        "",
        *natural(options.data_dir, 3 * options.repetitions),
    ]
    print("\n".join(text))
    if options.write:
        RESULT.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
