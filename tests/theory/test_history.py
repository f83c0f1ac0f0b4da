"""The streaming history: it agrees with the snapshots it has seen, in every dtype, on every medium, and after a resume."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grow_cli.theory.history import History
from grow_cli.theory.storage import planned_bytes
from grow_cli.theory.trajectory import TrajectoryMetrics, extrapolate, trajectory_metrics

SHAPES = {"fc.weight": (30, 40), "fc.bias": (30,), "norm.weight": (7,)}


class Walk:
    """Tensors that drift and diffuse, and the snapshots (P,) that have been taken of them."""

    def __init__(self, shapes: dict[str, tuple[int, ...]] = SHAPES, drift: float = 0.5, seed: int = 0) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self.tensors = {name: nn.Parameter(self._noise(shape)) for name, shape in shapes.items()}
        self._heading = {name: drift * self._noise(shape) for name, shape in shapes.items()}
        self.snapshots: list[dict[str, Tensor]] = []

    def _noise(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self._random)

    def step(self) -> None:
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor += 1e-3 * (self._heading[name] + self._noise(tensor.shape))

    def record(self, history: History, count: int) -> None:
        """Take `count` more snapshots, a step apart."""
        for _ in range(count):
            self.step()
            history.append(len(self.snapshots))
            self.snapshots.append({name: t.detach().clone() for name, t in self.tensors.items()})

    def seen(self, history: History, name: str | None = None) -> Tensor:
        """The snapshots that the history should hold (S, P): of one tensor, or of the product space."""
        held = [self.snapshots[step] for step in history.steps]
        return torch.stack(
            [torch.cat([t.flatten() for key, t in s.items() if name in (None, key)]).float() for s in held]
        )


def watching(walk: Walk, *arguments: Any, **keywords: Any) -> History:
    history = History(*arguments, **keywords)
    history.watch(walk.tensors)
    return history


def assert_metrics(found: TrajectoryMetrics, expected: TrajectoryMetrics, relative: float = 1e-5) -> None:
    for name in ("tau", "kappa", "rho"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=relative), name


@pytest.mark.parametrize("sampling", ["uniform", "adaptive"])
@pytest.mark.parametrize("count", [3, 8, 9, 60])
def test_metrics_and_weights_are_those_of_the_snapshots_held(count: int, sampling: Any) -> None:
    walk = Walk()
    history = watching(walk, 9, sampling=sampling)
    walk.record(history, count)
    assert_metrics(history.metrics(), trajectory_metrics(walk.seen(history)))
    new = history.extrapolate(rank=2, kappa_crit=0, tau_crit=0)
    for name, metrics in history.metrics_per_tensor().items():
        snapshots = walk.seen(history, name)
        assert_metrics(metrics, trajectory_metrics(snapshots))
        expected = extrapolate(snapshots, rank=2, kappa_crit=0, tau_crit=0, durations=history.durations)
        assert new[name].escape == expected.escape
        assert new[name].weights.shape == walk.tensors[name].shape
        torch.testing.assert_close(new[name].weights.flatten(), expected.weights, rtol=0, atol=2e-5)


def test_large_tensors_agree_across_chunks() -> None:
    walk = Walk({"weight": (300_000,), "bias": (9_000,)})
    history = watching(walk, 5)
    walk.record(history, 7)
    assert_metrics(history.metrics(), trajectory_metrics(walk.seen(history)), relative=1e-6)
    expected = extrapolate(walk.seen(history, "weight"), rank=2)
    torch.testing.assert_close(history.extrapolate(rank=2)["weight"].weights, expected.weights, rtol=0, atol=1e-6)


def test_product_space_is_the_concatenation_of_the_tensors() -> None:
    walk = Walk()
    apart, together = watching(walk, 6), History(6)
    flat = torch.empty(sum(t.numel() for t in walk.tensors.values()))
    together.watch({"all": flat})
    for index in range(8):
        walk.step()
        flat.copy_(torch.cat([t.detach().flatten() for t in walk.tensors.values()]))
        apart.append(index)
        together.append(index)
    assert_metrics(apart.metrics(), together.metrics(), relative=1e-9)


@pytest.mark.parametrize("drift", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("dtype", ["int8", "float16"])
@pytest.mark.parametrize("sampling", ["uniform", "adaptive"])
def test_coarse_velocities_keep_metrics_within_two_percent(dtype: Any, drift: float, sampling: Any) -> None:
    walk = Walk(drift=drift)
    exact, coarse = watching(walk, 20, sampling=sampling), watching(walk, 20, dtype=dtype, sampling=sampling)
    for index in range(60):
        walk.step()
        exact.append(index)
        coarse.append(index)
    relative = {"int8": 0.02, "float16": 1e-3}[dtype]
    assert_metrics(coarse.metrics(), exact.metrics(), relative)
    for name, metrics in coarse.metrics_per_tensor().items():
        assert_metrics(metrics, exact.metrics_per_tensor()[name], relative)
    for name, new in coarse.extrapolate(rank=5).items():  # the exact last snapshot, and a step that is a little off
        torch.testing.assert_close(new.weights, exact.extrapolate(rank=5)[name].weights, rtol=0, atol=0.05)


@pytest.mark.parametrize("sampling", ["uniform", "adaptive"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_gram_matrices_are_those_of_the_stored_velocities_less_the_energy_of_int8s_rounding(
    dtype: Any, sampling: Any
) -> None:
    walk = Walk()
    history = watching(walk, 8, dtype=dtype, sampling=sampling)
    walk.record(history, 40)
    state = history.state_dict()
    codes, scales, order = state["codes"].double(), state["scales"].double(), state["order"]
    start = 0
    for tensor, size in enumerate(state["sizes"]):
        velocities = (codes[:, start : start + size] * scales[tensor][:, None])[order]
        start += size
        K, expected = history._gram()[tensor], velocities @ velocities.T
        if dtype == "int8":
            energies = state["energies"][tensor, order]
            expected -= energies.sum(dim=1).diag()
            expected += energies[:-1, 1].diag(1) + energies[:-1, 1].diag(-1)
        torch.testing.assert_close(K, expected, rtol=1e-10, atol=1e-12 * K.max().item())


def test_velocities_far_below_float16_keep_their_digits() -> None:
    tensor = torch.zeros(1000)
    exact, coarse = History(6), History(6, dtype="float16")
    random = torch.Generator().manual_seed(0)
    for history in (exact, coarse):
        history.watch({"w": tensor})
    for index in range(6):
        tensor += 1e-9 * torch.randn(1000, generator=random)
        exact.append(index)
        coarse.append(index)
    assert_metrics(coarse.metrics(), exact.metrics(), relative=1e-3)


class Motion:
    """One tensor whose entries wander by 1e-4, and which is recorded exactly and in int8."""

    def __init__(self, sampling: str, seed: int, entries: int = 1500) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self.weights, self.heading = self.noise(entries), self.noise(entries)
        self.exact, self.coarse = History(20, sampling=sampling), History(20, dtype="int8", sampling=sampling)
        for history in (self.exact, self.coarse):
            history.watch({"w": self.weights})

    def noise(self, entries: int) -> Tensor:
        return torch.randn(entries, generator=self._random)

    def record(self, drift: float, fast: float) -> None:
        """Until adaptive windows have filled and merged many times: all drift along a heading, one entry runs away."""
        for index in range(160):
            self.exact.append(index)
            self.coarse.append(index)
            step = drift * self.heading + self.noise(len(self.weights))
            step[0] += fast
            self.weights += 1e-4 * step


@pytest.mark.parametrize(
    ("sampling", "drift", "fast", "within"),
    [
        ("uniform", 0, 100, 0.01),
        ("uniform", 0, 300, 0.02),
        ("uniform", 0, 1000, 0.2),
        ("uniform", 100, 0, 0.02),
        ("adaptive", 0, 100, 0.03),
        ("adaptive", 10, 0, 0.02),
        ("adaptive", 30, 0, 0.05),
        ("adaptive", 5, 50, 0.03),
    ],
)
def test_int8_keeps_kappa_with_one_fast_entry_and_on_a_straight_drift_that_is_merged(
    sampling: str, drift: float, fast: float, within: float
) -> None:
    """An entry 1000 times as fast as the others leaves them an eighth of a code each: there 96 % of kappa were lost."""
    errors = []
    for seed in range(3):
        motion = Motion(sampling, seed)
        motion.record(drift, fast)
        exact, coarse = motion.exact.metrics(), motion.coarse.metrics()
        assert coarse.tau == pytest.approx(exact.tau, rel=1e-3)
        assert coarse.rho == pytest.approx(exact.rho, rel=1e-2)
        errors.append(coarse.kappa / exact.kappa - 1)
    assert max(map(abs, errors)) < 2 * within
    assert abs(sum(errors)) / len(errors) < within, "no bias"


@pytest.mark.parametrize("sampling", ["uniform", "adaptive"])
def test_int8_sums_of_velocities_hold_to_a_code_however_many_there_are(sampling: str) -> None:
    motion = Motion(sampling, seed=9)
    taken = {}
    for index in range(20):  # no merge of adaptive sampling's is rounded twice yet
        motion.coarse.append(index)
        taken[index] = motion.weights.clone()
        motion.weights += 1e-4 * motion.noise(len(motion.weights))
    state, order = motion.coarse.state_dict(), motion.coarse._order
    stored = (state["codes"].double() * state["scales"][0][:, None])[order].sum(dim=0)
    passed = (taken[motion.coarse.steps[-1]] - taken[motion.coarse.steps[0]]).double()
    merges = sum(duration > 1 for duration in motion.coarse.durations)
    assert (stored - passed).abs().max() <= (2 + 3 * merges) * state["scales"].max().item()


def test_an_int8_history_saved_before_it_had_a_loop_is_continued() -> None:
    walk = Walk()
    history = watching(walk, 6, dtype="int8")
    walk.record(history, 6)
    state = {name: value for name, value in history.state_dict().items() if name not in history._store._loop}  # type: ignore[union-attr]
    again = watching(walk, 6, dtype="int8")
    again.load_state_dict(state)
    assert_metrics(again.metrics(), history.metrics(), relative=0.01)
    walk.record(again, 6)


def keeps(step: int, newest: int, window: int) -> bool:
    """Remark 20's rule, written out: every snapshot, then every 4th, then every 20th."""
    third = window // 3
    recent = window - 2 * third
    age = newest - step
    bands = [(recent, 1), (recent + 4 * third, 4), (recent + 24 * third, 20)]
    return any(age < end and step % stride == 0 for end, stride in bands)


