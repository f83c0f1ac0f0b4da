"""How many samples the search for an amplitude needs: docs/results/amplitudes.md.

    python scripts/bench_amplitudes.py [--seeds 3] [--write] dataset=image_folder dataset.path=CIFAR

TINY grows E.2's convolutions while they are young. At every site of every event the same directions are added to copies of
the net at the amplitudes that minibatches of several sizes choose, eight minibatches each, and what each choice is worth is
the fall of the loss on the validation split. The amplitudes chosen on that itself are the best there are.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from common import write_page
from torch import Tensor

from grow_cli.commands import train
from grow_cli.methods.tiny import Tiny
from grow_cli.methods.width.searching import search_batch
from grow_cli.methods.width.statistics import Statistics
from grow_cli.moment import Moment
from grow_cli.surgery.apply import apply
from grow_cli.surgery.measure import evaluation_mode

SIZES = (64, 128, 256, 500)
DRAWS = 8
RUN = (
    "experiment=tiny_cifar10 stop.epochs=16 stop.train_score=null growth.max_units=[8,10,24,24,9] growth.until=0.5 "
    "trigger.every=2 progress=off"
)

_BEST = 0
Gains = dict[int, float]
"""Minibatch's size → what the amplitudes that it chose were worth, summed over sites and events, mean over minibatches."""


def loss_of(now: Moment, x: Tensor, y: Tensor) -> float:
    with torch.no_grad(), evaluation_mode(now.model):
        parts = [now.loss(now.model(a), b) * len(b) for a, b in zip(x.split(250), y.split(250), strict=True)]
    return float(torch.stack(parts).sum()) / len(y)


@contextmanager
def judged(gains: Gains) -> Iterator[None]:
    """Every offer of TINY's is first made many times over, on copies of the net."""
    plain = Tiny._offer

    def loss_after(method: Tiny, now: Moment, found: Statistics, batch: Any, judges: tuple[Tensor, Tensor]) -> float:
        other = replace(now, model=copy.deepcopy(now.model))
        site = next(s for s in other.model.width_sites() if s.name == found.site.name)
        offer = plain(method, other, replace(found, site=site), batch)
        if offer.proposal is not None:
            apply(offer.proposal, other.model, None)
        return loss_of(other, *judges)

    def offer(method: Tiny, now: Moment, found: Statistics, batch: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            judges = now.data.prepare(now.data.val.x[:]), now.data.val.y
            before = loss_of(now, *judges)
            gains[_BEST] += before - loss_after(method, now, found, judges, judges)
            for n in SIZES:
                for _ in range(DRAWS):
                    chosen = search_batch(now, n)
                    gains[n] += (before - loss_after(method, now, found, chosen, judges)) / DRAWS
        return plain(method, now, found, batch)

    Tiny._offer = offer  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Tiny._offer = plain  # type: ignore[method-assign]


def table(found: list[Gains], command: str) -> str:
    """Markdown."""
    rows = [
        "# On how many samples amplitudes are judged",
        "",
        f"Made by `{command}`.",
        "",
        "Fall of the loss on the validation split, summed over the sites and events of a run, in parts of what the amplitudes",
        "chosen on that split itself reach. CIFAR-10 is a copy as images (JPEG) where the command says so.",
        "",
        "| samples of the search |" + "".join(f" seed {seed} |" for seed in range(len(found))),
        "| ---: " * (len(found) + 1) + "|",
    ]
    for n in SIZES:
        rows.append(f"| {n} |" + "".join(f" {100 * gains[n] / gains[_BEST]:.1f} % |" for gains in found))
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write docs/results/amplitudes.md")
    options, overrides = parser.parse_known_args()
    torch.set_num_threads(1)
    found: list[Gains] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            found.append(defaultdict(float))
            with judged(found[-1]):
                code = train.main([*RUN.split(), f"seed={seed}", f"run_dir={folder}/{seed}", *overrides])
            if code:
                raise SystemExit(code)
    shown = [o.split("path=")[0] + "path=DIR" if "path=" in o else o for o in overrides if not o.startswith("data_dir")]
    page = table(found, " ".join(["python scripts/bench_amplitudes.py --seeds", str(options.seeds), "--write", *shown]))
    print(page)
    if options.write:
        write_page("amplitudes", page)


if __name__ == "__main__":
    main()
