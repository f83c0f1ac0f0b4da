"""Statistics of a width site from a pass over some samples: sums, streamed over minibatches in small pieces.

Products use the net's precision, their sums over pieces float64. They are plain sums over samples, so ranks could add theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from grow_cli.data.sample import Sample, draw
from grow_cli.hardware import SOLVED_HERE, fetched, piece, sent, waits
from grow_cli.models.modules.layers import LinearMap
from grow_cli.models.modules.sites import WidthSite
from grow_cli.surgery.flops import alike, counted_before
from grow_cli.surgery.patches import SitePatches, affine, outer
from grow_cli.surgery.signals import Signals, signals
from grow_cli.theory.bottleneck import best_update_of, largest_singular_value, spurious, whitening_of
from grow_cli.theory.expansion import double

if TYPE_CHECKING:
    from grow_cli.moment import Moment

Loss = Callable[[Tensor, Tensor], Tensor]

# Samples per pass through the net: large enough for the products, small enough for memory.
_BATCH = 512

# Below these chance explains too much, however small the matrices; positions of an image are much alike.
_FEWEST_READS = 10_000
_FEWEST_SAMPLES = 1000

# Samples on which the effect of goals of pure chance is measured; it is scaled to the others.
_NULL_SAMPLES = 128

# What the present weights can do is not to be done by new ones: of the consumer's inputs only what sums in float32 cannot
# tell from nothing is left out. (As a move of the weights what is rare in the samples is left out, too: it is noise.)
_REACHED_RTOL = 1e-6

# Fan-in from which S of the raw inputs costs more than everything else in an event.
_WORTH_KEEPING = 256

# Numbers in the widest matrix of a piece of a minibatch: it is read again by the products while it is in a CPU's cache.
_PIECE = 2**20


class _Sums:
    """Named float64 sums; on the CPU where the device has no float64."""

    def __init__(self) -> None:
        self.of: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor) -> None:
        value = double(value)
        self.of[name] = self.of[name] + value if name in self.of else value


@dataclass
class Statistics:
    """The statistics of one site on n samples; all are means over samples."""

    site: WidthSite
    patches: SitePatches
    samples: int
    cross: Tensor
    """N (p, m · offsets), of the goals less what the best update reaches; of the goals themselves without one."""
    whitening: Tensor | None
    """Of S (p, r); None where it was not asked for."""
    update: Tensor | None
    """δW* (m, q), the bias in the last column where the consumer has one; None where it was not asked for. Without the
    directions of the consumer's inputs that `rtol` leaves out, unlike what `cross` and `bottleneck` take off the goals."""
    goal: float
    """E‖V_goal‖²."""
    bottleneck: float
    """E‖V_goal − δW* B_out‖² (TINY, Def. 3.1)."""
    threshold: float
    """The largest λ that nothing but chance explains (D.3); 0 where it was not asked for."""
    reads: int
    """Numbers with which B_outᵀB_out and a new S are estimated from the samples: samples times positions."""


@dataclass
class Collector:
    """Two passes over the same samples: for the best update, then for what it leaves over."""

    model: nn.Module
    loss: Loss
    rtol: float
    update: bool = True
    whiten: bool = True
    significance: bool = True
    known_whitening: dict[str, Tensor] = field(default_factory=dict)
    """Site's name → whitening of S, where it is known already: that of the raw inputs does not change."""

    def collect(
        self, sites: Sequence[WidthSite], sample: Sample, counts: Sequence[int] | None = None
    ) -> list[Statistics]:
        """The statistics of all sites of the present net at once; `counts`: how many samples, from the first, each site uses."""
        wanted = [len(sample)] * len(sites) if counts is None else counts
        parts = [_SiteSums(site, self, n) for site, n in zip(sites, wanted, strict=True)]
        if self.update:
            for part, seen in self._passed(parts, sample):
                part.add_update(seen)
            _fetch(parts)
            for part in parts:
                part.solve_update()
        for part, seen in self._passed(parts, sample):
            part.add_neurons(seen)
        _fetch(parts)
        return [part.finish() for part in parts]

    def _passed(self, parts: list[_SiteSums], sample: Sample) -> Iterator[tuple[_SiteSums, Signals]]:
        """What passes each site, minibatch by minibatch, until it has had its samples."""
        before, key = 0, object()
        for x, y in sample:
            open_ = [part for part in parts if part.samples > before]
            if not open_:
                return
            with alike(key, x.shape, len(open_)):
                found = signals(self.model, [part.site for part in open_], x, y, self.loss)
            for part, seen in zip(open_, found, strict=True):
                yield part, seen.first(part.samples - before)
            before += len(y)