@pytest.mark.parametrize("window", [6, 7, 20])
def test_adaptive_sampling_thins_old_snapshots_and_fills_the_window(window: int) -> None:
    walk = Walk({"w": (3,)})
    history = watching(walk, window, sampling="adaptive")
    for newest in range(10 * window):
        walk.record(history, 1)
        assert history.steps == [step for step in range(newest + 1) if keeps(step, newest, window)]
        assert len(history) <= window
    assert history.full


def test_adaptive_sampling_survives_gaps_in_the_numbering() -> None:
    tensor = torch.zeros(5)
    history = History(7, sampling="adaptive")
    history.watch({"w": tensor})
    random = torch.Generator().manual_seed(0)
    taken = {}
    for index in [0, 3, 4, 30, 31, 32, 200, 219, 220, 221, 240, 300, 301]:
        tensor += torch.randn(5, generator=random)
        taken[index] = tensor.clone()
        history.append(index)
        if len(history) >= 3:
            assert_metrics(history.metrics(), trajectory_metrics(torch.stack([taken[i] for i in history.steps])))


def test_uniform_sampling_keeps_the_last_snapshots() -> None:
    walk = Walk()
    history = watching(walk, 5)
    for count in range(1, 9):
        walk.record(history, 1)
        assert history.steps == list(range(max(0, count - 5), count))
        assert len(history) == min(count, 5)
        assert history.full == (count >= 5)


