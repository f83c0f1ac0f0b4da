"""`graph`: the step recorded once and replayed, as on a GPU, by a recorder on the CPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from grow_cli.errors import TrainingFailed, UserError
from grow_cli.training import graph, loop
from grow_cli.training.graph import WARM_UP, ReplayedStep, cannot_replay
from grow_cli.training.loop import Loop
from tests.training.recorded import Recorded

NETS = {
    "mlp, dropout, clipping": ("model=mlp", "model.hidden=[8,6]", "model.dropout=0.2", "clip_norm=1", "method=tiny"),
    "mlp, SGD": ("model=mlp", "model.hidden=[8]", "model.activation=selu", "optimizer=sgd", "method=gradmax"),
    "mlp, batch norm": ("model=mlp", "model.hidden=[8]", "model.norm=batch", "method=net2net"),
    "fold's regularizer": ("model=mlp", "model.hidden=[8]", "model.activation=relu", "method=fold"),
    "residual, a schedule that moves": ("method=copy", "schedule=one_cycle", "method.thaw_steps=2"),
    "transformer in bf16": (
        "model=vit",
        "model.dim=8",
        "model.heads=2",
        "model.patch=4",
        "method=copy",
        "precision=bf16",
    ),
    "new entries' ages and rates": (
        *("model=mlp", "model.hidden=[8,6]", "method=random_width", "growth.optimizer_state=age", "growth.lr_factor=2"),
        "growth.lr_warmup=3",
    ),
    "convolutions": ("model=cnn", "model.channels=[[4]]", "model.hidden=[]", "method=random_width"),
}


class Refuses(Recorded):
    """As torch does where something in the step reads a value back."""

    def record(self, work: Any) -> Any:
        self.recordings += 1
        raise RuntimeError("operation not permitted when stream is capturing\nsecond line")


@pytest.fixture
def replaying(make: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Loop]:
    """`replaying(recorder, "method=copy")`: `make`'s loop whose steps are recorded and replayed by it."""

    def call(recorder: Recorded, *overrides: str) -> Loop:
        with monkeypatch.context() as patched:
            patched.setattr(loop, "replayed", lambda session: ReplayedStep(session, recorder))
            made: Loop = make(*overrides)
        return made

    return call


@pytest.mark.parametrize(
    "net", [pytest.param(net, marks=pytest.mark.slow if net == "mlp, SGD" else ()) for net in NETS]
)
def test_replayed_steps_train_to_the_last_bit_as_those_that_are_not_and_across_growth(
    replaying: Callable[..., Loop], net: str
) -> None:
    recorder = Recorded()
    plain, other = (replaying(by, *NETS[net], "trigger=never") for by in (Refuses(), recorder))
    events, end = 2, 0
    for _ in range(events):
        end += 8
        for one in (plain, other):
            one.display.start(100, {})
            torch.manual_seed(1)  # each draws its dropout from the start of one stream
            one._train_until(end)
            one._grow()
        _same(plain, other)
    assert recorder.recordings == events
    assert recorder.replays == events * (8 - WARM_UP)
    assert other.session.progress.events == events


def _same(plain: Loop, other: Loop) -> None:
    ours, theirs = plain.session.model.state_dict(), other.session.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ours, theirs = plain.gathered.state_dict(), other.gathered.state_dict()
    for ours_of_step, theirs_of_step in zip(ours["pending"], theirs["pending"], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours_of_step, theirs_of_step, strict=True))


