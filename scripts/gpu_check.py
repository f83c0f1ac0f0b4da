"""What has to hold on a GPU, tried on the one that is here, in under nine minutes; docs/results/gpu.md says what came out.

    python scripts/gpu_check.py [--budget 520] [--device auto] [--only tiny,vit]

Every method, in every precision, trains, grows, is ended by SIGTERM after it has grown, goes on, is measured and exported.
Then: waits in a step, steps by grow against a loop that one writes by hand, and steps replayed as a CUDA graph against the
same steps one operation after the other. Exit code 1: a promise is broken. Where there
is no GPU the same code is rehearsed on the CPU with fewer samples, and the page says so.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import io
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from common import write_page
from torch.nn import functional as F

from grow_cli.cli import main as command
from grow_cli.commands.train import compose
from grow_cli.data.tensors import load_data
from grow_cli.records.folder import RunFolder
from grow_cli.run import assemble
from grow_cli.training.device import choose_device, flush_denormals, keep_memory, set_precision, synchronize
from grow_cli.training.loop import Loop
from grow_cli.training.step import autocast

SHORT = "dataset=digits stop.epochs=4 trigger=every trigger.every=1 growth.until=0.9 evaluate.probe=64 progress=off threads=1"
WIDTH = "growth.neurons=2 growth.max_events=2"
DEPTH = "growth.max_events=1"
METHODS = {
    "alether": f"model=residual_mlp trajectory.window=5 trajectory.every=1 method.warmup_steps=3 {DEPTH}",
    "copy": f"model=vit method.warmup_steps=3 {DEPTH}",
    "random": f"model=residual_cnn method.warmup_steps=3 {DEPTH}",
    "deepen": f"model=vit {DEPTH}",
    "tiny": f"model=cnn {WIDTH}",
    "gradmax": f"model=mlp_tiny {WIDTH}",
    "random_width": f"model=resnet18 model.stream=[8,16,32] model.hidden=[[4],[4],[4]] {WIDTH}",
    "net2net": f"model=cnn {WIDTH}",
    "senn": f"model=mlp_senn method.proposals=8 method.layer_proposals=3 method.steps=5 {WIDTH}",
    "fold": f"model=mlp_fold {WIDTH}",
    "heads": f"model=vit {DEPTH}",
    "prune": f"model=mlp {WIDTH}",
    "static": "model=mlp",
}
"""Each with a model that it grows; left out are replay, random growth by another run's schedule, and stages, of a regression."""
STEPS = {
    "mlp": ("dataset=digits model=mlp batch_size=128", "fp32"),
    "vit": ("dataset=digits model=vit batch_size=256", "bf16"),
    "gpt": ("dataset=python model=gpt batch_size=32 dataset.context=64", "bf16"),
}
"""Model → what is trained, and in which precision, against a loop written by hand."""
AT_LEAST = 0.9
"""Part of the bare loop's steps that grow makes in the same time: a promise on a GPU, in bf16."""
NEAR = 0.05
"""Relative difference of the last validation loss, where bits need not repeat."""
GRAPH_AT_LEAST = 5.0
"""Steps of a tiny net that are replayed as a graph, over those that are not, in the same time: a promise on a GPU."""
APART = ("seconds", "growth_seconds")


@dataclass
class Row:
    """What became of one method in one precision."""

    method: str
    precision: str
    broken: list[str] = field(default_factory=list)
    events: int = 0
    peak_memory: int = 0
    seconds: float = 0.0
    repeats: str = ""
    """Whether the run that was ended and went on is the one that was not."""


def grow(*arguments: str) -> tuple[int, str, str]:
    """The command in this process, which has the GPU open already: exit code, output, errors."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command(list(arguments))
        except SystemExit as left:
            return int(left.code or 0), out.getvalue(), err.getvalue()
    raise AssertionError("a command ends with an exit code")


@contextlib.contextmanager
def ended_after_growth() -> Iterator[None]:
    """SIGTERM reaches this process at the first evaluation after a growth event, or after the second one of all."""
    real, seen = Loop._evaluate, 0

    def evaluate(self: Loop) -> None:
        nonlocal seen
        real(self)
        seen += 1
        progress = self.session.progress
        if progress.firings or (self.method.kind == "none" and seen == 2):
            os.kill(os.getpid(), signal.SIGTERM)

    Loop._evaluate = evaluate  # type: ignore[method-assign]
    try:
        yield
    finally:
        Loop._evaluate = real  # type: ignore[method-assign]


def numbers(run: Path) -> list[dict[str, str]]:
    """metrics.csv without what a clock says."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in APART} for row in csv.DictReader(file)]


