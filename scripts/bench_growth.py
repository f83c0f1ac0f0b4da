"""Cost of one TINY growth step, in forward+backward passes over the same samples: ours, and gromo's where installed.

    python scripts/bench_growth.py [--repetitions 9] [--gromo-repetitions 2] [--line-search] [--write]

One process, two threads. In every repetition each variant is measured once, the order rotating, and divided by a plain
pass (forward, loss, backward; no optimizer) just before it; the median of these ratios is printed, and beside it the ratio
of the best times. The net is copied before a step, and the copy is not timed. The allocator keeps what is freed (glibc), so
that no pass waits for pages.

A step of ours: two passes for the statistics, significance threshold included, solving, the amplitudes of best update and
new neurons on as many samples as a run takes, and widening the net: by as many neurons as are asked for, whatever the
threshold says. A step of gromo's (`pip install '.[bench]'`): its `compute_statistics`, `compute_optimal_updates` with as
many neurons at most, and `apply_change`; for the MLP with its line search for the amplitude on the same samples, too, which
takes minutes for the convolutions (`--line-search`). Memory is measured in fresh processes: the peak of the step above what
was resident before it, divided by that of the plain pass. `--write` makes docs/results/growth_speed.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch
from bench_trajectory import peak_memory, reset_peak_memory
from torch import Tensor, nn
from torch.nn import functional as F

from grow_cli.data.sample import Sample
from grow_cli.methods.width.searching import offer_of, samples_for
from grow_cli.methods.width.statistics import Collector, Statistics
from grow_cli.models.modules.sites import WidthSite
from grow_cli.surgery.apply import apply
from grow_cli.theory.bottleneck import new_neurons_of

if TYPE_CHECKING:
    from grow_cli.moment import Moment

THREADS = 2
MOST = 16
HALVINGS = 12
RTOL = 1e-6
CLASSES = 10
MEMORY_TARGET = 1.3
# What is freed is kept for the next pass: otherwise a plain pass takes two to four times as long, and a step looks cheap.
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
PAGE = Path(__file__).parent.parent / "docs" / "results" / "growth_speed.md"
COMMAND = "python scripts/bench_growth.py"

Batches = list[tuple[Tensor, Tensor]]


class Ready(Sample):
    """Minibatches that are there already."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return sum(len(y) for _, y in self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.batches


@dataclass
class Setting:
    """A net with one place to widen, and its samples."""

    name: str
    what: str
    kernel: int | None
    """The consumer's; None for the MLP."""
    target: float
    net: nn.Sequential
    batches: Batches
    search: tuple[Tensor, Tensor]

    @property
    def conv(self) -> bool:
        return self.kernel is not None

    @property
    def samples(self) -> int:
        return sum(len(y) for _, y in self.batches)


SETTINGS = {
    "mlp": ("MLP 784-64-64-10, 10 batches of 1024", None, 3.0),
    "conv1": ("conv 3-16-32, consumer 1x1, 4 batches of 256", 1, 4.0),
    "conv3": ("conv 3-16-32, consumer 3x3, 4 batches of 256", 3, 8.0),
}