class _SiteSums:
    """The sums of one site, in the making."""

    def __init__(self, site: WidthSite, asked: Collector, samples: int) -> None:
        self.site, self.asked, self.samples = site, asked, samples
        self.patches = SitePatches(site)
        self.update: Tensor | None = None
        self.reached: Tensor | None = None
        """δW* with all that the present weights can reach, down to what is rare, where the net is: it is projected away."""
        self.columns = 0
        self.null_samples = 0
        self.sums = _Sums()
        self._key = object()

    def add_update(self, seen: Signals) -> None:
        positions = seen.goal[0].numel() // self.patches.outputs
        q = self.site.consumer.weight[0].numel() + 1
        for middle, goal in _pieces(q * positions, seen.middle, seen.goal):
            with alike(self._key, "update", len(goal)):
                read_columns = self.patches.consumer_columns(middle)
                goals = self.patches.goal_columns(goal)
                self.sums.add("read", outer(read_columns))
                self.sums.add("read goal", read_columns @ goals.T)
                self._add_goals(goal)

    def solve_update(self) -> None:
        sums = self.sums.of
        like = self.site.consumer.weight
        self.reached = sent(best_update_of(sums["read"], sums["read goal"], _REACHED_RTOL), like.device).to(like.dtype)
        self.update = best_update_of(sums["read"], sums["read goal"], _told_apart(self.asked.rtol, like.dtype))

    def add_neurons(self, seen: Signals) -> None:
        change = self.reached
        for inputs, middle, goal in _pieces(self._widest(seen), seen.inputs, seen.middle, seen.goal):
            with alike(self._key, "neurons", len(goal)):
                self._add_piece(inputs, middle, goal, change)
        if self.asked.significance and not self.null_samples and not self._one_goal(seen.goal):
            self._add_null(seen)

    def _add_piece(self, inputs: Tensor, middle: Tensor, goal: Tensor, change: Tensor | None) -> None:
        patches, asked, site = self.patches, self.asked, self.site
        whiten = asked.whiten and site.name not in asked.known_whitening
        if change is None:
            self._add_goals(goal)
        else:
            goal = goal - affine(site.consumer, middle, change)
        self.sums.add("left", goal.square().sum())
        if patches.linear and not whiten:
            self.sums.add("cross", patches.linear_cross(inputs, goal))
            return
        columns = patches.fan_in_columns(inputs)
        self.sums.add("cross", patches.cross(columns, goal))
        if whiten:
            self.sums.add("inputs", patches.gram(columns))

    def _add_goals(self, goal: Tensor) -> None:
        """Their covariance is asked for where each sample has but one: see `_threshold`."""
        self.columns += goal.numel() // self.patches.outputs
        self.sums.add("goal", goal.square().sum())
        if self.asked.significance and self._one_goal(goal):
            self.sums.add("goals", outer(self.patches.goal_columns(goal)))

    def _widest(self, seen: Signals) -> int:
        """Numbers per sample of the larger of P and [V_d]."""
        producer, consumer = self.site.producer, self.site.consumer
        goals = seen.middle[0, 0].numel() if isinstance(consumer, nn.Conv2d) else 1
        return max(_numbers(producer, seen.inputs), self.patches.fan_out * goals)

    def _one_goal(self, goal: Tensor) -> bool:
        """Whether each sample has a single goal, so that what Gaussian ones would do is known in law: see `spurious`."""
        return goal[0].numel() == self.patches.outputs and not self.patches.flattened

    def _add_null(self, seen: Signals) -> None:
        """Gaussian goals with the covariance of the first samples' goals, that between positions included (D.3)."""
        goals = seen.goal[:_NULL_SAMPLES]
        n = self.null_samples = len(goals)
        for inputs, rows in _pieces(self._widest(seen), seen.inputs[:n], torch.randn(n, n).to(goals)):
            mixed = (rows @ goals.flatten(1) / n**0.5).view(-1, *goals.shape[1:])
            self.sums.add("null", self.patches.cross(self.patches.fan_in_columns(inputs), mixed))

    def finish(self) -> Statistics:
        asked, sums, name, n = self.asked, self.sums.of, self.site.name, self.samples
        whitening = None
        if asked.whiten:
            whitening = asked.known_whitening.get(name)
            if whitening is None:
                rtol = _told_apart(asked.rtol, self.site.producer.weight.dtype)
                whitening = whitening_of(sums["inputs"] / n, rtol)
        return Statistics(
            site=self.site,
            patches=self.patches,
            samples=n,
            cross=sums["cross"] / n,
            whitening=whitening,
            update=self.update,
            goal=float(sums["goal"]) / n,
            bottleneck=float(sums["left"]) / n,
            threshold=self._threshold(n, whitening),
            reads=self.columns,
        )

    def _threshold(self, n: int, whitening: Tensor | None) -> float:
        if not self.asked.significance or whitening is None:
            return 0.0
        if "null" in self.sums.of:
            # λ of pure chance falls with the root of the samples
            null = whitening.T @ self.sums.of["null"] / self.null_samples
            return largest_singular_value(null) * (self.null_samples / n) ** 0.5
        seed = int(torch.randint(2**62, ()))
        covariance = self.sums.of["goals"] / self.columns
        return spurious(whitening.shape[1], covariance, n, torch.Generator().manual_seed(seed))


