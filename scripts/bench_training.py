"""An epoch of `mlp` 784-64-10, batch 128, by the whole of `grow` against hand-written PyTorch loops, in one process.

    python scripts/bench_training.py [--data-dir ../shared/data] [--repetitions 5]

Ways to train the same net, in turn, the order rotating: `grow` with everything switched on (logging, tau/kappa from a
snapshot every 50 steps), the loop that one writes by hand over the same device tensors, and the loop over a DataLoader
of those tensors or of torchvision's dataset. Ratios are taken within a repetition and their median is printed: the
machine's speed drifts.
Without MNIST, random images of its shape take its place.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision import transforms
from torchvision.datasets import MNIST

from grow_cli.commands.train import compose
from grow_cli.data.base import DataSpec
from grow_cli.data.batches import Split
from grow_cli.data.tensors import Data, Normalizer, load_data
from grow_cli.errors import UserError
from grow_cli.records.folder import RunFolder
from grow_cli.run import assemble

BATCH = 128


def mnist(folder: Path) -> Data:
    """MNIST on the CPU, or noise of its shape."""
    option = compose(["dataset=mnist"]).dataset
    try:
        return load_data(option, data_dir=folder, subset=None, device=torch.device("cpu"))
    except UserError as error:
        print(f"random images instead of MNIST: {error}")
        x, y = torch.randn(54_000, 1, 28, 28), torch.randint(10, (54_000,))
        one = torch.ones(1)
        spec = DataSpec("mnist", "classification", (1, 28, 28), 10, tuple("0123456789"))
        splits = Split(x, y), Split(x[:6000], y[:6000]), Split(x[:100], y[:100])
        return Data(spec, *splits, augment=None, normalizer=Normalizer(one, one), white=1, split_seed=0)


def net() -> nn.Sequential:
    """784-64-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


def by_hand(data: Data, *, fused: bool | None = None) -> Callable[[], float]:
    """The loop over device tensors that one writes by hand: a permutation, an index, a step."""
    model, (x, y) = net(), (data.train.x, data.train.y)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

    def epoch() -> float:
        begun = time.perf_counter()
        order = torch.randperm(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            loss = nn.functional.cross_entropy(model(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - begun

    return epoch


def by_dataloader(dataset: Dataset) -> Callable[[], float]:
    """The loop over a DataLoader, in this process."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)

    def epoch() -> float:
        begun = time.perf_counter()
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - begun

    return epoch


def as_torchvision_shows_it(folder: Path) -> Dataset | None:
    """torchvision's MNIST with its usual transforms, as many samples as the others train on; None where it is absent."""
    usual = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    try:
        return Subset(MNIST(str(folder), train=True, transform=usual), range(54_000))
    except RuntimeError:
        return None


def by_grow(data: Data, folder: Path) -> Callable[[], float]:
    """`grow` itself, from the permutation to the written row of metrics; its validation pass is reported apart."""
    overrides = [
        "dataset=mnist",
        "model=mlp",
        "model.hidden=[64]",
        "method=static",
        "trigger=tau_kappa",
        "optimizer=adam",
    ]
    overrides += [f"batch_size={BATCH}", "trajectory.every=50", "optimizer.weight_decay=0", "stop.epochs=1000"]
    config = compose(overrides)
    target = RunFolder(folder)
    target.create({})
    loop = assemble(config, target, data, torch.device("cpu"))

    def epoch() -> float:
        before = loop.session.progress.seconds
        begun = time.perf_counter()
        loop.train_until_next_evaluation()
        epoch.whole = time.perf_counter() - begun  # type: ignore[attr-defined]
        return loop.session.progress.seconds - before

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    data = mnist(options.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "grow": by_grow(data, Path(folder) / "run"),
            "hand-written": by_hand(data),
            "hand-written, fused Adam": by_hand(data, fused=True),
            "DataLoader over tensors": by_dataloader(TensorDataset(data.train.x[:], data.train.y)),
        }
        images = as_torchvision_shows_it(options.data_dir)
        if images is not None:
            ways["DataLoader over torchvision's MNIST"] = by_dataloader(images)
        seconds: dict[str, list[float]] = {name: [] for name in [*ways, "grow, evaluation and row included"]}
        for repetition in range(options.repetitions + 1):
            names = list(ways)
            for name in names[repetition % len(names) :] + names[: repetition % len(names)]:
                taken = ways[name]()
                if repetition:  # the first warms up
                    seconds[name].append(taken)
                    if name == "grow":
                        seconds["grow, evaluation and row included"].append(ways[name].whole)  # type: ignore[attr-defined]
    for name, taken_all in seconds.items():
        print(f"{name:40s} median {statistics.median(taken_all):.3f} s an epoch")
    grown = seconds["grow"]
    print(f"grow / hand-written:               {_ratio(grown, seconds['hand-written'])}   (target: at most 1.05)")
    print(f"grow / hand-written, fused Adam:   {_ratio(grown, seconds['hand-written, fused Adam'])}")
    for name in ways:
        if name.startswith("DataLoader"):
            print(f"{name} / grow: {_ratio(seconds[name], grown)}   (target: at least 1.8)")


def _ratio(above: list[float], below: list[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(above, below, strict=True)):.2f}"


if __name__ == "__main__":
    main()
