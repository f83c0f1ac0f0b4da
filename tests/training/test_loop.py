"""The loop: nothing is read back in a step, data order does not depend on growth, warm-up trains the new block only."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from grow_cli.methods.base import WarmUp
from grow_cli.tasks import TASKS
from grow_cli.training.evaluation import measure_split
from grow_cli.training.event import grow as grow_once
from grow_cli.training.event import growth_closed
from grow_cli.training.metrics import Gathered
from grow_cli.training.session import Session
from grow_cli.training.warmup import warm_up_alone

CPU = torch.device("cpu")


class NothingReadBack(TorchDispatchMode):
    """Fails where a value would be copied from the device to the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a value was read back from the device"
        assert func is not torch.ops.aten.nonzero.default, "its result's size must be read back"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("optimizer=sgd", "clip_norm=1.0", "label_smoothing=0.1"),
        ("model=vit", "optimizer=adamw", "precision=bf16", "trajectory.smoothing=0.9"),
        ("model=residual_cnn", "dataset.crop=1", "dataset.flip=true", "trajectory.dtype=int8"),
        ("model=residual_cnn", "trajectory.dtype=float16", "trajectory.sampling=adaptive"),
    ],
    ids=lambda o: "+".join(o) or "default",
)
def test_no_step_synchronises_with_the_host(options: tuple[str, ...], make: Any) -> None:
    loop = make(*options)
    loop.display.start(100, {})
    with NothingReadBack():
        loop._train_until(40)  # past an epoch's end, snapshots and gathered scores
    assert loop.session.progress.step == 40


@pytest.mark.slow
def test_growing_changes_neither_data_order_nor_initialization(make: Any) -> None:
    seen: dict[str, list[Tensor]] = {}
    initial: dict[str, dict[str, Tensor]] = {}
    for method in ("static", "copy", "random", "alether"):
        loop = make(f"method={method}")
        initial[method] = {k: v.clone() for k, v in loop.session.model.state_dict().items()}
        draw, order = loop.session.batches.next, []

        def noted(draw: Any = draw, order: list[Tensor] = order) -> tuple[Tensor, Tensor]:
            x, y = draw()
            order.append(x)
            return x, y

        loop.session.batches.next = noted
        loop.train()
        assert (loop.session.progress.events > 0) == (method != "static")
        seen[method] = order
    for method, order in seen.items():
        assert len(order) == len(seen["static"]) == 180
        assert all(torch.equal(a, b) for a, b in zip(order, seen["static"], strict=True)), method
        assert all(torch.equal(initial[method][k], v) for k, v in initial["static"].items())


def test_the_same_seed_gives_the_same_run_and_another_seed_another(make: Any) -> None:
    ends = []
    for seed in (1, 1, 2):
        loop = make(f"seed={seed}", "stop.epochs=8")
        loop.train()
        ends.append(torch.cat([p.detach().flatten() for p in loop.session.model.parameters()]))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_the_warm_up_trains_the_new_block_only(make: Any) -> None:
    loop = make()
    loop.display.start(100, {})
    loop._train_until(40)
    run = loop.session
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    moments = {p: {k: v.clone() for k, v in s.items()} for p, s in run.optimizer.state.items()}
    new = list(run.model.parameters())[-1]
    rates = []
    step = run.optimizer.step
    run.optimizer.step = lambda: (rates.append(run.optimizer.param_groups[0]["lr"]), step())[1]  # type: ignore[method-assign]
    (first, last), _ = warm_up_alone(run, [new], WarmUp(12, 0.1))
    assert first > 0
    assert last > 0
    assert rates == pytest.approx([0.1 * run.config.optimizer.lr] * 12)
    for name, parameter in run.model.named_parameters():
        assert parameter.requires_grad
        assert torch.equal(parameter, before[name]) == (parameter is not new), name
        if parameter is not new:
            assert all(torch.equal(v, moments[parameter][k]) for k, v in run.optimizer.state[parameter].items())


