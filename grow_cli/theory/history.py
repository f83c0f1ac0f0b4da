"""The trajectory of one layer, recorded while it trains (Alether, Definitions 1-2, Remark 20).

    history = History(window=20)
    history.watch(dict(layer.named_parameters()))
    ...                                     # every Δ_collect training steps:
    history.append(count)
    if history.full and history.metrics().tau > 2:
        new = {name: e.weights for name, e in history.extrapolate().items()}

Velocities are stored, not snapshots, with the last snapshot exact beside them: a coarse dtype then rounds small
differences and not large weights. Each new snapshot costs one pass over the stored velocities, which extends
the Gram matrices that `theory.trajectory` reads everything from.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grow_cli.errors import check
from grow_cli.theory.drift import Drift, drift_of
from grow_cli.theory.rounding import roundings
from grow_cli.theory.storage import DTYPES, VelocityStore
from grow_cli.theory.trajectory import Extrapolation, TrajectoryMetrics, coefficients, metrics_from_gram
from grow_cli.theory.walk import walk_metrics


class History:
    """Rolling window of the last snapshots of a product of tensors.

    window: S, snapshots held at most.
    dtype: of the stored velocities; int8 and float16 carry one scale per tensor and velocity.
    storage: "device" keeps them where the tensors are, and appending then never waits for a GPU; "cpu" moves
        them to host memory; "file" to a memory-mapped file at `path`, which `close` removes.
    sampling: "uniform" keeps the last S snapshots; "adaptive" thins older ones to every 4th, then every 20th
        (Remark 20: every 50, 200 and 1000 steps), a third of the window each.
    smoothing: 0 records the tensors; s > 0 records their exponential moving average, which `smooth` moves by
        1 - s towards them at every training step.
    """

    def __init__(
        self,
        window: int,
        dtype: str = "float32",
        storage: str = "device",
        path: Path | None = None,
        sampling: str = "uniform",
        smoothing: float = 0.0,
    ) -> None:
        least = 6 if sampling == "adaptive" else 3
        check(sampling in ("uniform", "adaptive"), f"sampling is {sampling!r}: choose uniform or adaptive")
        check(window >= least, f"window is {window}: {sampling} sampling needs {least} snapshots or more")
        check(dtype in DTYPES, f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
        check(storage in ("device", "cpu", "file"), f"storage is {storage!r}: choose device, cpu or file")
        check(
            (storage == "file") == (path is not None),
            "storage=file needs a path, and only storage=file takes one",
        )
        check(0 <= smoothing < 1, f"smoothing is {smoothing}: give a number from 0 (off) to below 1")
        self.window, self.dtype, self.storage, self.path = window, dtype, storage, path
        self.sampling, self.smoothing = sampling, smoothing
        self._bands = _bands(window)
        self._watched: dict[str, Tensor] = {}
        self._store: VelocityStore | None = None

    def watch(self, named_tensors: dict[str, Tensor]) -> None:
        """Start an empty history of these tensors, which are read in place at every `append`."""
        check(len(named_tensors) > 0, "there is no tensor to watch: name at least one")
        devices = {tensor.device for tensor in named_tensors.values()}
        check(len(devices) == 1, f"the tensors lie on {sorted(map(str, devices))}: move them to one device")
        for name, tensor in named_tensors.items():
            usable = tensor.is_floating_point() and tensor.numel() > 0
            check(
                usable,
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}: watch non-empty float tensors only",
            )
        self.close()
        device = devices.pop()
        home = device if self.storage == "device" else torch.device("cpu")
        pin = self.storage == "cpu" and device.type == "cuda"
        self._watched = dict(named_tensors)
        self._sizes = [tensor.numel() for tensor in named_tensors.values()]
        self._store = VelocityStore(self.window - 1, self._sizes, self.dtype, home, pin=pin, path=self.path)
        self._last = torch.zeros(sum(self._sizes), device=home, pin_memory=pin)
        self._average = torch.cat(self._present()) if self.smoothing else None
        self._steps: list[int] = []
        self._order: list[int] = []  # slots of the velocities, oldest first: one fewer than there are steps

    @torch.no_grad()
    def smooth(self) -> None:
        """Move the average towards the tensors: call at every training step. Does nothing when smoothing is 0."""
        if self._average is not None:
            torch._foreach_lerp_(self._recorded(), self._present(), 1 - self.smoothing)

    @torch.no_grad()
    def append(self, index: int) -> None:
        """Take snapshot number `index` (a count that grows by one each time) now."""
        store = self._opened()
        steps, order = self._steps, self._order
        check(not steps or index > steps[-1], f"snapshot {index} follows {steps[-1:]}: number snapshots upwards")
        changed = self._drop_old(index, store)
        present = [tensor.to(self._last.device) for tensor in self._recorded()]
        last = list(self._last.split(self._sizes))
        if steps:
            for old, new in zip(last, present, strict=True):
                torch.sub(new, old, out=old)  # the velocity, in the memory of the snapshot that it replaces
            slot = min(set(range(self.window - 1)).difference(order))
            store.write(slot, self._last, turn=index * self.window)
            order.append(slot)
            store.update_gram([*changed, slot], used=max(order) + 1)
        torch._foreach_copy_(last, present)
        steps.append(index)

    @property
    def full(self) -> bool:
        """Whether the window holds S snapshots (with adaptive sampling: after about 8 S of them)."""
        return len(self) == self.window

    @property
    def steps(self) -> list[int]:
        """The numbers of the snapshots held, oldest first."""
        return list(self._steps) if self._watched else []

    @property
    def durations(self) -> list[int]:
        """The time from each snapshot held to the next, in snapshots: all 1 when sampling is uniform."""
        return [after - before for before, after in itertools.pairwise(self.steps)]

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def nbytes(self) -> int:
        """Bytes held, on whichever medium; `storage.planned_bytes` says how many beforehand."""
        return sum(tensor.nbytes for tensor in self._tensors().values()) if self._watched else 0

    def metrics(self, eps: float = 1e-8) -> TrajectoryMetrics:
        """τ, κ and ρ of the product space (Def. 1), whose Gram matrix is the sum of the tensors'."""
        return metrics_from_gram(self._gram().sum(dim=0), eps)

    def walk_metrics(self, every: int) -> TrajectoryMetrics:
        """What a driftless random walk would read here, its snapshots taken `every` training steps."""
        self._check_length()
        return walk_metrics([every * step for step in self.steps], self.smoothing)

    def drift(self, level: float = 0.05) -> Drift:
        """Whether the product space still drifts: `drift.drift_of` its Gram matrix."""
        return drift_of(self._gram().sum(dim=0), level)

    def metrics_per_tensor(self, eps: float = 1e-8) -> dict[str, TrajectoryMetrics]:
        """τ, κ and ρ of each tensor separately."""
        return {name: metrics_from_gram(K, eps) for name, K in zip(self._watched, self._gram(), strict=True)}

    @torch.no_grad()
    def extrapolate(self, **hyperparameters: Any) -> dict[str, Extrapolation]:
        """Algorithm 1 on each tensor; the hyperparameters are those of `trajectory.coefficients`.

        Weights have the shape, dtype and device of the watched tensor. Time counts in snapshots: those that adaptive
        sampling has dropped count too.
        """
        plans = [
            coefficients(K, durations=self.durations, resolution=resolution, **hyperparameters)
            for K, resolution in zip(self._gram(), self._resolutions(), strict=True)
        ]
        flat = self._opened().combine(self._order, [plan.c for plan in plans]).add_(self._last)
        return {
            name: Extrapolation(weights=weights.view(tensor.shape).to(tensor), **vars(plan))
            for (name, tensor), plan, weights in zip(self._watched.items(), plans, flat.split(self._sizes), strict=True)
        }

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors, numbers and lists. The tensors are the live ones, as an optimizer's are: save them first."""
        self._opened()
        return self._layout() | {"steps": list(self._steps), "order": list(self._order)} | self._tensors()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue a saved history; the rebuilt layer's tensors must be watched already."""
        self._opened()
        for key, mine in self._layout().items():
            theirs = state[key]
            check(
                mine == theirs,
                f"the saved history has {key}={theirs}, this one {mine}: resume with the saved value",
            )
        self._steps, self._order = list(state["steps"]), list(state["order"])
        for name, tensor in self._tensors().items():
            if name in state:  # what an older history did not carry was zero
                tensor.copy_(state[name])

    def close(self) -> None:
        """Forget everything and remove the file, if there is one."""
        if self._store is not None:
            self._store.close()
        self._store, self._watched = None, {}

    def _drop_old(self, index: int, store: VelocityStore) -> list[int]:
        """Make room for snapshot `index`. Returns the slots whose velocities changed."""
        steps, order = self._steps, self._order
        if self.sampling == "uniform":
            dropped = [0] if self.full else []
        else:  # never the last, from which the next velocity is measured
            dropped = [at for at, step in enumerate(steps[:-1]) if not _keeps(step, index - step, self._bands)]
        changed = set()
        for at in reversed(dropped):
            if at > 0:  # an inner one: the velocities into and out of it become one
                store.merge(order[at - 1], order[at], turn=index * self.window + at)
                changed.add(order[at - 1])
            del steps[at], order[at]
        return sorted(changed.intersection(order))

    def _present(self) -> list[Tensor]:
        """The watched tensors, flat, float32."""
        return [tensor.detach().reshape(-1).float() for tensor in self._watched.values()]

    def _recorded(self) -> list[Tensor]:
        """What snapshots are taken of: the watched tensors, or with smoothing their average."""
        return self._present() if self._average is None else list(self._average.split(self._sizes))

    def _resolutions(self) -> list[float]:
        """How far rounding may have moved a snapshot of each tensor: that of its own dtype, of float32, and of the average."""
        # the average is rounded at every step, and forgets at that rate
        repeated = 1 / math.sqrt(1 - self.smoothing**2)
        coarser = [max(1.0, torch.finfo(t.dtype).eps / torch.finfo(torch.float32).eps) for t in self._watched.values()]
        pieces, stored = self._last.split(self._sizes), self._opened().rounding()
        return [
            repeated * factor * own + rest for factor, own, rest in zip(coarser, roundings(pieces), stored, strict=True)
        ]

    def _gram(self) -> Tensor:
        store = self._opened()
        self._check_length()
        return store.gram(self._order)

    def _check_length(self) -> None:
        check(
            len(self) >= 3,
            f"the history holds {len(self)} of the 3 snapshots that are needed: wait until it has 3, or until `full`",
        )

    def _opened(self) -> VelocityStore:
        if self._store is None:
            raise ValueError("the history watches nothing: call watch() first")
        return self._store

    def _layout(self) -> dict[str, Any]:
        """What a saved history and this one must agree on."""
        return {
            "window": self.window,
            "dtype": self.dtype,
            "sampling": self.sampling,
            "smoothed": self._average is not None,
            "names": list(self._watched),
            "sizes": self._sizes,
        }

    def _tensors(self) -> dict[str, Tensor]:
        average = {} if self._average is None else {"average": self._average}
        return self._opened().tensors | {"last": self._last} | average


def first_full(window: int, sampling: str) -> list[int]:
    """The numbers of the snapshots that a history holds when its window is full for the first time, oldest first."""
    if sampling == "uniform":
        return list(range(window))
    held: list[int] = []
    bands = _bands(window)
    for newest in itertools.count():
        held = [step for step in held if _keeps(step, newest - step, bands)] + [newest]
        if len(held) == window:
            return held
    raise AssertionError("a window of three bands is full after its oldest one")


def _bands(window: int) -> tuple[int, int, int]:
    """How many snapshots of adaptive sampling are recent, medium and old: a third each, recent takes the rest."""
    third = window // 3
    return window - 2 * third, third, third


def _keeps(step: int, age: int, bands: tuple[int, int, int]) -> bool:
    """Whether adaptive sampling keeps snapshot `step` at this age, both in snapshot counts (Remark 20)."""
    recent, medium, old = bands
    if age < recent:
        return True
    if age < recent + 4 * medium:
        return step % 4 == 0
    return age < recent + 4 * medium + 20 * old and step % 20 == 0
