"""Two ranks beside one: how far apart their nets are (`drift`, docs/ranks.md), and what a step costs (`speed`).

    python scripts/ranks.py drift [--only tiny senn]
    python scripts/ranks.py speed [--only resnet18] [--rounds 40] [--write]

Drift: the same run in one process, in two, and twice in one process that adds up each batch in another order (its samples
permuted). Printed is the largest difference of any parameter from the first, before and right after each event and at the end.

Speed: two processes on this machine, by gloo, each with one thread. In each round both take a plain step on their part of a
batch (one rank's step: the same samples, nothing is exchanged) and then the shared step on the whole batch, of which each
computes its part. Two ratios of medians are printed: of seconds, which need a core for each process and nothing beside them,
and of CPU seconds, which hold on a busy machine too, and in which waiting for the other one does not count. `--write` makes
docs/results/ranks.md of it.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# two events, at steps 10 and 20, of 63 steps; the two parts of a batch are unequal
SHORT = [
    *("subset=300", "batch_size=33", "stop.epochs=7", "evaluate.every=10", "evaluate.unit=steps", "threads=1"),
    *("trigger=every", "trigger.every=10", "trigger.unit=steps", "growth.max_events=2", "growth.until=1"),
    *("optimizer.lr=1e-3", "trajectory.every=2", "trajectory.window=4", "progress=off"),
]
VIT = ("model=vit", "model.dim=8", "model.heads=2", "model.mlp=[4,4]")
GPT = ("model=gpt", "model.dim=8", "model.heads=2", "model.mlp=[4,4]", "dataset=python", "dataset.context=8")
RESNET = ("model=resnet18", "model.stream=[4,8]", "model.hidden=[[1,1],[1,1]]", "model.classifier=[8]")
REPLAYED = "[[{kind:width,site:hidden 1,units:2,update:true}],[{kind:width,site:hidden 2,units:3,update:true}]]"
GROWING = {
    **{name: [f"method={name}", "model=mlp_tiny"] for name in ("random_width", "net2net", "gradmax", "tiny")},
    **{name: [f"method={name}"] for name in ("fold", "deepen", "midas", "stack", "zero_blocks")},
    **{name: [f"method={name}", "method.warmup_steps=5"] for name in ("copy", "random")},
    "alether": ["method=alether", "method.warmup_steps=5", "method.rank=3"],
    "senn": [
        "method=senn",
        "method.tau=1.03",
        "growth.neurons=10",
        "method.proposals=30",
        "method.layer_proposals=5",
        "method.steps=30",
    ],
    "cnn": ["method=random_width", "model=cnn"],
    "cnn-batch-norm": ["method=tiny", "model=cnn", "model.norm=batch"],
    "sgd": ["method=net2net", "model=mlp_tiny", "optimizer=sgd", "optimizer.lr=0.05"],
    "adam": ["method=net2net", "model=mlp_tiny", "optimizer=adam"],
    "clipped": ["method=net2net", "model=mlp_tiny", "clip_norm=1"],
    "residual-cnn": ["method=midas", "model=residual_cnn", "model.width=4", "model.hidden=[4,4]"],
    "resnet18": ["method=tiny", *RESNET],
    "resnet18-batch-norm": ["method=gradmax", *RESNET, "model.norm=batch"],
    "vit": ["method=tiny", *VIT],
    "vit-deeper": ["method=copy", *VIT, "method.warmup_steps=5"],
    "gpt": ["method=random_width", *GPT],
    "gpt-deeper": ["method=stack", *GPT, "model.positions=rotary"],
    "stages": ["method=stages", "optimizer=adam"],  # in double precision
    "dropout": ["method=net2net", "model=mlp", "model.hidden=[8,8]", "model.dropout=0.2"],
    "vit-dropout": ["method=copy", *VIT, "model.dropout=0.2", "method.warmup_steps=5"],
    "augmented": ["method=random_width", "model=cnn", "dataset.crop=1", "dataset.flip=true"],
    "rolled-back": ["method=stack", *GPT, "optimizer.lr=1e-9", "growth.rollback=true"],
    "replay": ["method=replay", "model=mlp_tiny", f"method.events={REPLAYED}"],
}
"""Every method that grows, model and optimizer that several processes take, with what makes a run of each short."""
WAYS = {"one process": 1, "two processes": 2, "permuted": 1, "permuted otherwise": 1}
PLACES = ("before-1", "after-1", "before-2", "after-2", "end")
WIDE = "[[64,64],[128,128],[256,256],[512,512]]"
RESNET18 = ["model=resnet18", "model.stream=[64,128,256,512]", f"model.hidden={WIDE}"]
NETS: dict[str, tuple[list[str], tuple[int, ...], int]] = {
    "residual_mlp": (["model=residual_mlp"], (1, 8, 8), 32),
    "mlp": (["model=mlp", "model.hidden=[1024,1024]"], (1, 28, 28), 512),
    "resnet18": (RESNET18, (3, 32, 32), 64),
    "resnet18, batch norm": ([*RESNET18, "model.norm=batch"], (3, 32, 32), 64),
}
"""Name → overrides, shape of a sample, samples in a batch of both."""


def in_processes(world: int, command: list[str]) -> str:
    """What the first of so many processes of this script prints; ends here where one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    ranks = [{"RANK": str(rank), "WORLD_SIZE": str(world)} if world > 1 else {} for rank in range(world)]
    line = [sys.executable, __file__, *command]
    children = [subprocess.Popen(line, env=shared | rank, stdout=subprocess.PIPE, text=True) for rank in ranks]
    try:
        printed, *_ = [child.communicate()[0] for child in children]
        if any(child.returncode for child in children):
            sys.exit(1)
        return printed
    finally:
        for child in children:
            child.kill()