def repeated(whole: Path, resumed: Path, *, exactly: bool) -> tuple[str, str]:
    """How near two runs are, and what is wrong with it."""
    a, b = numbers(whole), numbers(resumed)
    if a == b:
        return "same bits", ""
    first, second = float(a[-1]["val_loss"]), float(b[-1]["val_loss"])
    apart = abs(first - second) / max(abs(first), 1e-12)
    said = f"{apart:.1e} apart"
    return said, f"resumed, it is another run ({said})" if exactly or apart > NEAR or len(a) != len(b) else ""


def check_method(method: str, precision: str, device: torch.device, subset: str) -> Row:
    """Train, grow, end, go on, measure, export."""
    row, begun = Row(method, precision), time.perf_counter()
    exactly = precision == "fp32" or device.type == "cpu"
    overrides = [*SHORT.split(), f"method={method}", *METHODS[method].split(), f"precision={precision}"]
    overrides += [f"device={device}", f"subset={subset}", f"deterministic={str(exactly).lower()}"]
    whole, part = f"{method}-{precision}", f"{method}-{precision}-part"

    def expect(ok: bool, said: str) -> bool:
        if not ok:
            row.broken.append(said)
        return ok

    def succeeds(what: str, wanted: int, *arguments: str) -> str | None:
        code, out, err = grow(*arguments)
        words = (err.strip().splitlines() or [""])[-1]
        expect("cannot be recorded" not in err, f"{what}: the step cannot be recorded as a CUDA graph")
        return out if expect(code == wanted, f"{what}: exit code {code} and not {wanted} ({words})") else None

    if succeeds("train", 0, "train", f"run_dir={whole}", *overrides) is None:
        return row
    with ended_after_growth():
        ended = succeeds("SIGTERM", 143, "train", f"run_dir={part}", *overrides)
    if ended is None or succeeds("resume", 0, "resume", part, "progress=off") is None:
        return row
    summary = json.loads((Path(part) / "summary.json").read_text())
    row.events, row.peak_memory = summary["events"], summary["peak_memory_bytes"]
    expect(summary["status"] == "finished", f"the summary says {summary['status']}")
    expect(summary["events"] > 0 or method == "static", "nothing grew")
    expect(summary["device"].startswith(str(device)), f"it ran on {summary['device']}")
    row.repeats, wrong = repeated(Path(whole), Path(part), exactly=exactly)
    expect(not wrong, wrong)
    measured = succeeds("eval", 0, "eval", part, "--json")
    if measured is not None:
        again = json.loads(measured)["val_loss"]
        expect(abs(again - summary["val_loss"]) <= 1e-4 * abs(again), f"eval: {again} and not {summary['val_loss']}")
    succeeds("export", 0, "export", part)
    expect((Path(part) / "export" / "model.pt").exists(), "export wrote no model.pt")
    row.seconds = time.perf_counter() - begun
    return row


@dataclass
class Steps:
    """A model's steps."""

    model: str
    precision: str
    ratio: float
    """Steps by grow over those by the bare loop, in the same time."""
    milliseconds: float
    waits: int | None
    """Of the host for the device, in all the steps that were counted; None on a CPU, which never waits."""


