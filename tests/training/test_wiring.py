"""Every key does what it says: each test fails if its key is read and then forgotten."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from grow_cli.errors import TrainingFailed
from grow_cli.training.event import grow as grow_once


def _trained(loop: Any, steps: int = 40) -> Any:
    loop.display.start(100, {})
    loop._train_until(steps)
    return loop


def _weights(loop: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in loop.session.model.parameters()])


def test_clipping_bounds_every_steps_gradient(make: Any) -> None:
    free, clipped = make("method=static"), make("method=static", "clip_norm=1e-3")
    norms = []
    for loop in (free, clipped):
        step, parameters = loop.session.optimizer.step, list(loop.session.model.parameters())
        seen: list[Tensor] = []

        def noted(step: Any = step, parameters: Any = parameters, seen: Any = seen) -> None:
            seen.append(torch.stack([p.grad.norm() for p in parameters]).norm())
            step()

        loop.session.optimizer.step = noted
        loop._model_changed()
        _trained(loop, 10)
        norms.append(torch.stack(seen))
    assert norms[0].min() > 1e-2
    assert norms[1].max() <= 1.001e-3


def test_label_smoothing_and_bf16_change_the_step(make: Any) -> None:
    plain = _trained(make("method=static"))
    for option in ("label_smoothing=0.2", "precision=bf16"):
        assert not torch.equal(_weights(plain), _weights(_trained(make("method=static", option)))), option


def test_the_methods_regularizer_is_asked_at_every_step(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from grow_cli.methods.base import Method

    asked = []
    monkeypatch.setattr(Method, "regularizer", lambda self, run: asked.append(run))
    loop = _trained(make("method=static"))
    assert [now.progress for now in asked] == [loop.session.progress] * 40


def test_alethers_keys_reach_the_extrapolation(make: Any) -> None:
    plain = _trained(make()).session.history
    settings = {
        "beta0": 0.5,
        "gamma0": 0.01,
        "eta0": 0.5,
        "rank": 2,
        "escape_modes": 1,
        "tau_crit": 0.1,
        "eta_max": 0.2,
    }
    settings |= {"kappa_crit": 0.01, "eps": 1e-6}
    settings |= {"step_scale": "velocity", "escape_along": "modes"}
    loop = _trained(make(*(f"method.{key}={value}" for key, value in settings.items())))
    assert loop.method.settings == settings
    expected = plain.extrapolate(**settings)
    loop.method.warmup_steps = 0
    grow_once(loop.session).to_json()
    block = dict(loop.method.frontier(loop.session.model).named_parameters())
    assert all(torch.equal(block[name], e.weights) for name, e in expected.items())


@pytest.mark.slow
def test_growth_restarts_trigger_schedule_and_history(make: Any) -> None:
    loop = make("schedule.warmup=20", "growth.max_events=1")
    resets = []
    reset = loop.trigger.reset
    loop.trigger.reset = lambda run: (resets.append(run.progress.step), reset(run))
    rates: dict[int, float] = {}
    append = loop.folder.append_metrics
    loop.folder.append_metrics = lambda row: (rates.update({row["step"]: row["lr"]}), append(row))
    loop.train()
    assert resets == [50]
    assert loop.session.progress.restart_step == 50
    assert loop.session.progress.restarted_at == pytest.approx(50 / 180)
    assert rates[50] == loop.session.config.optimizer.lr, "the first warm-up is over"
    loop = make("schedule.warmup=40", "growth.max_events=1", "schedule.restart=false")
    loop.train()
    assert loop.session.progress.restart_step == 0
    history = make("growth.max_events=1")
    history.display.start(100, {})
    history._train_until(50)
    assert len(history.session.history) == 6
    history.session.progress.growth_pending = True
    history._grow()
    assert len(history.session.history) == 1, "the new frontier's history begins with where it starts"


@pytest.mark.slow
def test_the_rate_warms_up_again_after_growth(make: Any) -> None:
    rows: list[dict[str, Any]] = []
    loop = make("schedule.warmup=40", "growth.max_events=1", "evaluate.every=10", "stop.epochs=30")
    append = loop.folder.append_metrics
    loop.folder.append_metrics = lambda row: (rows.append(row), append(row))
    loop.train()
    lr = {row["step"]: row["lr"] / loop.session.config.optimizer.lr for row in rows}
    assert lr[50] == 1
    assert lr[60] == pytest.approx(10 / 41)
    assert lr[100] == 1


def test_smoothing_moves_the_average_at_every_step(make: Any) -> None:
    loop = make("trajectory.smoothing=0.5")
    moved = []
    smooth = loop.session.history.smooth
    loop.session.history.smooth = lambda: (moved.append(1), smooth())
    _trained(loop)
    assert len(moved) == 40
    frontier = dict(loop.method.frontier(loop.session.model).named_parameters())
    present = torch.cat([p.detach().flatten() for p in frontier.values()])
    assert not torch.equal(loop.session.history._average, present)


@pytest.mark.parametrize("choice", ["carry", "reset"])
def test_the_optimizers_memory_is_carried_or_reset(choice: str, make: Any) -> None:
    loop = _trained(make(f"growth.optimizer_state={choice}", "method.warmup_steps=0"))
    old = {p: {k: v.clone() for k, v in s.items()} for p, s in loop.session.optimizer.state.items()}
    assert old
    grow_once(loop.session).to_json()
    state = loop.session.optimizer.state
    if choice == "carry":
        assert all(torch.equal(v, state[p][k]) for p, s in old.items() for k, v in s.items())
    else:
        assert not state


def test_a_method_that_claims_to_preserve_the_function_is_held_to_it(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = _trained(make("method=copy"))
    monkeypatch.setattr(type(loop.method), "preserves_function", True)
    with pytest.raises(TrainingFailed, match="changed the function"):
        grow_once(loop.session).to_json()


def test_the_warm_up_leaves_frozen_batch_norms_alone(make: Any) -> None:
    loop = _trained(make("method=copy", "model=residual_cnn"))
    before = {name: b.clone() for name, b in loop.session.model.named_buffers() if "running" in name}
    grow_once(loop.session).to_json()
    after = dict(loop.session.model.named_buffers())
    moved = [
        name for name, b in after.items() if "running" in name and not any(torch.equal(b, o) for o in before.values())
    ]
    assert moved
    assert all(name.startswith("blocks.1.") for name in moved), "only the new block's move"
    assert all(m.training for m in loop.session.model.modules())


def test_a_run_that_growth_ends_measures_the_grown_net(make: Any) -> None:
    for option in ("stop.growth_events=1", "stop.parameters=25000"):
        loop = make(option)
        rows: list[dict[str, Any]] = []
        append = loop.folder.append_metrics
        loop.folder.append_metrics = lambda row, rows=rows, append=append: (rows.append(row), append(row))
        loop.train()
        assert rows[-1]["parameters"] == loop.parameters > rows[0]["parameters"], option
        assert loop.session.progress.evaluations == len(rows)


def test_a_stop_rule_comes_before_a_growth_that_nothing_would_follow(make: Any) -> None:
    loop = make("stop.steps=50", "growth.until=1.0")
    loop.train()
    assert loop.session.progress.events == 0


def test_test_every_fills_the_test_columns_when_due(make: Any) -> None:
    import pandas as pd

    loop = make("evaluate.test_every=2", "stop.steps=100")
    loop.train()
    filled = pd.read_csv(loop.folder.metrics)["test_accuracy"].notna().tolist()
    assert filled == [False, True, False, True]


@pytest.mark.slow
def test_checkpoints_are_as_rare_as_asked(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from grow_cli.training import checkpoint

    counts = []
    for every in (1, 3):
        saved: list[bool] = []
        monkeypatch.setattr(checkpoint, "save", lambda folder, state, *, best, saved=saved: saved.append(best))
        loop = make("method=static", f"checkpoint.every={every}", "evaluate.every=10")
        loop._note_best = lambda measured: False
        loop.train()
        counts.append(len(saved))
    assert counts == [1 + 18, 1 + 6], "one before the first step"


def test_threads_are_one_for_small_nets_and_as_asked_otherwise(make: Any) -> None:
    make()
    assert torch.get_num_threads() == 1
    make("threads=2")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


@pytest.mark.slow
def test_a_compiled_run_grows_and_ends_like_a_plain_one(make: Any) -> None:
    ends = []
    for option in ("compile=false", "compile=true"):
        loop = make(option, "stop.epochs=12")
        loop.train()
        assert loop.session.progress.events == 1
        ends.append(loop.session.measured["val_loss"])
    assert ends[0] == pytest.approx(ends[1], rel=1e-2)