def _told_apart(rtol: float, dtype: torch.dtype) -> float:
    """`rtol`, or what products in this dtype are rounded by if that is more: a direction below it is rounding alone."""
    return max(rtol, torch.finfo(dtype).eps)


def _numbers(producer: LinearMap, inputs: Tensor) -> int:
    """About how many numbers the patches of one sample hold."""
    positions = inputs[0].numel() // producer.weight.shape[1]
    if isinstance(producer, nn.Conv2d):
        positions //= producer.stride[0] * producer.stride[1]
    return max(1, positions) * producer.weight[0].numel()


def _fetch(parts: Sequence[_SiteSums]) -> None:
    """Have the sums of all sites that the CPU solves there, in one transfer."""
    wanted = [(part.sums.of, name) for part in parts if solved_here(part.patches) for name in part.sums.of]
    wanted = [(sums, name) for sums, name in wanted if waits(sums[name].device)]
    for (sums, name), here in zip(wanted, fetched([sums[name] for sums, name in wanted]), strict=True):
        sums[name] = here


def solved_here(patches: SitePatches) -> bool:
    """Whether the matrices of a site are so small that the CPU solves them, wherever the net is."""
    return max(patches.fan_in, patches.fan_out, patches.site.consumer.weight[0].numel() + 1) ** 2 <= SOLVED_HERE


def _pieces(numbers_per_sample: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Parts of a minibatch whose columns fit the cache."""
    size = max(1, piece(_PIECE, tensors[0].device) // numbers_per_sample)
    return zip(*(t.split(size) for t in tensors), strict=True)


@dataclass
class Observer:
    """Looks at sites of a run's net, on `samples` samples, or on as many as each site's sums need.

    The estimates' variance falls with samples × positions and rises with the square of the matrices' side, so that
    n = side²/positions keeps it where it is while the net grows (TINY, D.1), `most` being the limit.
    """

    samples: int | None
    most: int
    rtol: float = 1e-3
    update: bool = True
    whiten: bool = True
    significance: bool = True
    _known: dict[str, Tensor] = field(default_factory=dict)

    def observe(self, now: Moment, sites: Sequence[WidthSite], whitened: list[str]) -> list[Statistics]:
        """Statistics of each site.

        :param whitened: sites whose raw inputs the run has whitened, in this process or in one before; those that are whitened
            now are added
        """
        x, y = next(iter(draw(now.data, 2, 2)))
        counts = []
        for site, seen in zip(sites, signals(now.model, sites, x, y, now.loss), strict=True):
            patches = SitePatches(site)
            positions = seen.middle.numel() // (len(x) * patches.site.units)
            side = max(patches.fan_in, patches.fan_out, site.consumer.weight[0].numel() + 1 if self.update else 0)
            needed = max(max(side**2, _FEWEST_READS) / positions, _FEWEST_SAMPLES)
            n = min(round(needed), self.most) if self.samples is None else self.samples
            counts.append(min(n, len(now.data.train)))
            raw = seen.inputs.data_ptr() == x.data_ptr() and now.data.augment is None
            if self.whiten and raw and patches.fan_in >= _WORTH_KEEPING and site.name not in self._known:
                most = max(self.most, self.samples or 0)
                with counted_before() if site.name in whitened else nullcontext():
                    self._known[site.name] = _inputs_whitening(now, patches, seen.inputs.shape[1:], self.rtol, most)
                if site.name not in whitened:
                    whitened.append(site.name)
        n = max(counts)
        batch_size = max(now.batch_size, min(_BATCH, now.config.evaluate.batch_size))
        collector = Collector(
            now.model, now.loss, self.rtol, self.update, self.whiten, self.significance, known_whitening=self._known
        )
        return collector.collect(sites, draw(now.data, n, batch_size), counts)


def _inputs_whitening(now: Moment, patches: SitePatches, shape: torch.Size, rtol: float, most: int) -> Tensor:
    """The whitening of the net's own inputs, which do not change: computed once.

    On at most `most` samples from all over the training split: the same when a run continues after an interruption.
    """
    sums, key = _Sums(), object()
    samples = len(now.data.train)
    n = min(samples, most)
    chosen = now.data.train.x[torch.arange(n, device=now.data.train.x.device) * samples // n]
    for x in chosen.split(_BATCH):
        inputs = now.data.prepare(x).view(len(x), *shape)
        for (part,) in _pieces(_numbers(patches.site.producer, inputs), inputs):
            with alike(key, len(part)):
                sums.add("inputs", patches.gram(patches.fan_in_columns(part)))
    gram = sums.of["inputs"] / len(chosen)
    gram = fetched([gram])[0] if solved_here(patches) else gram
    return whitening_of(gram, _told_apart(rtol, inputs.dtype))