def bare_loop(loop: Loop, precision: str) -> Callable[[int], float]:
    """The loop that one writes by hand over a copy of the net: a permutation, an index, a step. Seconds of so many steps."""
    session = loop.session
    model, device, size = copy.deepcopy(session.model), session.device, session.batches.batch_size
    optimizer = session.config.optimizer.build(model)
    x, y, prepare = session.data.train.x, session.data.train.y, session.data.prepare
    order, at = torch.randperm(len(x)).to(device), 0

    def train(steps: int) -> float:
        nonlocal at
        begun = time.perf_counter()
        for _ in range(steps):
            at = 0 if at + size > len(x) else at
            index = order[at : at + size]
            at += size
            with autocast(device, precision):
                outputs = model(prepare(x[index])).float()
            loss = F.cross_entropy(outputs.flatten(0, -2), y[index].long().flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        synchronize(device)
        return time.perf_counter() - begun

    return train


def waits_in(loop: Loop, steps: int) -> int | None:
    """How often the host waits for the GPU in so many steps; the order of the samples comes over once in an epoch."""
    if loop.session.device.type != "cuda":
        return None
    batches, seen = loop.session.batches, 0
    for _ in range(steps):
        batches._shuffle() if batches._order is None else None
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                x, y = batches.next()
                loop.gathered.add(*loop._step(x, y), y)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        seen += sum("synchroniz" in str(w.message) for w in caught)
    return seen


def check_steps(model: str, device: torch.device, steps: int, repetitions: int) -> Steps:
    """grow's loop and the bare one in turn, who begins alternating; the median of the ratios."""
    overrides, precision = STEPS[model]
    fixed = "method=static trigger=never stop.epochs=null stop.steps=1000000 threads=1 progress=off"
    # operation by operation, as the bare loop does it, and waits would not show in a replay
    plain = ["graph=never", f"precision={precision}", f"device={device}"]
    config = compose([*overrides.split(), *fixed.split(), *plain])
    set_precision(precision)
    data = load_data(config.dataset, data_dir=Path(), subset=config.subset, device=device)
    folder = RunFolder(Path(f"steps-{model}"))
    folder.create({})
    loop = assemble(config, folder, data, device)
    hand = bare_loop(loop, precision)

    def own(count: int) -> float:
        before = loop.session.progress.seconds
        loop._train_until(loop.session.progress.step + count)
        return loop.session.progress.seconds - before

    ratios, taken = [], []
    for repetition in range(repetitions + 1):
        pair = (own, hand) if repetition % 2 else (hand, own)
        seconds = {way: way(steps) for way in pair}
        if repetition:  # the first warms up
            ratios.append(seconds[hand] / seconds[own])
            taken.append(seconds[own] / steps)
    waits = waits_in(loop, 30)
    loop.close()
    folder.close()
    return Steps(model, precision, statistics.median(ratios), 1e3 * statistics.median(taken), waits)


@dataclass
class Replay:
    """A model's steps replayed as a CUDA graph."""

    model: str
    ratio: float
    """Steps that are replayed over those that are not, in the same time."""
    apart: float
    """Relative difference of the two nets after as many steps on the same batches."""


def check_replay(model: str, device: torch.device, steps: int, repetitions: int) -> Replay | None:
    """`graph=always` and `graph=never` in turn; None where there are no CUDA graphs."""
    if device.type != "cuda":
        return None
    fixed = "method=static trigger=never stop.epochs=null stop.steps=1000000 threads=1 progress=off"
    loops: list[Loop] = []
    folders: list[RunFolder] = []
    for graph in ("always", "never"):
        config = compose([*STEPS[model][0].split(), *fixed.split(), f"graph={graph}", f"device={device}"])
        set_precision("fp32")
        data = load_data(config.dataset, data_dir=Path(), subset=config.subset, device=device)
        folders.append(RunFolder(Path(f"graph-{model}-{graph}")))
        folders[-1].create({})
        loops.append(assemble(config, folders[-1], data, device))
    seconds: list[list[float]] = [[], []]
    for repetition in range(repetitions + 1):
        for i in (0, 1) if repetition % 2 else (1, 0):
            before = loops[i].session.progress.seconds
            loops[i]._train_until(loops[i].session.progress.step + steps)
            seconds[i].append(loops[i].session.progress.seconds - before)
        if not repetition:  # the first warms up, and is short enough for rounding not to grow
            a, b = (torch.cat([p.detach().flatten() for p in one.session.model.parameters()]) for one in loops)
            apart = float((a - b).norm() / b.norm())
    for one, folder in zip(loops, folders, strict=True):
        one.close()
        folder.close()
    ratios = [never / always for always, never in zip(*(taken[1:] for taken in seconds), strict=True)]
    return Replay(model, statistics.median(ratios), apart)


def broken_replay(found: Replay | None) -> list[str]:
    """The promises about replayed steps that do not hold."""
    if found is None:
        return []
    slow, wrong = found.ratio < GRAPH_AT_LEAST, not found.apart <= NEAR
    said = [f"{found.model}: {found.ratio:.1f} times the steps by graph=always, below {GRAPH_AT_LEAST}"] if slow else []
    return said + ([f"{found.model}: graph=always trains another net ({found.apart:.1e} apart)"] if wrong else [])


def broken_steps(found: Steps, device: torch.device) -> list[str]:
    """The promises about steps that do not hold; of a CPU there are none."""
    if device.type != "cuda":
        return []
    slow = found.precision == "bf16" and found.ratio < AT_LEAST
    said = [f"{found.model}: {found.ratio:.2f} of the bare loop's throughput, below {AT_LEAST}"] if slow else []
    return said + ([f"{found.model}: {found.waits} waits in 30 steps"] if found.waits else [])


def page(
    device: torch.device,
    rows: list[Row],
    steps: list[Steps],
    left_out: list[str],
    seconds: float,
    replay: Replay | None = None,
) -> str:
    """docs/results/gpu.md."""
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else f"CPU ({platform.machine()}), one thread"
    head = (
        f"Acceptance on one {name}."
        if on_gpu
        else "**No GPU was available. Nothing on this page was measured on one**: it is the rehearsal of the same code on a "
        f"{name}, which shows that the check itself runs. Its times say nothing about a GPU."
    )
    broken = [f"{r.method}, {r.precision}: {said}" for r in rows for said in r.broken]
    broken += [said for found in steps for said in broken_steps(found, device)]
    broken += broken_replay(replay)
    memory = "peak MiB of tensors" if on_gpu else "peak MiB of the process so far"
    lines = ["# On a GPU", "", head, ""]
    lines += [
        f"Made by `make gpu-check` in {seconds:.0f} s, torch {torch.__version__}, Python {platform.python_version()}.",
        "",
    ]
    lines += [f"- broken: {said}" for said in broken] or ["No promise that could be tried was broken."]
    lines += [f"- not tried, the time was over: {said}" for said in left_out]
    lines += ["", "## Every method: train, grow, end by SIGTERM, resume, eval, export", ""]
    lines += [
        "`resumed` says how near the run that was ended is to one that was not; in fp32, and in every precision on a CPU, both "
        "have `deterministic=true`.",
        "",
    ]
    lines += [
        f"| method | precision | events | resumed | {memory} | seconds | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        ended = "broken" if r.broken else "holds"
        cells = (r.method, r.precision, r.events, r.repeats, f"{r.peak_memory / 2**20:.0f}", f"{r.seconds:.1f}", ended)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        "## Steps",
        "",
        "| model | precision | ms a step | steps of grow / of a bare loop | waits in 30 steps |",
    ]
    lines += ["| --- | --- | --- | --- | --- |"]
    for s in steps:
        waits = "not on a CPU" if s.waits is None else str(s.waits)
        lines.append(f"| {s.model} | {s.precision} | {s.milliseconds:.2f} | {s.ratio:.2f} | {waits} |")
    lines += ["", f"On a GPU: at least {AT_LEAST} of the bare loop in bf16, and no wait in a step.", ""]
    if replay is None:
        lines.append("Steps replayed as a CUDA graph (`graph`): not on a CPU.")
    else:
        lines.append(
            f"Replayed as a CUDA graph (`graph=always`), {replay.model} makes {replay.ratio:.1f} times the steps of "
            f"`graph=never`, to a net that is {replay.apart:.1e} apart. Promised: at least {GRAPH_AT_LEAST:g} times."
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=520, help="seconds")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", default="", help="methods and models, with commas; no page is written")
    options = parser.parse_args()
    begun, only = time.perf_counter(), set(filter(None, options.only.split(",")))
    device = choose_device(options.device)
    on_gpu = device.type == "cuda"
    keep_memory()
    flush_denormals()
    torch.set_num_threads(1)
    precisions = ("fp32", "tf32", "bf16") if on_gpu else ("fp32", "bf16")  # a CPU has no TF32
    subset, count, repetitions = ("null", 200, 7) if on_gpu else ("200", 8, 3)
    rows: list[Row] = []
    steps: list[Steps] = []
    replay: Replay | None = None
    left_out: list[str] = []
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for model in STEPS:
            if not only or model in only:
                steps.append(check_steps(model, device, count, repetitions))
                print(steps[-1], flush=True)
        if not only or "graph" in only:
            replay = check_replay("mlp", device, count, repetitions)
            print(replay, flush=True)
        for precision in precisions:
            for method in METHODS:
                if only and method not in only:
                    continue
                longest = max((r.seconds for r in rows), default=20)
                if time.perf_counter() - begun + 1.5 * longest > options.budget:
                    left_out.append(f"{method}, {precision}")
                    continue
                rows.append(check_method(method, precision, device, subset))
                print(rows[-1], flush=True)
        os.chdir(home)
    seconds = time.perf_counter() - begun
    if not only:
        print(write_page("gpu", page(device, rows, steps, left_out, seconds, replay)))
    broken = [said for r in rows for said in r.broken] + [said for s in steps for said in broken_steps(s, device)]
    broken += broken_replay(replay)
    print(f"{len(broken)} broken promises, {len(left_out)} cases not tried, {seconds:.0f} s on {device}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
