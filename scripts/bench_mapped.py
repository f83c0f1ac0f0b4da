"""Images read from their file batch by batch beside images held in memory: time per step, per batch, and to begin.

    python scripts/bench_mapped.py [--repetitions 5] [--write]

The folders are made for it: solid colours with a little noise. Both ways train the same net on the same batches in one process,
in turn, and end with the same parameters, which is checked. `--write` makes docs/results/mapped_data.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import write_page
from PIL import Image

from grow_cli.commands.train import compose
from grow_cli.data.tensors import load_data
from grow_cli.records.folder import RunFolder
from grow_cli.run import assemble
from grow_cli.training.loop import Loop

CPU = torch.device("cpu")
WAYS = ("memory", "mapped")
SETS = {"32 x 32": (2000, 32, 64), "224 x 224": (160, 224, 16)}
"""Images, pixels a side, batch."""


def solid_images(root: Path, n: int, side: int) -> Path:
    """A folder of n images of two classes, a tenth of them to test on."""
    rng = np.random.default_rng(0)
    for part, share in (("train", 0.9), ("test", 0.1)):
        for label, name in enumerate(("dark", "light")):
            (root / part / name).mkdir(parents=True)
            for i in range(round(n * share / 2)):
                colours = rng.integers(0, 100, (1, 1, 3)) + rng.integers(0, 30, (8, 8, 3)) + 110 * label
                image = Image.fromarray(colours.astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
                image.save(root / part / name / f"{i:05}.jpg")
    return root


def loop(images: Path, run: Path, storage: str, batch_size: int) -> tuple[Loop, float]:
    """A training that reads its images so, and the seconds to read and place them."""
    config = compose(
        [
            *(
                "dataset=image_folder",
                f"dataset.path={images}",
                f"dataset.storage={storage}",
                "method=static",
                "progress=off",
            ),
            *(
                "model=cnn",
                "model.channels=[[8],[16],[16]]",
                "model.head=gap",
                f"batch_size={batch_size}",
                "stop.epochs=1000",
            ),
        ]
    )
    begun = time.perf_counter()
    data = load_data(config.dataset, data_dir=images, subset=None, device=CPU)
    seconds = time.perf_counter() - begun
    folder = RunFolder(run)
    folder.create({})
    return assemble(config, folder, data, CPU), seconds


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measured(n: int, side: int, batch_size: int, repetitions: int, room: Path) -> dict[str, float]:
    """Medians, in seconds."""
    images = solid_images(room / "images", n, side)
    found = {"decode": loop(images, room / "first", "mapped", batch_size)[1]}
    loops = {}
    for way in WAYS:
        starts = []
        for i in range(3):
            loops[way], seconds = loop(images, room / f"{way}-{i}", way, batch_size)
            starts.append(seconds)
        found[f"{way} start"] = median(starts)
    steps = loops["memory"].session.batches.steps_per_epoch
    batches: dict[str, list[float]] = {way: [] for way in WAYS}
    epochs: dict[str, list[float]] = {way: [] for way in WAYS}
    for i in range(repetitions + 1):
        for way in WAYS if i % 2 else WAYS[::-1]:
            session = loops[way].session
            # the clock of training, which leaves the evaluation out
            before = session.progress.seconds
            loops[way].train_until_next_evaluation()
            epochs[way].append((session.progress.seconds - before) / steps)
            batches[way].append(timed(lambda: [session.batches.next() for _ in range(steps)]) / steps)  # noqa: B023
    for way in WAYS:  # the first is to warm up
        found[f"{way} step"], found[f"{way} batch"] = median(epochs[way][1:]), median(batches[way][1:])
    nets = [loops[way].session.model.state_dict() for way in WAYS]
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0]), "the two ways trained different nets"
    return found


def page(found: dict[str, dict[str, float]], repetitions: int) -> str:
    lines = [
        "# Images that are read from their file",
        "",
        f"Made by `python scripts/bench_mapped.py --repetitions {repetitions} --write`, on {torch.get_num_threads()} thread of a "
        f"shared x86-64 machine with {os.cpu_count()} cores (torch {torch.__version__.partition('+')[0]}), with other work "
        "beside it: read the ratios, which are taken in one process, both ways in turn. The net is `cnn` with stages of 8, 16 "
        "and 16 channels. Both sets fit into memory, so that both ways can be timed, and the file is in the system's cache. "
        "Both end with the same parameters to the last bit.",
        "",
        "| images | batch | a step: `mapped` / `memory` | a step from memory | a batch from memory | from the file "
        "| start that decodes | start, `memory` | start, `mapped` |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, of in found.items():
        n, _, batch = SETS[name]
        lines.append(
            f"| {n:,} of {name} | {batch} | {of['mapped step'] / of['memory step']:.3f} | {1e3 * of['memory step']:.1f} ms "
            f"| {1e3 * of['memory batch']:.2f} ms | {1e3 * of['mapped batch']:.2f} ms | {of['decode']:.1f} s "
            f"| {of['memory start']:.2f} s | {of['mapped start']:.2f} s |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name, (n, side, batch_size) in SETS.items():
        with tempfile.TemporaryDirectory() as room:
            os.environ["XDG_CACHE_HOME"] = room
            found[name] = measured(n, side, batch_size, options.repetitions, Path(room))
    text = page(found, options.repetitions)
    print(text)
    if options.write:
        print(write_page("mapped_data", text))


if __name__ == "__main__":
    main()
