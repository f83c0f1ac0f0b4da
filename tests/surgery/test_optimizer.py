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
from grow_cli.models.modules.sites import WidthSite
from grow_cli.surgery.apply import apply
from grow_cli.surgery.optimizer import carry, follow_new_entries, parameter_groups, regroup
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
    with pytest.raises(ValueError, match="must be carry, age or reset"):
        apply(width_proposal(model.width_sites()[0]), model, optimizer, optimizer_state="keep")


def hand_written_adam(
    entries: Tensor, gradients: list[Tensor], born: Tensor, factor: Tensor, *, decay: float, coupled: bool
) -> Tensor:
    """Adam in float64, every entry with an age and a rate of its own; before it is born its gradient is 0."""
    p, m, v = entries.double(), torch.zeros_like(entries).double(), torch.zeros_like(entries).double()
    for step, g in enumerate(gradients, 1):
        age, g = (step - born).clamp(min=1).double(), g.double() + (decay * p if coupled else 0)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        moved = (m / (1 - 0.9**age)) / ((v / (1 - 0.999**age)).sqrt() + 1e-8) + (0 if coupled else decay * p)
        p = torch.where(step > born, p - 0.01 * factor * moved, p)
        m, v = (torch.where(step > born, x, 0.0) for x in (m, v))
    return p


@pytest.mark.parametrize("lr_factor", [1.0, 2.5, 0.3])
@pytest.mark.parametrize("ages", ["age", "carry"])
@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_new_entries_step_like_a_hand_written_adam_with_ages_and_rates(kind: Any, ages: str, lr_factor: float) -> None:
    """Growth after 0, 7 and 30 steps; the state is saved and loaded on the way."""
    decay, events = 0.1, (0, 7, 30)
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2, bias=False))
    (site,) = [WidthSite("hidden", net[0], (net[1],), net[1], net[2])]
    optimizer = kind(net.parameters(), lr=0.01, weight_decay=decay)
    follow_new_entries(optimizer)
    first = [p.detach().clone() for p in net.parameters()]
    drawn = [torch.randn(40, 5, 3), torch.randn(40, 5), torch.randn(40, 2, 5)]
    starts, added = [*first], []
    for step in range(40):
        if step in events:
            proposal = width_proposal(site, 1)
            added.append((proposal.incoming, proposal.incoming_bias, proposal.outgoing))
            apply(proposal, net, optimizer, optimizer_state=ages, lr_factor=lr_factor)
            saved = deepcopy(optimizer.state_dict())
            optimizer = kind(net.parameters(), lr=0.01, weight_decay=decay)
            follow_new_entries(optimizer)
            optimizer.load_state_dict(saved)
        for p, g in zip(net.parameters(), drawn, strict=True):
            p.grad = g[step][tuple(slice(n) for n in p.shape)].clone()
        optimizer.step()
    units = torch.tensor([0, 0, *events]).float()
    for i, p in enumerate(net.parameters()):
        whole = torch.cat([starts[i], *(new[i] for new in added)], 1 if i == 2 else 0)
        born = units.view(-1, *[1] * (p.ndim - 1)).expand(p.shape) if i < 2 else units.expand(p.shape)
        rate = torch.where(torch.arange(5) < 2, 1.0, lr_factor)
        factor = rate.view(-1, *[1] * (p.ndim - 1)).expand(p.shape) if i < 2 else rate.expand(p.shape)
        by_hand = hand_written_adam(
            whole,
            [g * (step >= born) for step, g in enumerate(drawn[i])],
            born,
            factor,
            decay=decay,
            coupled=kind is Adam,
        )
        close = torch.isclose(p.double(), by_hand, rtol=1e-5, atol=1e-5)
        assert close[born == 0].all(), "old entries"
        assert close.all() == (ages == "age")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_new_layer_and_new_entries_have_the_rate_that_is_asked_for(make: Callable[[Any], Optimizer]) -> None:
    """The first step of what has no memory is proportional to its rate; a reset forgets no rate."""
    moved = []
    for lr_factor in (1.0, 3.0):
        torch.manual_seed(1)
        model, x = NETS["residual_mlp"].build()
        optimizer = make(parameter_groups(model, 0))
        follow_new_entries(optimizer)
        apply(DepthProposal(model.depth_sites()[0]), model, optimizer, lr_factor=lr_factor)
        apply(width_proposal(model.width_sites()[1]), model, optimizer, lr_factor=lr_factor, optimizer_state="reset")
        before = [p.detach().clone() for p in model.parameters()]
        train(model, optimizer, x, steps=1)
        moved.append([(p - q).detach() for p, q in zip(model.parameters(), before, strict=True)])
    ratios = [(b / a)[a.abs() > 1e-5] for a, b in zip(*moved, strict=True)]
    found = torch.cat([r.flatten() for r in ratios])
    assert ((found - 1).abs() < 0.02).any()
    assert ((found - 3).abs() < 0.06).any()
    assert (((found - 1).abs() < 0.02) | ((found - 3).abs() < 0.06)).all()


def test_the_rate_of_what_is_added_rises_and_that_of_the_rest_does_not() -> None:
    """Plain gradient descent on a gradient of one: a step is the rate itself, also after the state was saved and loaded."""
    model, _ = NETS["residual_mlp"].build()
    optimizer = SGD(parameter_groups(model, 0), lr=1.0)
    follow_new_entries(optimizer, 4)
    apply(DepthProposal(model.depth_sites()[0]), model, optimizer, lr_warmup=4)
    new = set(map(id, model.blocks[0].parameters()))  # type: ignore[union-attr, operator, index]
    for step in range(7):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.step()
        for p, q in zip(model.parameters(), before, strict=True):
            expected = min(1.0, (step + 1) / 5) if id(p) in new else 1.0
            assert torch.allclose(q - p, torch.full_like(p, expected), atol=1e-6)
        if step == 2:
            saved = optimizer.state_dict()
            optimizer.state.clear()
            optimizer.load_state_dict(saved)


def test_carried_new_entries_reach_five_times_the_rate_and_aged_ones_do_not() -> None:
    """The figures of `carry`: a gradient that stays alike, 1,000 and 10,000 steps after the tensor's birth."""
    for old, expected in ((1_000, 5.2), (10_000, 6.6)):
        steps = []
        for ages in (False, True):
            p = nn.Parameter(torch.zeros(1))
            optimizer = Adam([p], lr=1.0)
            optimizer.state[p] = {
                "step": torch.tensor(float(old)),
                "exp_avg": torch.ones(1),
                "exp_avg_sq": torch.ones(1),
            }
            longer = nn.Parameter(torch.zeros(2))
            optimizer.param_groups[0]["params"] = [longer]
            carry(optimizer, p, longer, 0, ages=ages)
            follow_new_entries(optimizer)
            longest = 0.0
            for _ in range(30):
                earlier = longer.detach().clone()
                longer.grad = torch.ones(2)
                optimizer.step()
                longest = max(longest, float((earlier - longer.detach())[1]))
            steps.append(longest)
        assert steps[0] == pytest.approx(expected, abs=0.05)
        assert steps[1] == pytest.approx(1, abs=1e-3)


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