def test_gradual_unfreezing_lets_the_nearest_tensors_follow_first_until_all_are_trained(make: Any) -> None:
    loop = make()
    loop.display.start(100, {})
    run = loop.session
    order = list(run.model.parameters())
    new, trained = order[2], []
    step = run.optimizer.step

    def watched() -> None:
        trained.append([place for place, p in enumerate(order) if p.grad is not None])
        step()

    run.optimizer.step = watched  # type: ignore[method-assign]
    warm_up_alone(run, [new], WarmUp(3, 0.1, thaw=40))
    assert trained[:3] == [[2]] * 3
    sizes = [len(places) for places in trained]
    assert len(sizes) == 43
    assert sizes == sorted(sizes)
    assert sizes[-1] < len(order), "the last of them come with the whole net"
    for places in trained:  # a tensor is trained only if all that are nearer are
        assert {abs(p - 2) for p in places} >= set(range(max(abs(p - 2) for p in places)))
    assert all(p.requires_grad for p in order)


def test_a_copied_block_is_the_frontiers_and_goes_before_it(make: Any) -> None:
    loop = make("method=copy")
    loop.display.start(100, {})
    loop._train_until(20)
    model, method = loop.session.model, loop.method
    old = method.frontier(model)
    method.warmup_steps = 0
    event = grow_once(loop.session).to_json()
    new = method.frontier(model)
    stack = next(s.stack for s in model.depth_sites() if s.residual)
    assert [m is old for m in stack] == [False, False, True]
    assert stack[1] is new, "it becomes the frontier"
    assert all(torch.equal(v, old.state_dict()[k]) for k, v in new.state_dict().items())
    assert event["units_added"] == 64
    assert event["parameters_after"] - event["parameters_before"] == sum(p.numel() for p in new.parameters())
    assert event["function_change_relative"] > 0


def test_alether_puts_the_extrapolated_weights_into_the_new_block(make: Any) -> None:
    loop = make()
    loop.display.start(100, {})
    loop._train_until(40)
    run, method = loop.session, loop.method
    method.warmup_steps = 0
    expected = run.history.extrapolate(**method.settings)
    event = grow_once(run).to_json()
    block = method.frontier(run.model)
    named = dict(block.named_parameters())
    assert set(named) == set(expected), "every tensor by itself"
    assert all(torch.equal(named[k], e.weights) for k, e in expected.items())
    tensors = event["details"]["proposals"][0]["tensors"]
    assert set(tensors) == set(named)
    assert all(t["escape"] in ("orthogonal", "modes", "none") for t in tensors.values())


@pytest.mark.parametrize("fallback", ["copy", "random", "perturbed"])
@pytest.mark.parametrize("why", ["short", "noisy"])
def test_remark_17_a_history_that_says_too_little_is_not_extrapolated(make: Any, fallback: str, why: str) -> None:
    noisy = ("method.min_snr=1e30", "method.min_snapshots=3", "method.rank=1")
    loop = make(f"method.fallback={fallback}", *(noisy if why == "noisy" else ()))
    loop.display.start(100, {})
    loop._train_until(20 if why == "noisy" else 1)
    method = loop.method
    source = {name: t.clone() for name, t in method.frontier(loop.session.model).state_dict().items()}
    method.warmup_steps = 0
    event = grow_once(loop.session).to_json()
    new = method.frontier(loop.session.model).state_dict()
    assert event["units_added"] == 64
    details = event["details"]["proposals"][0]
    assert details["fallback"] == fallback
    if why == "short":
        assert details["reason"] == "1 snapshot of method.min_snapshots=10"
    else:
        assert details["noisy"]
    weights = {name for name, t in source.items() if t.dim() == 2}
    for name in weights & set(source if why == "short" else details["noisy"]):
        assert torch.equal(new[name], source[name]) == (fallback == "copy"), name
    if fallback == "perturbed":
        moved = [float((new[name] - source[name]).norm() / source[name].norm()) for name in weights]
        assert all(0 < m < 0.5 for m in moved)


