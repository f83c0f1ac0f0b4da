"""`optimizer=lbfgs`: torch's own algorithm, indifferent to the loss's scale, its evaluations counted, full batch only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grow_cli.commands.train import compose
from grow_cli.config import Config, Growth
from grow_cli.errors import UserError
from grow_cli.optimizers.lbfgs import LBFGS
from grow_cli.optimizers.modules.lbfgs import ScaleFreeLBFGS
from grow_cli.schedules.constant import Constant
from grow_cli.surgery.apply import apply


def _problem() -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    return net, x, torch.sin(3 * x)


def _optimizer(net: nn.Module, **settings: int) -> ScaleFreeLBFGS:
    wanted = {"iterations": 10, "history": 10} | settings
    return ScaleFreeLBFGS([{"params": list(net.parameters())}], lr=1.0, **wanted)


def _closure(net: nn.Module, x: Tensor, y: Tensor, optimizer: Any, scale: float = 1.0) -> Callable[[], Tensor]:
    def evaluate() -> Tensor:
        optimizer.zero_grad()
        loss = scale * nn.functional.mse_loss(net(x), y)
        loss.backward()
        return loss

    return evaluate


def _weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_it_is_torchs_own_on_a_loss_of_about_one() -> None:
    net, x, y = _problem()
    other, _, _ = _problem()
    scale = 2.0 ** -math.floor(math.log2(nn.functional.mse_loss(net(x), y).item()))
    ours = _optimizer(net)
    theirs = torch.optim.LBFGS(
        other.parameters(),
        max_iter=10,
        history_size=10,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )
    ours.step(_closure(net, x, y, ours))
    theirs.step(_closure(other, x, y, theirs, scale))
    assert torch.equal(_weights(net), _weights(other))


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**40])
def test_the_scale_of_the_loss_changes_no_bit_of_what_it_does(scale: float) -> None:
    found = []
    for factor in (1.0, scale):
        net, x, y = _problem()
        optimizer = _optimizer(net)
        for _ in range(6):
            optimizer.step(_closure(net, x, y, optimizer, factor))
        found.append(_weights(net))
    assert torch.equal(*found)


def test_torchs_own_stalls_at_a_scale_at_which_ours_goes_on() -> None:
    """What the scaling is for: pairs with yᵀs < 1e-10 are dropped there."""
    losses = {}
    for name in ("ours", "torch"):
        net, x, y = _problem()
        optimizer: Any = _optimizer(net, iterations=20)
        if name == "torch":
            optimizer = torch.optim.LBFGS(
                net.parameters(), max_iter=20, tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe"
            )
        for _ in range(5):
            optimizer.step(_closure(net, x, y, optimizer, 2.0**-40))
        losses[name] = nn.functional.mse_loss(net(x), y).item()
    assert losses["ours"] < 0.1 * losses["torch"]


def test_its_state_comes_back_to_the_last_bit() -> None:
    net, x, y = _problem()
    optimizer = _optimizer(net)
    for _ in range(3):
        optimizer.step(_closure(net, x, y, optimizer))
    again, _, _ = _problem()
    again.load_state_dict(net.state_dict())
    resumed = _optimizer(again)
    resumed.load_state_dict(optimizer.state_dict())
    for _ in range(3):
        optimizer.step(_closure(net, x, y, optimizer))
        resumed.step(_closure(again, x, y, resumed))
    assert torch.equal(_weights(net), _weights(again))


def test_evaluations_beyond_one_a_step_are_counted() -> None:
    net, x, y = _problem()
    optimizer, calls = _optimizer(net), 0
    evaluate = _closure(net, x, y, optimizer)

    def counted() -> Tensor:
        nonlocal calls
        calls += 1
        return evaluate()

    for _ in range(4):
        optimizer.step(counted)
    assert optimizer.evaluations == calls - 4 > 0


def test_what_gets_no_gradient_does_not_move_and_other_parameters_start_a_new_memory() -> None:
    net, x, y = _problem()
    optimizer = _optimizer(net)
    optimizer.step(_closure(net, x, y, optimizer))
    first = optimizer.state[net[0].weight]
    assert len(first["old_dirs"]) > 1
    net[0].requires_grad_(False)
    before = net[0].weight.detach().clone()
    optimizer.step(_closure(net, x, y, optimizer))
    assert torch.equal(net[0].weight, before)
    assert first["signature"] == [[2, 1, 8], [3, 1]]
    assert all(len(pair) == 9 for pair in first["old_dirs"])


def test_growth_makes_it_forget() -> None:
    from grow_cli.models.mlp import MLPOption
    from grow_cli.surgery.proposal import WidthProposal
    from tests.growing_nets import spec

    torch.manual_seed(0)
    net = MLPOption(hidden=[3]).build(spec((2,)))
    optimizer = ScaleFreeLBFGS([{"params": list(net.parameters())}], lr=1.0, iterations=5, history=5)
    x, y = torch.randn(20, 2), torch.randn(20, 3)
    optimizer.step(_closure(net, x, y, optimizer))
    assert optimizer.state
    (site,) = net.width_sites()
    apply(WidthProposal(site, torch.randn(1, 2), torch.zeros(1), torch.zeros(3, 1)), net, optimizer)
    assert not optimizer.state
    before = nn.functional.mse_loss(net(x), y).item()
    optimizer.step(_closure(net, x, y, optimizer))
    assert nn.functional.mse_loss(net(x), y).item() < before


def test_a_loss_that_is_no_number_moves_nothing() -> None:
    net, x, y = _problem()
    optimizer, before = _optimizer(net), _weights(net)
    optimizer.step(_closure(net, x, y * torch.nan, optimizer))
    assert torch.equal(_weights(net), before)


_RUN = ("method=static", "model=mlp", "dataset=curve", "optimizer=lbfgs", "progress=off", "device=cpu", "stop.steps=3")


@pytest.fixture(scope="module")
def config() -> Config:
    return compose(list(_RUN))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"clip_norm": 1.0}, "set clip_norm=null"),
        ({"compile": True}, "set compile=false"),
        ({"growth": Growth(lr_factor=2)}, "set growth.lr_factor=1"),
        ({"growth": Growth(lr_warmup=5)}, "set growth.lr_warmup=0"),
        ({"growth": Growth(optimizer_state="age")}, "set growth.optimizer_state=reset"),
        ({"precision": "bf16"}, "set precision=fp32 or fp64"),
    ],
)
def test_what_a_line_search_cannot_bear_is_refused(config: Config, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        config.optimizer.check_run(replace(config, **changed))


def test_a_schedule_is_not_heeded_and_that_is_said(config: Config) -> None:
    (warning,) = config.optimizer.check_run(config)
    assert "schedule=anneal is ignored" in warning
    assert not config.optimizer.check_run(replace(config, schedule=Constant(warmup=0)))


def test_it_decays_no_weights() -> None:
    with pytest.raises(ValueError, match="L-BFGS has no decay"):
        LBFGS(weight_decay=0.1)


def test_minibatches_and_dropout_are_refused_before_training(grow: Any) -> None:
    done = grow("train", *_RUN)
    assert done.code == 2, done.err
    assert "set batch_size=160 or more" in done.err
    done = grow("train", *_RUN, "batch_size=160", "model.dropout=0.1")
    assert done.code == 2, done.err
    assert "set model.dropout=0" in done.err
    assert not list(Path("outputs").rglob("last.pt"))
