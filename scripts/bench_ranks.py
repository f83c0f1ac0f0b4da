"""What a step of two ranks costs beside one rank's step with the same arithmetic: packing, adding up and unpacking.

    python scripts/bench_ranks.py [--only resnet18] [--rounds 40]

Two processes on this machine, by gloo, each with one thread. In each round both take a plain step on their part of a batch
(one rank's step: the same samples, nothing is exchanged) and then the shared step on the whole batch, of which each
computes its part. Two ratios of the medians are printed: of seconds, which need a core for each process and nothing beside
them, and of CPU seconds, which hold on a busy machine too, and in which waiting for the other one does not count.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

NETS: dict[str, tuple[list[str], tuple[int, ...], int]] = {
    "residual_mlp": (["model=residual_mlp"], (1, 8, 8), 32),
    "mlp": (["model=mlp", "model.hidden=[1024,1024]"], (1, 28, 28), 512),
    "resnet18": (["model=resnet18", "model.norm=none"], (3, 32, 32), 128),
}
"""Name → overrides, shape of a sample, samples in a batch of both."""
SLOW = {"resnet18": 8}
"""Rounds of those whose step takes seconds."""


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and CPU seconds of this process, its threads for messages included."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(name: str, rounds: int) -> None:
    """In one of two processes; rank 0 prints."""
    import torch

    from grow_cli.commands.train import compose
    from grow_cli.data.base import DataSpec
    from grow_cli.tasks import TASKS
    from grow_cli.training.ranks import joined
    from grow_cli.training.step import make_step
    from grow_cli.training.together import make_shared_step

    torch.set_num_threads(1)
    overrides, shape, samples = NETS[name]
    shown = compose(["method=static", "model=mlp"])  # the net is only timed: none is refused
    config = compose(["method=static", *overrides])
    torch.manual_seed(0)
    model = config.model.build(DataSpec("random", "classification", shape, 10, tuple("0123456789")))
    task = TASKS["classification"]
    session: Any = SimpleNamespace(
        config=config, device=torch.device("cpu"), model=model, task=task, loss=task.loss(0.0), interrupted=lambda: None,
        optimizer=config.optimizer.build(model), method=config.method.build(model), moment=lambda: None,
    )  # fmt: skip
    x, y = torch.randn(samples, *shape), torch.randint(10, (samples,))
    with joined(shown) as ranks:
        mine = ranks.part(x), ranks.part(y)
        plain, shared = make_step(session), make_shared_step(session, ranks)
        plain(*mine)
        shared(x, y)
        taken: dict[str, list[tuple[float, float]]] = {"plain": [], "shared": []}
        for _ in range(min(rounds, SLOW.get(name, rounds))):
            ranks.wait()
            taken["plain"].append(timed(lambda: plain(*mine)))
            ranks.wait()
            taken["shared"].append(timed(lambda: shared(x, y)))
        found = {
            f"{way} {kind}": statistics.median(pair[i] for pair in pairs)
            for way, pairs in taken.items()
            for i, kind in enumerate(("seconds", "CPU"))
        }
        if ranks.first:
            count = sum(p.numel() for p in model.parameters())
            ratios = [found[f"shared {kind}"] / found[f"plain {kind}"] for kind in ("seconds", "CPU")]
            print(
                f"| {name} | {count:,} | {samples} | {1e3 * found['plain seconds']:.2f} | {1e3 * found['shared seconds']:.2f} | "
                f"{ratios[0]:.2f} | {1e3 * found['plain CPU']:.2f} | {1e3 * found['shared CPU']:.2f} | {ratios[1]:.2f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=NETS)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    names = [options.only] if options.only else list(NETS)
    if "RANK" in os.environ:
        measure(names[0], options.rounds)
        return
    print("| net | parameters | batch | plain ms | shared ms | ratio | plain CPU ms | shared CPU ms | ratio of CPU |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in names:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--only", name, "--rounds", str(options.rounds)]
        children = [subprocess.Popen(command, env=os.environ | both | {"RANK": str(rank)}) for rank in (0, 1)]
        if any(child.wait() for child in children):
            sys.exit(1)


if __name__ == "__main__":
    main()