def test_growth_without_enough_snapshots_says_so_and_goes_on(make: Any) -> None:
    loop = make("trajectory.every=1000")
    event = grow_once(loop.session).to_json()
    assert event["units_added"] == 0
    assert "1 snapshot and an extrapolation needs 3" in event["details"]["reason"]
    assert event["parameters_after"] == event["parameters_before"]


@pytest.mark.parametrize(
    ("method", "model"),
    [
        pytest.param(method, model, marks=[] if method == "alether" or model == "residual_mlp" else [pytest.mark.slow])
        for method in ("alether", "copy", "random")
        for model in ("residual_mlp", "residual_cnn", "vit")
    ],
)
def test_every_depth_method_grows_every_block_model_and_trains_on(model: str, method: str, make: Any) -> None:
    loop = make(f"method={method}", f"model={model}", "trigger.every=30")
    loop.train()
    assert loop.session.progress.events == 2
    assert loop.session.measured["train_loss"] < 2.0


def test_a_methods_regularizer_is_part_of_every_steps_loss(make: Any) -> None:
    from grow_cli.methods.base import Method

    class Shrink(Method):
        """Pulls every weight to zero, hard."""

        def regularizer(self, run: Any) -> Tensor:
            return 100.0 * torch.stack([p.square().sum() for p in run.model.parameters()]).sum()

    plain, shrunk = make("method=static"), make("method=static")
    shrunk.session.method = Shrink().begin()
    shrunk._model_changed()
    for loop in (plain, shrunk):
        loop.display.start(100, {})
        loop._train_until(60)
    sizes = [sum(p.detach().square().sum().item() for p in loop.session.model.parameters()) for loop in (plain, shrunk)]
    assert sizes[1] < 0.9 * sizes[0]


@pytest.mark.slow
def test_the_flops_are_three_forward_passes_a_sample_and_the_growths(make: Any) -> None:
    loop = make("stop.epochs=3")
    loop.train()
    progress = loop.session.progress
    assert progress.events == 0
    assert progress.flops - progress.growth_flops == 3 * loop.flops * progress.samples
    loop = make()
    loop.train()
    assert loop.session.progress.growth_flops > 2 * 3 * loop.flops * 10 * 32 * 0.5, "two warm-ups of ten steps"


def test_gathered_scores_equal_the_plain_mean() -> None:
    torch.manual_seed(0)
    gathered, other = Gathered(TASKS["classification"], CPU), Gathered(TASKS["classification"], CPU)
    batches = [(torch.rand(()), torch.randn(8, 5), torch.randint(5, (8,))) for _ in range(150)]
    for n, batch in enumerate(batches):
        gathered.add(*batch)
        other.add(*batch)
        if n == 70:  # a checkpoint in between
            state, other = other.state_dict(), Gathered(TASKS["classification"], CPU)
            other.load_state_dict(state)
    read = gathered.read()
    assert read == other.read()
    assert read["train_loss"] == pytest.approx(sum(float(b[0]) for b in batches) / 150)
    hits = sum(int((b[1].argmax(1) == b[2]).sum()) for b in batches)
    assert read["train_accuracy"] == hits / (150 * 8)


def test_r2_is_one_minus_the_residual_over_the_variance() -> None:
    torch.manual_seed(0)
    gathered = Gathered(TASKS["regression"], CPU)
    f, y = torch.randn(100, 1), torch.randn(100, 1)
    for a, b in zip(f.split(10), y.split(10), strict=True):
        gathered.add(torch.rand(()), a, b)
    expected = 1 - (f - y).square().sum() / (y - y.mean()).square().sum()
    assert gathered.read()["train_r2"] == pytest.approx(float(expected))


@pytest.mark.parametrize(
    "options", [("stop.growth_events=1",), ("stop.parameters=25000",), ("stop.plateau=1",), ("stop.steps=30",)]
)
def test_stop_rules_end_the_run(options: tuple[str, ...], make: Any) -> None:
    loop = make(*options, "optimizer.lr=0.1")
    assert str(options[0].split("=")[1])[:2] in str(loop.train())
    assert loop.session.progress.step < 180


