"""Steps of `model=gpt` by the whole of `grow` against a loop that one writes by hand with the same modules, in one process.

    python scripts/bench_language.py [--repetitions 9] [--steps 20] [--dim 64] [--blocks 4] [--context 64] [--device cpu]

Both train on `dataset=python`, batch 32, with the same kind of AdamW, one thread, in turn, who begins alternating. Ratios
are taken within a repetition and their median is printed: the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

from grow_cli.commands.train import compose
from grow_cli.data.tensors import Data, load_data
from grow_cli.records.folder import RunFolder
from grow_cli.run import assemble
from grow_cli.training.device import flush_denormals, keep_memory, synchronize
from grow_cli.training.loop import Loop

BATCH = 32


def of_grow(data: Data, overrides: list[str], folder: Path, device: torch.device) -> Loop:
    """`grow`'s loop, nothing but steps between its evaluations."""
    target = RunFolder(folder)
    target.create({})
    return assemble(compose(overrides), target, data, device)


def by_hand(loop: Loop, data: Data, device: torch.device) -> Callable[[int], float]:
    """The loop that one writes by hand, over a copy of the net: a permutation of windows, an index, a step."""
    model = copy.deepcopy(loop.session.model)
    fused = loop.session.optimizer.defaults["fused"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=fused)
    x, y = data.train.x, data.train.y
    order = torch.randperm(len(x)).to(device)
    at = 0

    def train(steps: int) -> float:
        nonlocal at
        begun = time.perf_counter()
        for _ in range(steps):
            index = order[at : at + BATCH]
            at += BATCH
            loss = F.cross_entropy(model(x[index]).flatten(0, 1), y[index].long().flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        synchronize(device)
        return time.perf_counter() - begun

    return train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("repetitions", 9), ("steps", 20), ("dim", 64), ("blocks", 4), ("context", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    keep_memory()  # for both alike
    flush_denormals()
    overrides = ["dataset=python", "model=gpt", "method=static", "trigger=never", f"batch_size={BATCH}", "threads=1"]
    overrides += [f"model.dim={options.dim}", f"model.blocks={options.blocks}", f"dataset.context={options.context}"]
    overrides += ["stop.epochs=null", "stop.steps=100000", "optimizer.lr=1e-3", f"device={options.device}"]
    data = load_data(compose(overrides).dataset, data_dir=Path(), subset=None, device=device)
    with tempfile.TemporaryDirectory() as folder:
        loop = of_grow(data, overrides, Path(folder) / "run", device)
        hand = by_hand(loop, data, device)

        def own(steps: int) -> float:
            before = loop.session.progress.seconds
            loop._train_until(loop.session.progress.step + steps)
            return loop.session.progress.seconds - before

        ratios, seconds = [], []
        for repetition in range(options.repetitions + 1):
            pair = (own, hand) if repetition % 2 else (hand, own)
            taken = {way: way(options.steps) for way in pair}
            if repetition:  # the first warms up
                ratios.append(taken[own] / taken[hand])
                seconds.append(taken[own] / options.steps)
        loop.close()
    print(f"{1e3 * statistics.median(seconds):.1f} ms a step, {loop.parameters:,} parameters, {options.device}")
    told = ", ".join(f"{ratio:.3f}" for ratio in sorted(ratios))
    print(f"grow / by hand: median {statistics.median(ratios):.3f} of {told}   (target: at most 1.05)")


if __name__ == "__main__":
    main()