def test_smoothing_records_an_exponential_moving_average() -> None:
    walk = Walk()
    history = watching(walk, 5, smoothing=0.9)
    average = {name: t.detach().clone() for name, t in walk.tensors.items()}
    averages = []
    for index in range(6):
        for _ in range(10):
            walk.step()
            history.smooth()
            average = {name: 0.9 * a + 0.1 * walk.tensors[name].detach() for name, a in average.items()}
        history.append(index)
        averages.append(torch.cat([a.flatten() for a in average.values()]))
    assert_metrics(history.metrics(), trajectory_metrics(torch.stack(averages[-5:])), relative=1e-3)
    for name, new in history.extrapolate(beta0=0, gamma0=0, eta0=0).items():
        torch.testing.assert_close(new.weights, average[name])


def test_smoothing_straightens_a_noisy_trajectory() -> None:
    walk = Walk(drift=0.1)
    plain, smooth = watching(walk, 20), watching(walk, 20, smoothing=0.95)
    for index in range(20):
        for _ in range(5):
            walk.step()
            smooth.smooth()
        plain.append(index)
        smooth.append(index)
    assert smooth.metrics().tau < plain.metrics().tau


@pytest.mark.parametrize("smoothing", [0.0, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_memory_is_what_the_plan_says(dtype: Any, smoothing: float, tmp_path: Path) -> None:
    sizes = [1200, 30, 7]
    plan = planned_bytes(8, sizes, dtype, smoothing=smoothing > 0)
    for storage in ({}, {"storage": "cpu"}, {"storage": "file", "path": tmp_path / "velocities"}):
        walk = Walk()
        history = watching(walk, 8, dtype=dtype, smoothing=smoothing, **storage)
        assert history.nbytes == plan
        walk.record(history, 12)
        assert history.nbytes == plan
        history.close()
        assert history.nbytes == 0
    itemsize = {"float32": 4, "float16": 2, "int8": 1}[dtype]
    snapshots = 8 if smoothing else 4
    loop = 1237 * 2 + 3 * (7 * 3 * 8 + 8 + 4) if dtype == "int8" else 0
    assert plan == 7 * 1237 * itemsize + 1237 * snapshots + 3 * (7 * 7 * 8 + 7 * 4) + loop


@pytest.mark.parametrize("storage", ["cpu", "file"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_media_give_identical_results(storage: Any, dtype: Any, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "velocities" if storage == "file" else None
    walk = Walk()
    here = watching(walk, 6, dtype=dtype)
    there = watching(walk, 6, dtype=dtype, storage=storage, path=path)
    for index in range(9):
        walk.step()
        here.append(index)
        there.append(index)
    assert here.metrics() == there.metrics()
    for name, new in here.extrapolate().items():
        assert torch.equal(new.weights, there.extrapolate()[name].weights)
    if path is not None:
        assert path.stat().st_size == 5 * 1237 * {"float32": 4, "int8": 1}[dtype]
        there.close()
        assert not path.exists()


@pytest.mark.parametrize("smoothing", [0.0, 0.9])
@pytest.mark.parametrize("sampling", ["uniform", "adaptive"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("taken", [0, 1, 4, 30])
def test_a_resumed_history_continues_bit_for_bit(
    dtype: Any, sampling: Any, smoothing: float, taken: int, tmp_path: Path
) -> None:
    settings = {"dtype": dtype, "sampling": sampling, "smoothing": smoothing}
    walk = Walk()
    history = watching(walk, 8, **settings)

    def train(walk: Walk, history: History, indices: range) -> Iterator[TrajectoryMetrics]:
        for index in indices:
            walk.step()
            history.smooth()
            history.append(index)
            if len(history) >= 3:
                yield history.metrics()

    list(train(walk, history, range(taken)))
    torch.save(history.state_dict(), tmp_path / "history.pt")
    rebuilt = Walk()
    rebuilt.tensors = copy.deepcopy(walk.tensors)
    rebuilt._random.set_state(walk._random.get_state())
    resumed = watching(rebuilt, 8, **settings)
    resumed.load_state_dict(torch.load(tmp_path / "history.pt", weights_only=True))

    more = range(taken, taken + 12)
    assert list(train(walk, history, more)) == list(train(rebuilt, resumed, more))
    assert history.steps == resumed.steps
    for name, new in history.extrapolate(rank=2).items():
        assert torch.equal(new.weights, resumed.extrapolate(rank=2)[name].weights)


@pytest.mark.parametrize(
    ("other", "key"),
    [
        ({"window": 9}, "window"),
        ({"window": 8, "dtype": "int8"}, "dtype"),
        ({"window": 8, "sampling": "adaptive"}, "sampling"),
        ({"window": 8, "smoothing": 0.5}, "smoothed"),
    ],
)
def test_a_history_saved_with_other_settings_is_refused(other: dict[str, Any], key: str) -> None:
    walk = Walk()
    saved = watching(walk, 8).state_dict()
    with pytest.raises(ValueError, match=key):
        watching(walk, **other).load_state_dict(saved)
    with pytest.raises(ValueError, match="names"):
        watching(Walk({"w": (3,)}), 8).load_state_dict(saved)


def test_watching_again_starts_an_empty_history(tmp_path: Path) -> None:
    path = tmp_path / "velocities"
    walk, grown = Walk(), Walk({"w": (50,)})
    history = watching(walk, 5, storage="file", path=path)
    walk.record(history, 5)
    history.watch(grown.tensors)
    assert history.steps == []
    assert not history.full
    assert path.stat().st_size == 4 * 50 * 4
    grown.record(history, 4)
    assert_metrics(history.metrics(), trajectory_metrics(grown.seen(history)))


def test_low_precision_parameters_get_weights_of_their_own_dtype() -> None:
    tensors = {"w": torch.randn(20, dtype=torch.bfloat16), "b": torch.randn(4, dtype=torch.float64)}
    history = History(5, smoothing=0.5)
    history.watch(tensors)
    for index in range(4):
        for tensor in tensors.values():
            tensor += 0.1
        history.smooth()
        history.append(index)
    for name, new in history.extrapolate().items():
        assert new.weights.dtype == tensors[name].dtype


def test_recording_leaves_the_parameters_alone() -> None:
    walk = Walk()
    before = {name: t.detach().clone() for name, t in walk.tensors.items()}
    history = watching(walk, 5, smoothing=0.5)
    for index in range(7):
        history.smooth()
        history.append(index)
    history.extrapolate()
    for name, tensor in walk.tensors.items():
        assert torch.equal(tensor.detach(), before[name])
        assert tensor.requires_grad


def test_a_diverged_trajectory_is_reported() -> None:
    for dtype in ("float32", "float16", "int8"):
        walk = Walk()
        history = watching(walk, 5, dtype=dtype)
        walk.record(history, 3)
        walk.tensors["fc.bias"].data[0] = float("nan")
        walk.record(history, 1)
        with pytest.raises(ValueError, match="not finite"):
            history.metrics()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"window": 2}, "window is 2"),
        ({"window": 5, "sampling": "adaptive"}, "6 snapshots"),
        ({"window": 5, "sampling": "random"}, "sampling"),
        ({"window": 5, "dtype": "int4"}, "dtype"),
        ({"window": 5, "storage": "tape"}, "storage"),
        ({"window": 5, "storage": "file"}, "path"),
        ({"window": 5, "path": "x"}, "path"),
        ({"window": 5, "smoothing": 1.0}, "smoothing"),
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        History(**arguments)


def test_misuse_is_refused_in_a_sentence() -> None:
    history = History(5)
    assert (len(history), history.steps, history.full, history.nbytes) == (0, [], False, 0)
    for use in (lambda: history.append(0), history.metrics, history.state_dict):
        with pytest.raises(ValueError, match="watch"):
            use()
    for tensors, sentence in (
        ({}, "at least one"),
        ({"n": torch.zeros(3).long()}, "n is"),
        ({"e": torch.zeros(0)}, "e is"),
    ):
        with pytest.raises(ValueError, match=sentence):
            history.watch(tensors)
    history.watch({"w": torch.zeros(3)})
    history.append(4)
    with pytest.raises(ValueError, match="upwards"):
        history.append(4)
    with pytest.raises(ValueError, match="holds 1 of the 3 snapshots"):
        history.metrics()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("sampling", ["uniform", "adaptive"])
def test_appending_never_waits_for_the_gpu(dtype: Any, sampling: Any) -> None:
    tensors = {"w": torch.randn(1000, 300, device="cuda"), "b": torch.randn(300, device="cuda")}
    host = {name: t.cpu() for name, t in tensors.items()}
    history, on_host = (
        History(8, dtype=dtype, sampling=sampling, smoothing=0.5),
        History(8, dtype, smoothing=0.5),
    )
    on_host.sampling = sampling
    history.watch(tensors)
    on_host.watch(host)
    steps = [{name: torch.randn_like(t) for name, t in tensors.items()} for _ in range(40)]
    for index, step in enumerate(steps):
        torch.cuda.set_sync_debug_mode("error")
        for name, tensor in tensors.items():
            tensor += step[name]
        history.smooth()
        history.append(index)
        torch.cuda.set_sync_debug_mode("default")
        for name, tensor in host.items():
            tensor += step[name].cpu()
        on_host.smooth()
        on_host.append(index)
    assert_metrics(history.metrics(), on_host.metrics(), relative=1e-3)
    assert history.extrapolate()["w"].weights.is_cuda