def setting(name: str) -> Setting:
    what, kernel, target = SETTINGS[name]
    torch.manual_seed(0)
    shape: tuple[int, ...]
    if kernel is None:
        batches, shape, size = 10, (784,), 1024
        net = nn.Sequential(nn.Linear(784, 64), nn.SELU(), nn.Linear(64, 64), nn.SELU(), nn.Linear(64, CLASSES))
    else:
        batches, shape, size = 4, (3, 32, 32), 256
        first, second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, kernel, padding=kernel // 2)
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES))
        net = nn.Sequential(first, nn.SELU(), second, nn.SELU(), *head)
    made = _samples(batches, size, shape)
    with torch.no_grad():
        searched = samples_for(net[:3](made[0][0][:1]).numel())
    x, y = (torch.cat(part)[:searched] for part in zip(*made[: -(-searched // size)], strict=True))
    return Setting(name, what, kernel, target, net, made, (x, y))


def _samples(batches: int, size: int, shape: tuple[int, ...]) -> Batches:
    """Noise around a mean per class: something that new neurons can learn, S of full rank."""
    means = torch.randn(CLASSES, *shape)
    made = []
    for _ in range(batches):
        y = torch.randint(CLASSES, (size,))
        made.append((torch.randn(size, *shape).add_(means[y], alpha=0.5), y))
    return made


def with_constant_inputs(mlp: Setting) -> Setting:
    """A part of the pixels constant, as 67 of MNIST's 784 are: S is singular then."""
    batches = [(x.clone(), y) for x, y in mlp.batches]
    for x, _ in batches:
        x[:, :67] = -0.42
    search = mlp.search[0].clone(), mlp.search[1]
    search[0][:, :67] = -0.42
    return Setting(mlp.name, mlp.what, mlp.kernel, mlp.target, mlp.net, batches, search)


def plain_pass(net: nn.Module, batches: Batches) -> None:
    """A training step without its optimizer, for each minibatch."""
    for x, y in batches:
        loss = F.cross_entropy(net(x), y)
        net.zero_grad()
        loss.backward()


def site_of(net: nn.Sequential) -> WidthSite:
    producer, activation, consumer = net[0], net[1], net[2]
    assert isinstance(producer, nn.Linear | nn.Conv2d)
    assert isinstance(consumer, nn.Linear | nn.Conv2d)
    return WidthSite("hidden 1", producer, (activation,), activation, consumer)


@dataclass
class Step:
    """What one growth step of ours did, and the seconds of its parts."""

    found: Statistics
    added: int
    seconds: dict[str, float] = field(default_factory=dict)


def growth_step(
    net: nn.Sequential,
    batches: Batches,
    search: tuple[Tensor, Tensor],
    known: dict[str, Tensor] | None = None,
    most: int = MOST,
) -> Step:
    """Widen the net by `most` neurons, or by all that there are: those below the threshold, too, as the dearest case."""
    times = [time.perf_counter()]
    site = site_of(net)
    collector = Collector(net, F.cross_entropy, RTOL, known_whitening=known or {})
    (found,) = collector.collect([site], Ready(batches))
    times.append(time.perf_counter())
    assert found.whitening is not None
    neurons = new_neurons_of(found.whitening, found.cross, rtol=RTOL)
    count = min(len(neurons.alpha), most)
    times.append(time.perf_counter())
    shape = tuple(batches[0][0].shape[1:])
    data = SimpleNamespace(spec=SimpleNamespace(input_shape=shape))
    offer = offer_of(
        cast("Moment", SimpleNamespace(model=net, loss=F.cross_entropy, data=data)),
        site,
        search,
        HALVINGS,
        alpha=neurons.alpha[:count],
        omega=neurons.omega[:, :count],
        update=found.update,
        details={},
    )
    times.append(time.perf_counter())
    added = 0
    if offer.proposal is not None:
        added = offer.proposal.units
        apply(offer.proposal, net, None)
    times.append(time.perf_counter())
    parts = ("statistics", "solving", "amplitudes", "applying")
    return Step(found, added, {part: b - a for part, a, b in zip(parts, times, times[1:], strict=False)})


@dataclass
class Variant:
    """Something to measure; its seconds in each repetition, with those of the plain pass just before."""

    name: str
    target: float | None
    measure: Callable[[], float]
    seconds: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    error: str = ""
    shares_plain: bool = False
    """The variant before it ran the plain pass for both."""

    @property
    def ratio(self) -> float:
        return statistics.median(a / b for a, b in zip(self.seconds, self.plain, strict=True))

    @property
    def best(self) -> float:
        return min(self.seconds) / min(self.plain)


def ours(
    of: Setting, name: str, target: float | None, known: dict[str, Tensor] | None = None, neurons: int = MOST
) -> Variant:
    """A step of ours, of a copy of the net each time."""

    def measure() -> float:
        net = deepcopy(of.net)
        begun = time.perf_counter()
        step = growth_step(net, of.batches, of.search, known, neurons)
        taken = time.perf_counter() - begun
        variant.steps.append(step)
        return taken

    variant = Variant(name, target, measure)
    return variant


def gromo_net(of: Setting, full: bool) -> Any:
    """The same net with the same weights, out of gromo's modules; the layer that reads the growing one is growable.

    Of its two for convolutions the restricted one searches 1x1 weights only, `full` the whole kernel's.
    """
    from gromo.containers.growing_mlp import GrowingMLP
    from gromo.containers.sequential_growing_container import SequentialGrowingModel
    from gromo.modules.conv2d_growing_module import (
        Conv2dGrowingModule,
        FullConv2dGrowingModule,
        RestrictedConv2dGrowingModule,
    )

    device = torch.device("cpu")
    if not of.conv:
        mlp = GrowingMLP(784, CLASSES, 64, 2, activation=nn.SELU(), device=device)
        with torch.no_grad():
            for layer, module in zip(mlp.layers, (of.net[0], of.net[2], of.net[4]), strict=True):
                layer.layer.load_state_dict(module.state_dict())
        return mlp
    kernel = cast(int, of.kernel)
    consumer_kind = FullConv2dGrowingModule if full else RestrictedConv2dGrowingModule

    class ConvNet(SequentialGrowingModel):
        def __init__(self) -> None:
            super().__init__(3, CLASSES, device)
            size, selu = (32, 32), nn.SELU()
            self.first = Conv2dGrowingModule(
                3, 16, 3, padding=1, input_size=size, post_layer_function=selu, device=device, name="first"
            )
            self.second = consumer_kind(
                16,
                32,
                kernel,
                padding=kernel // 2,
                input_size=size,
                post_layer_function=selu,
                previous_module=self.first,
                allow_growing=True,
                device=device,
                name="second",
            )
            self.head = deepcopy(of.net[4:])
            self.first.layer.load_state_dict(of.net[0].state_dict())
            self.second.layer.load_state_dict(of.net[2].state_dict())
            self._growable_layers = [self.second]
            self.set_growing_layers(index=0)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.head(self.second(self.first(x))))

        def extended_forward(self, x: Tensor, mask: dict | None = None) -> Tensor:
            x, extension = self.first.extended_forward(x)
            x, extension = self.second.extended_forward(x, extension)
            return cast(Tensor, self.head(x))

    return ConvNet()


def gromo_step(net: Any, of: Setting, line_searches: bool) -> tuple[float, float]:
    """Seconds of a growth step of gromo's without its amplitude search, and of that search; amplitude 1 without it."""
    from gromo.utils.training_utils import compute_statistics
    from gromo.utils.utils import line_search

    begun = time.perf_counter()
    net.set_growing_layers(index=0)
    compute_statistics(net, of.batches, nn.CrossEntropyLoss(reduction="sum"))
    net.compute_optimal_updates(maximum_added_neurons=MOST)
    net.reset_computation()
    net.select_update(0)
    searching = time.perf_counter()
    x, y = of.search

    def loss(factor: float) -> float:
        net.set_scaling_factor(float(factor))
        with torch.no_grad():
            return F.cross_entropy(net.extended_forward(x), y).item()

    factor = line_search(loss)[0] if line_searches else 1.0
    searched = time.perf_counter()
    net.set_scaling_factor(float(factor))
    net.apply_change()
    return time.perf_counter() - searched + searching - begun, searched - searching


def gromo_variants(of: Setting, line_searches: bool, full: bool) -> list[Variant]:
    """One step, two variants: the second adds the search of the first's step."""
    name = f"gromo {version('gromo')}"
    if of.conv:
        name += f" ({'Full' if full else 'Restricted'}Conv2dGrowingModule)"
    searching: list[float] = []

    def step() -> float:
        net = gromo_net(of, full)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            taken, search = gromo_step(net, of, line_searches)
        searching.append(search)
        return taken

    without = Variant(f"{name} without amplitude search", None, step)
    both = Variant(f"{name} with its line search", None, lambda: without.seconds[-1] + searching[-1])
    both.shares_plain = True
    return [without, both] if line_searches else [without]


def measure(plain: Callable[[], None], groups: list[tuple[int, list[Variant]]]) -> float:
    """Fill the variants; the best time of the plain pass. A group's variants take turns for so many repetitions."""
    best = float("inf")
    for repetition in range(1 + max(repetitions for repetitions, _ in groups)):
        warming = repetition == 0  # of ours only: gromo's steps are long
        for repetitions, variants in groups:
            if repetition > repetitions or (warming and variants[0].name.startswith("gromo")):
                continue
            turn = 0 if variants[-1].shares_plain else repetition % len(variants)
            passed = 0.0
            for variant in [*variants[turn:], *variants[:turn]]:
                if variant.error:
                    continue
                if not variant.shares_plain:
                    begun = time.perf_counter()
                    plain()
                    passed = time.perf_counter() - begun
                    best = best if warming else min(best, passed)
                try:
                    taken = variant.measure()
                except Exception as error:
                    if not variant.name.startswith("gromo"):
                        raise
                    for other in variants:
                        other.error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                    break
                if not warming:
                    variant.seconds.append(taken)
                    variant.plain.append(passed)
    return best


def bench(of: Setting, repetitions: int, gromo_repetitions: int, line_search: bool) -> list[str]:
    """Lines of the table of one setting."""
    variants: list[Variant]
    (known,) = [growth_step(deepcopy(of.net), of.batches, of.search).found]
    assert known.whitening is not None
    whitening = {"hidden 1": known.whitening}
    if of.conv:
        variants = [ours(of, "ours, any event", of.target)]
        later: dict[str, Tensor] = {}
    else:
        later = whitening
        variants = [
            ours(of, "ours, every later event (S of the raw inputs known)", of.target, later),
            ours(of, "ours, first event (S computed on these samples)", of.target),
            ours(with_constant_inputs(of), "ours, first event, 67 constant pixels (S singular)", None),
        ]
    variants += [
        ours(of, "ours, 1 neuron asked for", None, later, neurons=1),
        ours(of, "ours, 64 neurons asked for", None, later, neurons=64),
    ]
    groups = [(repetitions, variants)]
    if gromo_repetitions:
        groups.append((gromo_repetitions, gromo_variants(of, line_search or not of.conv, full=of.kernel != 1)))
        if of.kernel == 1:
            groups.append((gromo_repetitions, gromo_variants(of, line_search, full=True)))
    best = measure(lambda: plain_pass(of.net, of.batches), groups)
    plainly = f"Plain pass over the {of.samples} samples: {1e3 * best:.0f} ms at best."
    lines = [f"### {of.what}", "", f"{plainly} Amplitudes are searched on {len(of.search[1])} samples.", ""]
    lines += ["| growth step | plain passes, median | best / best | target | neurons added |", "|---|---|---|---|---|"]
    for _, members in groups:
        for variant in members:
            if variant.error:
                lines.append(f"| {variant.name} | crashed: {variant.error} | | | |")
                continue
            met = ""
            if variant.target is not None:
                met = f"≤ {variant.target:g}: {'met' if variant.ratio <= variant.target else 'missed'}"
            added = str(variant.steps[-1].added) if variant.steps else ""
            lines.append(f"| {variant.name} | {variant.ratio:.2f} | {variant.best:.2f} | {met} | {added} |")
    one, many = variants[-2:]
    change = statistics.median(a / b for a, b in zip(many.seconds, one.seconds, strict=True)) - 1
    parts = []
    for variant in variants[: 1 if of.conv else 2]:
        plain = statistics.median(variant.plain)
        shares = ", ".join(
            f"{part} {statistics.median(s.seconds[part] for s in variant.steps[1:]) / plain:.2f}"
            for part in variant.steps[0].seconds
        )
        parts.append(f"{variant.name}: {shares}.")
    lines += ["", "In plain passes, " + " ".join(parts), ""]
    lines += [f"{many.steps[-1].added} neurons instead of {one.steps[-1].added} change the cost by {change:+.0%}.", ""]
    return lines


def peak(name: str, what: str) -> int:
    """Peak resident bytes of a pass or of a step above those before it; in a process of its own."""
    of = setting(name)
    small = [(x[:8].clone(), y[:8].clone()) for x, y in of.batches[:2]]
    few = of.search[0][:8].clone(), of.search[1][:8].clone()
    net = deepcopy(of.net)

    def run(batches: Batches, search: tuple[Tensor, Tensor], known: dict[str, Tensor] | None) -> None:
        if what == "plain":
            plain_pass(net, batches)
        else:
            growth_step(deepcopy(of.net), batches, search, known)

    known = None
    if what == "later":
        known = {"hidden 1": torch.eye(785, dtype=torch.float64)}
    run(small, few, known)  # libraries load their code and allocate their own buffers once
    reset_peak_memory()
    before = peak_memory() or 0
    run(of.batches, of.search, known)
    return (peak_memory() or 0) - before


def memory(threads: int) -> list[str]:
    """Lines of the table of memory, each number from a fresh process."""
    if peak_memory() is None:
        return ["Memory is measured on Linux only.", ""]
    # what is freed goes back to the system at once, so that nothing hides in what malloc keeps
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

    def megabytes(name: str, what: str) -> float:
        arguments = [sys.executable, __file__, "--threads", str(threads), "--peak", name, what]
        done = subprocess.run(arguments, env=environment, check=True, capture_output=True, text=True)
        return int(done.stdout) / 2**20

    lines = ["| growth step | plain pass | growth step | ratio | target |", "|---|---|---|---|---|"]
    for name, (what, kernel, _) in SETTINGS.items():
        plain = megabytes(name, "plain")
        steps = {"": "step"} if kernel is not None else {", later event": "later", ", first event": "step"}
        for label, kind in steps.items():
            own = megabytes(name, kind)
            met = "met" if own <= MEMORY_TARGET * plain else "missed"
            row = f"{plain:.0f} MB | {own:.0f} MB | {own / plain:.2f} | ≤ {MEMORY_TARGET}: {met}"
            lines.append(f"| {what}{label} | {row} |")
    return [*lines, ""]


HEAD = f"""# Speed and memory of a growth step

Made by `{COMMAND} --write` (also in `make bench-speed`) on {{machine}}.

One TINY growth step in units of a plain forward+backward pass over the same samples, in one process whose allocator
keeps what is freed (otherwise a plain pass of the convolutions takes twice as long and a step is half as many). The first
event of a run has to compute S of the raw inputs (once, on at most method.max_samples); every later event
at the first hidden layer of an MLP knows it. Where S is small, as in front of a convolution, there is no such
difference. At most {MOST} neurons are added. gromo's line search is run for the MLP only: for the convolutions its
hundreds of evaluations take minutes (`--line-search`).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--gromo-repetitions", type=int, default=2, help="its steps are long; 0 leaves it out")
    parser.add_argument("--line-search", action="store_true", help="gromo's for the convolutions, too: minutes each")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--only", choices=SETTINGS, help="one setting")
    parser.add_argument("--write", action="store_true", help="write docs/results/growth_speed.md")
    parser.add_argument("--peak", nargs=2, metavar=("SETTING", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(peak(*options.peak))
        return
    if sys.platform == "linux" and not KEPT.items() <= os.environ.items():  # read when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEPT)
    python, torch_version = platform.python_version(), torch.__version__.split("+")[0]
    machine = f"{options.threads} thread(s) of a {platform.machine()} machine (torch {torch_version}, Python {python})"
    page = [*HEAD.format(machine=machine).splitlines(), ""]
    gromo = options.gromo_repetitions
    if find_spec("gromo") is None:
        page += ["gromo is not installed and was left out: pip install '.[bench]' brings it.", ""]
        gromo = 0
    print("\n".join(page), flush=True)
    for name in [options.only] if options.only else SETTINGS:
        lines = bench(setting(name), options.repetitions, gromo, options.line_search)
        print("\n".join(lines), flush=True)
        page += lines
    if not options.only:
        intro = "Peak resident memory above that before, each in a fresh process; libraries warmed up with 16 samples."
        lines = ["## Memory", "", intro, "", *memory(options.threads)]
        print("\n".join(lines), flush=True)
        page += lines
    if options.write:
        PAGE.write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
