"""What the optimizer remembers survives growth, and a checkpoint of a grown pair continues to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from growing_nets import NETS, Net, grow_at_random, train, width_proposal
from torch import Tensor, nn
from torch.optim import SGD, Adafactor, Adam, AdamW, Optimizer

from grow_cli.models.base import rebuild
from grow_cli.surgery.apply import apply
from grow_cli.surgery.optimizer import parameter_groups, regroup
from grow_cli.surgery.proposal import DepthProposal

MAKERS: dict[str, Callable[[Any], Optimizer]] = {
    "adam": lambda groups: Adam(groups, lr=0.01),
    "amsgrad": lambda groups: Adam(groups, lr=0.01, amsgrad=True),
    "adam fused": lambda groups: Adam(groups, lr=0.01, fused=True),
    "adamw": lambda groups: AdamW(groups, lr=0.01),
    "sgd": lambda groups: SGD(groups, lr=0.01, momentum=0.9),
}


def by_name(model: nn.Module, optimizer: Optimizer) -> dict[str, dict[str, Any]]:
    return {name: deepcopy(optimizer.state.get(p, {})) for name, p in model.named_parameters()}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("key", ["mlp batch", "cnn", "residual_cnn", "vit rational"])
def test_old_entries_keep_their_moments_and_new_ones_start_at_zero(key: str, make: Callable[[Any], Optimizer]) -> None:
    for i in range(len(NETS[key].build()[0].width_sites())):
        model, x = NETS[key].build()
        optimizer = make(parameter_groups(model, 1e-2))
        train(model, optimizer, x)
        before, shapes = by_name(model, optimizer), {n: p.shape for n, p in model.named_parameters()}
        apply(width_proposal(model.width_sites()[i]), model, optimizer)
        after = by_name(model, optimizer)
        grown = 0
        for name, parameter in model.named_parameters():
            assert set(after[name]) == set(before[name])
            assert after[name], name
            for entry, value in after[name].items():
                old = before[name][entry]
                if not isinstance(value, Tensor) or not value.ndim:
                    assert value == old  # the step count
                    continue
                assert value.shape == parameter.shape
                part = tuple(slice(0, n) for n in shapes[name])
                assert torch.equal(value[part], old)
                assert value.abs().sum() == old.abs().sum() or torch.isclose(value.abs().sum(), old.abs().sum())
                rest = value.clone()
                rest[part] = 0
                assert rest.count_nonzero() == 0
                grown += value.shape != old.shape
        assert grown >= 2
        train(model, optimizer, x)


def test_an_inserted_layer_has_nothing_to_remember_and_leaves_the_others_their_memory() -> None:
    model, x = NETS["vit"].build()
    optimizer = MAKERS["adam"](parameter_groups(model, 0))
    train(model, optimizer, x)
    before = {p: deepcopy(state) for p, state in optimizer.state.items()}
    site = model.depth_sites()[1]
    apply(DepthProposal(site), model, optimizer)
    for parameter, state in before.items():
        assert all(torch.equal(optimizer.state[parameter][name], value) for name, value in state.items())
    assert all(p not in optimizer.state for p in site.stack[1].parameters())
    assert len(optimizer.state) == len(before)


def test_reset_forgets_everything() -> None:
    model, x = NETS["mlp"].build()
    optimizer = MAKERS["adam"](parameter_groups(model, 0))
    train(model, optimizer, x)
    apply(width_proposal(model.width_sites()[0]), model, optimizer, optimizer_state="reset")
    assert len(optimizer.state) == 0
    train(model, optimizer, x)
    with pytest.raises(ValueError, match="must be carry or reset"):
        apply(width_proposal(model.width_sites()[0]), model, optimizer, optimizer_state="keep")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("key", ["mlp rational", "cnn gap", "residual_mlp", "residual_cnn", "vit rational"])
def test_a_grown_pair_saved_and_loaded_continues_bit_for_bit(key: str, make: Callable[[Any], Optimizer]) -> None:
    model, x = NETS[key].build()
    optimizer = make(parameter_groups(model, 1e-2))
    train(model, optimizer, x)
    grow_at_random(model, optimizer)
    train(model, optimizer, x)
    grow_at_random(model, optimizer, times=2)  # saved when some tensors have no state yet
    twin = rebuild(model.architecture())
    twin.load_state_dict(model.state_dict())
    other = make(parameter_groups(twin, 1e-2))
    other.load_state_dict(deepcopy(optimizer.state_dict()))
    for _ in range(2):
        train(model, optimizer, x, seed=4)
        train(twin, other, x, seed=4)
        mine, theirs = model.state_dict(), twin.state_dict()
        assert list(mine) == list(theirs)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        grow = torch.random.get_rng_state()
        grow_at_random(model, optimizer, times=2)
        torch.random.set_rng_state(grow)
        grow_at_random(twin, other, times=2)


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_matrices_decay_and_vectors_do_not_in_the_models_order(net: Net) -> None:
    model, _ = net.build()
    optimizer = Adam(parameter_groups(model, 0.25))
    for _ in range(3):
        matrices, vectors = optimizer.param_groups
        assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.25, 0)
        parameters = list(model.parameters())
        assert [id(p) for p in matrices["params"]] == [id(p) for p in parameters if p.ndim >= 2]
        assert [id(p) for p in vectors["params"]] == [id(p) for p in parameters if p.ndim < 2]
        grow_at_random(model, optimizer, times=2)


def test_rates_and_settings_of_the_groups_stay() -> None:
    model, _ = NETS["mlp"].build()
    optimizer = Adam(parameter_groups(model, 0.1), lr=0.5)
    groups = optimizer.param_groups
    groups[0]["lr"], groups[1]["lr"] = 0.25, 0.125
    apply(width_proposal(model.width_sites()[0]), model, optimizer)
    assert optimizer.param_groups is groups
    assert [g["lr"] for g in groups] == [0.25, 0.125]


def test_one_group_holds_all_parameters_and_three_are_refused() -> None:
    model, _ = NETS["mlp"].build()
    optimizer = SGD(model.parameters(), lr=0.1)
    apply(width_proposal(model.width_sites()[0]), model, optimizer)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in model.parameters()]
    three = SGD([{"params": [p]} for p in list(model.parameters())[:3]], lr=0.1)
    with pytest.raises(ValueError, match="3 parameter groups"):
        regroup(model, three)


def test_a_state_without_an_entry_per_weight_starts_anew() -> None:
    model, x = NETS["mlp"].build()
    optimizer = Adafactor(parameter_groups(model, 0))
    train(model, optimizer, x)
    site = model.width_sites()[0]
    apply(width_proposal(site), model, optimizer)
    assert site.producer.weight not in optimizer.state
    assert model.head.weight in optimizer.state
    train(model, optimizer, x)