def train(name: str, way: str, into: Path) -> None:
    """A run in this process, or this one's part of it, keeping the net at each of PLACES."""
    import torch

    from grow_cli.cli import main as grow_main
    from grow_cli.data.batches import Batches
    from grow_cli.training.loop import Loop

    grow, draw = Loop._grow, Batches.next
    generator = torch.Generator().manual_seed(max(0, list(WAYS).index(way) - 1))

    def keep(loop: Loop, place: str) -> None:
        model = loop.session.model
        torch.save({"architecture": model.architecture(), "model": model.state_dict()}, into / f"{place}.pt")

    def and_keep(loop: Loop) -> None:  # of two ranks, only the first grows
        number = loop.session.progress.firings + 1
        keep(loop, f"before-{number}")
        grow(loop)
        keep(loop, f"after-{number}")

    def permuted(batches: Batches) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = draw(batches)
        order = torch.randperm(len(y), generator=generator)
        return x[order], y[order]

    Loop._grow = and_keep  # type: ignore[assignment, method-assign]
    if way.startswith("permuted"):
        Batches.next = permuted  # type: ignore[assignment, method-assign]
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    grow_main(["train", *SHORT, *GROWING[name], f"run_dir={into / 'run'}"])


def drift(names: list[str]) -> None:
    """Prints the table."""
    import torch

    print("| run | | before event 1 | after event 1 | before event 2 | after event 2 | at the end |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            nets: dict[str, list[dict[str, Any]]] = {}
            for way, world in WAYS.items():
                into = Path(scratch) / way.replace(" ", "-")
                into.mkdir()
                in_processes(world, ["drift", "--only", name, "--way", way, "--into", str(into)])
                (into / "end.pt").symlink_to(into / "run" / "checkpoints" / "last.pt")
                nets[way] = [torch.load(into / f"{place}.pt", weights_only=True) for place in PLACES]
            first = nets.pop("one process")
            for way, found in nets.items():
                cells = [apart(a, b) for a, b in zip(first, found, strict=True)]
                print(f"| {'' if way.startswith('perm') else name} | {way} | {' | '.join(cells)} |", flush=True)


def apart(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The largest difference of any number in two nets."""
    if one["architecture"] != other["architecture"]:
        return "another net"
    return f"{max(float((t - other['model'][key]).abs().max()) for key, t in one['model'].items()):.1e}"


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
    config = compose(["method=static", *overrides])
    torch.manual_seed(0)
    model = config.model.build(DataSpec("random", "classification", shape, 10, tuple("0123456789")))
    task = TASKS["classification"]
    session: Any = SimpleNamespace(
        config=config, device=torch.device("cpu"), model=model, task=task, loss=task.loss(0.0), interrupted=lambda: None,
        optimizer=config.optimizer.build(model), method=config.method.build(model), moment=lambda: None,
    )  # fmt: skip
    x, y = torch.randn(samples, *shape), torch.randint(10, (samples,))
    with joined(compose(["method=static", "model=mlp"])) as ranks:  # the net is only timed: none is refused
        mine = ranks.part(x), ranks.part(y)
        plain, shared = make_step(session), make_shared_step(session, ranks)
        steps: dict[str, Callable[[], Any]] = {"plain": lambda: plain(*mine), "shared": lambda: shared(x, y)}
        taken: dict[str, list[tuple[float, float]]] = {"plain": [], "shared": []}
        messages = sent_by(ranks, steps["shared"])
        for _ in range(rounds):
            for way, step in steps.items():
                ranks.wait()
                taken[way].append(timed(step))
        wall, cpu = (
            [statistics.median(pair[kind] for pair in taken[way]) for way in ("plain", "shared")] for kind in (0, 1)
        )
        if ranks.first:
            cells = [f"{1e3 * number:.2f}" for number in (*wall, *cpu)]
            cells.insert(2, f"{wall[1] / wall[0]:.2f}")
            cells += [f"{cpu[1] / cpu[0]:.2f}", str(len(messages)), f"{sum(messages) / 1e6:.1f}"]
            count = sum(p.numel() for p in model.parameters())
            print(f"| {name} | {count:,} | {samples} | {' | '.join(cells)} |")


def sent_by(ranks: Any, step: Callable[[], Any]) -> list[int]:
    """The bytes of each sum over ranks in a step, which warms up as well."""
    alone, sizes = ranks.sum_, []

    def noted(tensor: Any) -> Any:
        sizes.append(tensor.nbytes)
        return alone(tensor)

    ranks.sum_ = noted
    step()
    ranks.sum_ = alone
    return sizes


SPEED = """# What a step of two processes costs

Made by `python scripts/ranks.py speed --rounds {rounds} --write` on {cores} cores ({machine}), load {load:.0f}, torch {torch}.

A shared step on the whole batch, of which each process computes half, beside a plain step on that half, with nothing exchanged:
medians, the two in turn. Under 1.15 was aimed at for resnet18. Where more wants to run than there are cores, as at a load above
{cores}, seconds are mostly those of waiting for the other process to get a core, and CPU seconds say what the step itself costs.
Messages are sums over the processes in a step: one for loss, gradients and signals, and two for each batch normalisation.

| net | parameters | batch | plain ms | shared ms | ratio | plain CPU ms | shared CPU ms | ratio of CPU | messages | MB |
|---|---|---|---|---|---|---|---|---|---|---|
{rows}"""


def speed(names: list[str], rounds: int, write: bool) -> None:
    """Prints the page, and writes it where asked to."""
    import torch
    from common import write_page

    load = os.getloadavg()[0]
    rows = [in_processes(2, ["speed", "--only", name, "--rounds", str(rounds)]) for name in names]
    page = SPEED.format(
        rounds=rounds,
        cores=os.cpu_count(),
        machine=platform.machine(),
        load=load,
        torch=torch.__version__,
        rows="".join(rows),
    )
    print(page)
    if write:
        write_page("ranks", page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("drift", "speed"))
    parser.add_argument("--only", choices=[*GROWING, *NETS], nargs="+")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        train(options.only[0], options.way, options.into)
    elif options.what == "drift":
        drift(options.only or list(GROWING))
    elif "RANK" in os.environ:
        measure(options.only[0], options.rounds)
    else:
        speed(options.only or list(NETS), options.rounds, options.write)


if __name__ == "__main__":
    main()