@pytest.mark.parametrize("split", ["val", "train"])
def test_a_run_ends_at_the_first_evaluation_that_reaches_its_score(split: str, make: Any) -> None:
    loop = make(f"stop.{split}_score=0.9", "evaluate.every=5", "evaluate.unit=steps", "stop.epochs=50")
    reached: list[float] = []
    evaluate = loop._evaluate
    columns = ("whole_train_loss", "whole_train_accuracy")

    def watched() -> None:
        evaluate()
        reached.append(
            measure_split(split, loop.session.model, loop.session.data, loop.session.config)[f"{split}_accuracy"]
        )

    loop._evaluate = watched
    assert str(loop.train()).endswith("score of 0.9")
    assert reached[-1] >= 0.9, "of the whole split, by the net as it is"
    assert max(reached[:-1]) < 0.9, "not later"
    metrics = pd.read_csv(loop.folder.metrics)
    assert [c in metrics for c in columns] == [split == "train"] * 2, "measured where it is judged by"
    if split == "train":
        assert metrics["whole_train_accuracy"].tolist() == reached


@pytest.mark.parametrize("options", [(), ("optimizer=natural", "optimizer.iterations=3")], ids=["plain", "natural"])
def test_a_budget_of_flops_is_kept_to_a_step_and_the_rate_anneals_over_it(options: tuple[str, ...], make: Any) -> None:
    loop = make("stop.epochs=null", "stop.flops=2e9", *options)
    assert "FLOPs" in str(loop.train())
    progress = loop.session.progress
    passes = 3 if not options else 3 + 4 * 5
    assert 2e9 <= progress.flops < 2e9 + passes * loop.flops * 32
    assert loop.session.optimizer.param_groups[0]["lr"] < 0.1 * loop.session.config.optimizer.lr, (
        "to nothing, as over any budget"
    )


def test_growth_respects_its_limits(make: Any) -> None:
    for options, events in (
        (("growth.max_events=1",), 1),
        (("growth.max_parameters=1",), 0),
        (("growth.until=0.3",), 1),
    ):
        loop = make(*options)
        loop.train()
        assert loop.session.progress.events == events, options


def test_growth_that_brings_no_better_validation_ends(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = ("growth.plateau=2", "growth.max_events=null", "growth.until=1")
    in_vain = make(*limited)
    in_vain.session.progress.best_val_score = math.inf
    in_vain.train()
    assert in_vain.session.progress.events == 2
    assert growth_closed(in_vain.session, 0.5) == "the last 2 events did not improve validation (growth.plateau=2)"
    monkeypatch.setattr(Session, "is_best", True)
    gaining = make(*limited)
    gaining.train()
    assert gaining.session.progress.events > 2, "every evaluation was better"


@pytest.mark.slow
def test_regression_and_flat_data_train_too(make: Any) -> None:
    for options in (("dataset=curve", "subset=null"), ("dataset=moons", "subset=null")):
        loop = make(*options, "stop.epochs=30")
        loop.train()
        assert any(k in loop.session.measured for k in ("val_r2", "val_accuracy"))
        assert loop.session.progress.events > 0


@pytest.mark.parametrize(
    "more", [("method=deepen", "model=vit"), ("method=net2net", "model=mlp", "growth.optimizer_state=reset")]
)
def test_what_is_added_under_sgd_begins_without_momentum_beside_what_has_some(make: Any, more: tuple[str, ...]) -> None:
    loop = make(*more, "optimizer=sgd", "trigger=never")
    loop.display.start(100, {})
    for end in (3, 6):
        loop._train_until(end)
        loop._grow()
    assert loop.session.progress.events == 2
    loop._train_until(9)
    assert math.isfinite(loop.gathered.read()["train_loss"])


def test_what_a_language_model_puts_out_is_not_kept_until_the_next_evaluation() -> None:
    gathered = Gathered(TASKS["language"], CPU)
    outputs = torch.zeros(4, 5, 256)
    gathered.add(torch.tensor(1.0), outputs, torch.zeros(4, 5, dtype=torch.uint8))
    assert gathered._pending[0][1].untyped_storage().nbytes() < outputs.untyped_storage().nbytes()