def test_rates_that_the_device_reads_change_a_step_by_its_last_digits_alone(
    make: Any, replaying: Callable[..., Loop]
) -> None:
    plain, other = make("model=mlp", "method=static"), replaying(Recorded(), "model=mlp", "method=static")
    for _ in range(5):
        for one in (plain, other):
            one._step(*one.session.batches.next())
    for a, b in zip(plain.session.model.parameters(), other.session.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_replay_takes_the_batch_and_the_rate_of_its_step(replaying: Callable[..., Loop]) -> None:
    recorder = Recorded()
    one = replaying(
        recorder,
        *("model=mlp", "method=static", "optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false"),
        "optimizer.weight_decay=0",
    )
    step, batches, group = one._step, one.session.batches, one.session.optimizer.param_groups[0]
    for _ in range(WARM_UP + 1):
        step(*batches.next())
    assert recorder.recordings == recorder.replays == 1
    weights = [p.detach().clone() for p in one.session.model.parameters()]
    group["lr"] = 0.0
    first, second = step(*batches.next())[0], step(*batches.next())[0]
    assert first != second  # another batch, the same net
    assert all(torch.equal(a, b) for a, b in zip(weights, one.session.model.parameters(), strict=True))
    group["lr"] = 0.1
    step(*batches.next())
    assert not torch.equal(weights[0], next(one.session.model.parameters()))
    assert recorder.recordings == 1


def test_an_event_finds_no_recording_and_leaves_none_though_nothing_grew(
    replaying: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorded()
    one = replaying(recorder, "model=mlp", "model.hidden=[4]", "method=random_width", "growth.max_units=[4]")
    one.display.start(100, {})
    one._train_until(WARM_UP + 2)
    assert (recorder.recordings, recorder.replays) == (1, 2)
    assert one._replayed is not None
    assert one._replayed._recording is not None
    held = weakref.ref(one._replayed._recording[-1])
    grow = loop.grow

    def growing(session: Any) -> Any:
        gc.collect()
        assert held() is None
        return grow(session)

    monkeypatch.setattr(loop, "grow", growing)
    one._grow()
    assert one.session.progress.events == 0
    one._train_until(2 * (WARM_UP + 2))
    assert (recorder.recordings, recorder.replays) == (2, 4)


def test_checkpoints_hold_plain_rates_and_no_capturable_optimizer(replaying: Callable[..., Loop]) -> None:
    recorder = Recorded()
    one = replaying(recorder, "model=mlp", "method=static")
    for _ in range(WARM_UP + 2):
        one._step(*one.session.batches.next())
    assert recorder.replays == 2
    for group in one.session.optimizer.state_dict()["param_groups"]:
        assert type(group["lr"]) is float
        assert group["capturable"] is False


def test_what_cannot_be_recorded_runs_on_with_one_warning_in_a_run(
    replaying: Callable[..., Loop], capsys: pytest.CaptureFixture[str]
) -> None:
    refuses = Refuses()
    one = replaying(refuses, "model=mlp", "model.hidden=[4]", "method=random_width", "trigger=never")
    one.display.start(100, {})
    one._train_until(WARM_UP + 3)
    one._grow()
    assert one.session.progress.events == 1
    one._train_until(2 * (WARM_UP + 3))
    assert one.gathered.read()["train_loss"] < 10
    assert refuses.recordings == 1
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("graph=auto: the training step cannot be recorded as a CUDA graph (operation not permitted") == 1
    assert "second line" not in told


def test_of_several_errors_the_first_one_says_why(
    replaying: Callable[..., Loop], capsys: pytest.CaptureFixture[str]
) -> None:
    class RefusesTwice(Refuses):
        """As torch's `graph` does, whose end fails in its turn."""

        def record(self, work: Any) -> Any:
            try:
                super().record(work)
            finally:
                raise RuntimeError("operation failed due to a previous error during capture")

    one = replaying(RefusesTwice(), "model=mlp", "method=static")
    for _ in range(WARM_UP + 1):
        one._step(*one.session.batches.next())
    assert "(operation not permitted when stream is capturing)" in " ".join(capsys.readouterr().err.split())


def test_graph_always_fails_where_it_cannot_be_recorded(replaying: Callable[..., Loop]) -> None:
    one = replaying(Refuses(), "model=mlp", "method=static")
    one.session.config.graph = "always"
    for _ in range(WARM_UP):
        one._step(*one.session.batches.next())
    with pytest.raises(TrainingFailed, match=r"graph=always: .* \(operation not permitted when stream is capturing\)$"):
        one._step(*one.session.batches.next())


def test_marks_of_new_entries_outlive_a_step_that_fails(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make("model=mlp", "model.hidden=[4]", "method=random_width", "growth.lr_factor=2", "trigger=never")
    one._step(*one.session.batches.next())
    one._grow()
    optimizer = one.session.optimizer
    marked = [p for p, state in optimizer.state.items() if "lr_factor" in state]
    assert marked
    with monkeypatch.context() as patched:
        patched.setattr(torch, "_fused_adamw_", lambda *of, **more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one._step(*one.session.batches.next())
    optimizer.zero_grad()
    one._step(*one.session.batches.next())
    assert marked == [p for p, state in optimizer.state.items() if "lr_factor" in state]


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (("compile=true",), "compile=true"),
        (("dataset=curve", "subset=null", "precision=fp64"), "precision=fp64"),
        (("optimizer=natural", "model.activation=tanh"), "optimizer=natural"),
        (("dataset=curve", "subset=null", "optimizer=lbfgs", "batch_size=160"), "optimizer=lbfgs"),
    ],
)
def test_on_a_gpu_what_decides_in_python_is_not_replayed(
    make: Any, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...], why: str
) -> None:
    one = make("model=mlp", "method=static", *overrides)
    monkeypatch.setattr(one.session, "device", torch.device("cuda"))
    assert cannot_replay(one.session).startswith(why)
    one.session.config.graph = "always"
    with pytest.raises(UserError, match=f"^graph=always: {why}"):
        graph.replayed(one.session)


def test_on_a_gpu_a_plain_step_is_replayed_and_on_a_cpu_it_is_not(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make("model=mlp", "method=static")
    assert graph.replayed(one.session) is None
    assert "CUDA graphs" in cannot_replay(one.session)
    monkeypatch.setattr(one.session, "device", torch.device("cuda"))
    assert cannot_replay(one.session) == ""
