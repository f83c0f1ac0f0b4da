"""Surgery does to the function exactly what the proposal says."""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from growing_nets import NETS, Net, identity_proposal, width_proposal
from torch import Tensor, nn
from torch.nn import functional as F

from grow_cli.models.base import rebuild
from grow_cli.models.modules.network import GrowableModel
from grow_cli.surgery.apply import apply
from grow_cli.surgery.measure import function_change
from grow_cli.surgery.proposal import DepthProposal, WidthProposal

WIDE = {key: net for key, net in NETS.items() if net.build()[0].width_sites()}
PLAIN = {key: net for key, net in NETS.items() if not net.residual and net.build()[0].depth_sites()}
RESIDUAL = {key: net for key, net in NETS.items() if net.residual}


@pytest.mark.parametrize("net", WIDE.values(), ids=WIDE)
def test_units_with_zero_outgoing_weights_leave_the_function_unchanged(net: Net) -> None:
    model, x = net.build()
    before = model(x)
    for i, site in enumerate(model.width_sites()):
        wider = site.units + i + 1
        apply(width_proposal(site, i + 1, outgoing=0), model, None)
        assert (model(x) - before).abs().max() <= 1e-6
        assert model.widths()[i] == model.width_sites()[i].units == wider


def literal_reference(model: GrowableModel, grown: GrowableModel, proposal: WidthProposal) -> GrowableModel:
    """The grown net built from scratch, each entry written by itself."""
    names = {id(module): name for name, module in model.named_modules()}
    producer, consumer = names[id(proposal.site.producer)], names[id(proposal.site.consumer)]
    new_units = {f"{producer}.weight": proposal.incoming, f"{producer}.bias": proposal.incoming_bias}
    for follower in proposal.site.followers:
        fresh = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1, "alpha": 1, "beta": 0, "gamma": 0}
        for name in follower.state_dict():
            if name in fresh:
                new_units[f"{names[id(follower)]}.{name}"] = torch.full((proposal.units,), float(fresh[name]))
    reference = rebuild(grown.architecture()).eval()
    old = model.state_dict()
    with torch.no_grad():
        for name, tensor in reference.state_dict().items():
            if tensor.shape == old[name].shape:
                tensor.copy_(old[name])
                continue
            for index in itertools.product(*map(range, tensor.shape)):
                first, second = index[0], index[1] if tensor.ndim > 1 else 0
                rows = old[name].shape[0]
                if name == f"{consumer}.weight":
                    columns = old[name].shape[1]
                    source = old[name] if second < columns else proposal.outgoing
                    place = (first, second % columns if second < columns else second - columns, *index[2:])
                else:
                    source = old[name] if first < rows else new_units[name]
                    place = (first if first < rows else first - rows, *index[1:])
                tensor[index] = source[place]
    return reference


@pytest.mark.parametrize("net", WIDE.values(), ids=WIDE)
def test_units_with_random_weights_make_the_net_that_is_built_from_scratch(net: Net) -> None:
    for i in range(len(net.build()[0].width_sites())):
        model, x = net.build()
        original = deepcopy(model)
        proposal = width_proposal(original.width_sites()[i])
        apply(replace(proposal, site=model.width_sites()[i]), model, None)
        reference = literal_reference(original, model, proposal)
        torch.testing.assert_close(model(x), reference(x), rtol=1e-6, atol=1e-6)
        assert function_change(original(x), model(x)).relative > 1e-6


def capture(model: nn.Module, x: Tensor, producer: nn.Module, consumer: nn.Module) -> tuple[Tensor, Tensor]:
    """The producer's input and the consumer's output."""
    seen: dict[str, Tensor] = {}
    hooks = [
        producer.register_forward_hook(lambda m, i, o: seen.update(a=i[0])),
        consumer.register_forward_hook(lambda m, i, o: seen.update(b=o)),
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return seen["a"], seen["b"]


@pytest.mark.parametrize("net", WIDE.values(), ids=WIDE)
def test_new_units_add_their_activations_times_their_outgoing_weights(net: Net) -> None:
    for i in range(len(net.build()[0].width_sites())):
        model, x = net.build()
        site = model.width_sites()[i]
        proposal = width_proposal(site)
        inputs, before = capture(model, x, site.producer, site.consumer)
        added = proposal.activations(inputs)
        apply(proposal, model, None)
        _, after = capture(model, x, site.producer, site.consumer)
        if isinstance(site.consumer, nn.Conv2d):
            expected = before + F.conv2d(added, proposal.outgoing, padding=site.consumer.padding)
        else:
            expected = before + F.linear(added, proposal.outgoing)
        torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-5)


def test_a_proposals_activations_are_differentiable_and_leave_the_net_alone() -> None:
    model, x = NETS["mlp batch"].build()
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    proposal = width_proposal(model.width_sites()[0])
    proposal.incoming.requires_grad_()
    proposal.activations(x).sum().backward()
    assert proposal.incoming.grad is not None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_followers_start_as_the_proposal_says() -> None:
    model, _ = NETS["cnn rational"].build()
    site = model.width_sites()[0]
    given = {"running_var": torch.tensor([2.0, 3.0]), "alpha": torch.tensor([0.5, 0.25])}
    apply(width_proposal(site, followers=given), model, None)
    norm, activation = site.followers
    assert norm.running_var[-2:].tolist() == [2, 3]
    assert norm.running_mean[-2:].tolist() == [0, 0]
    assert norm.weight[-2:].tolist() == [1, 1]
    assert activation.alpha[-2:].tolist() == [0.5, 0.25]
    assert activation.beta[-2:].tolist() == [0, 0]


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_a_layer_that_is_the_identity_leaves_the_function_unchanged(net: Net) -> None:
    count = len(net.build()[0].depth_sites())
    preserved = 0
    for i in range(count):
        model, x = net.build()
        before, site = model(x), model.depth_sites()[i]
        length = len(site.stack)
        apply(identity_proposal(site), model, None)
        assert len(site.stack) == length + 1
        if site.identity:
            preserved += 1
            assert (model(x) - before).abs().max() <= 1e-6
    if net.residual:
        assert preserved == count


def test_relu_layers_can_be_the_identity_except_on_the_signed_input() -> None:
    assert [s.identity for s in NETS["mlp"].build()[0].depth_sites()] == [False, True, True]
    assert [s.identity for s in NETS["mlp relu_right"].build()[0].depth_sites()] == [False, True, True]
    assert [s.identity for s in NETS["mlp linear"].build()[0].depth_sites()] == [False]
    assert [s.identity for s in NETS["mlp rational"].build()[0].depth_sites()] == [True, True, True]
    assert [s.identity for s in NETS["mlp batch"].build()[0].depth_sites()] == [False, False, False]


@pytest.mark.parametrize("net", PLAIN.values(), ids=PLAIN)
def test_a_layer_inserted_in_a_plain_net_is_read_by_its_consumer(net: Net) -> None:
    for i in range(len(net.build()[0].depth_sites())):
        model, x = net.build()
        site = model.depth_sites()[i]
        consumer = site.consumer
        assert consumer is not None
        apply(DepthProposal(site), model, None)
        layer = site.stack[site.index]
        assert layer.units == site.units
        seen: dict[str, Tensor] = {}
        hooks = [
            layer.register_forward_hook(lambda m, i, o, seen=seen: seen.update(out=o)),
            consumer.register_forward_hook(lambda m, i, o, seen=seen: seen.update(read=i[0])),
        ]
        assert model(x).shape == (12, 3)
        for hook in hooks:
            hook.remove()
        if seen["out"].shape == seen["read"].shape:  # no pooling in between
            assert torch.equal(seen["out"], seen["read"])


def test_an_inserted_layer_followed_by_its_inverse_is_senns_depth_growth() -> None:
    model, x = NETS["mlp rational"].build()
    model.double()
    x = x.double()
    before = model(x)
    site = model.depth_sites()[1]
    assert site.consumer is not None
    inserted = torch.randn(site.units, site.units, dtype=torch.float64)
    state = identity_proposal(site).state
    assert state is not None
    weight = site.consumer.weight
    replaced = weight.detach() @ torch.linalg.inv(inserted)
    apply(DepthProposal(site, {**state, "linear.weight": inserted}, replace={weight: replaced}), model, None)
    torch.testing.assert_close(model(x), before, rtol=1e-9, atol=1e-9)
    assert model.widths() == [3, 3, 4]


def test_a_split_unit_is_net2nets_widening() -> None:
    model, x = NETS["mlp"].build()
    before = model(x)
    site = model.width_sites()[0]
    halved = site.consumer.weight.detach().clone()
    halved[:, 2] /= 2
    copy = WidthProposal(
        site,
        site.producer.weight.detach()[2:3],
        site.producer.bias.detach()[2:3],
        halved[:, 2:3],
        replace={site.consumer.weight: halved},
    )
    apply(copy, model, None)
    assert (model(x) - before).abs().max() <= 1e-6


@pytest.mark.parametrize("net", RESIDUAL.values(), ids=RESIDUAL)
def test_inserting_keeps_every_parameter_object_and_takes_the_proposed_state(net: Net) -> None:
    for i in range(len(net.build()[0].depth_sites())):
        model, _ = net.build()
        old = list(model.parameters())
        site = model.depth_sites()[i]
        state = {
            name: torch.randn_like(t) for name, t in site.make_block().state_dict().items() if t.is_floating_point()
        }
        apply(DepthProposal(site, state), model, None)
        kept = {id(p) for p in model.parameters()}
        assert all(id(p) in kept for p in old)
        block = site.stack[i]
        assert all(torch.equal(block.state_dict()[name], t) for name, t in state.items())


def test_a_copied_block_takes_its_buffers_along() -> None:
    model, _ = NETS["residual_cnn"].build()
    site = model.depth_sites()[1]
    frontier = site.stack[1]
    apply(DepthProposal(site, {k: v.clone() for k, v in frontier.state_dict().items()}), model, None)
    assert site.stack[2] is frontier
    assert torch.equal(site.stack[1].norm.running_var, frontier.norm.running_var)
    assert site.stack[1].norm.weight is not frontier.norm.weight


def test_dtype_mode_freezing_and_gradients_are_respected() -> None:
    model, x = NETS["mlp batch"].build()
    model.double().train()
    model(x.double()).sum().backward()
    site = model.width_sites()[0]
    site.producer.weight.requires_grad_(False)
    apply(width_proposal(site), model, None)
    apply(DepthProposal(model.depth_sites()[1]), model, None)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert all(m.training for m in model.modules())
    assert not site.producer.weight.requires_grad
    assert site.producer.weight.is_leaf
    assert site.consumer.weight.requires_grad
    assert site.consumer.weight.grad is None
    assert model.head.weight.grad is not None  # it was not touched
    model.eval()
    apply(DepthProposal(model.depth_sites()[1]), model, None)
    assert not any(m.training for m in model.modules())


def test_proposals_that_do_not_fit_are_refused_with_both_shapes_and_change_nothing() -> None:
    model, _ = NETS["mlp batch"].build()
    site = model.width_sites()[0]
    good = width_proposal(site)
    block = model.depth_sites()[1]
    state = block.make_block().state_dict()
    before = {k: v.clone() for k, v in model.state_dict().items()}

    def wide(**change: object) -> WidthProposal:
        tensors = {"incoming": good.incoming, "incoming_bias": good.incoming_bias, "outgoing": good.outgoing}
        return WidthProposal(site, **(tensors | change))  # type: ignore[arg-type]

    weight = site.consumer.weight
    for proposal, sentence in [
        (wide(incoming=torch.zeros(2, 9)), r"incoming of the proposal at 'hidden 1' has shape \(2, 9\) where \(2, 5\)"),
        (wide(outgoing=torch.zeros(6, 3)), r"outgoing .* has shape \(6, 3\) where \(6, 2\)"),
        (wide(incoming_bias=torch.zeros(3)), r"bias .* has shape \(3,\) where \(2,\)"),
        (wide(followers={"alpha": torch.zeros(2)}), r"gives 'alpha', which no follower has: they have \['bias'"),
        (wide(followers={"bias": torch.zeros(1)}), r"bias .* has shape \(1,\) where \(2,\)"),
        (wide(replace={weight: torch.zeros(1)}), r"replaced parameter .* has shape \(1,\) where \(6, 4\)"),
        (wide(replace={nn.Parameter(torch.zeros(1)): torch.zeros(1)}), "does not have"),
        (DepthProposal(block, state | {"linear.weight": torch.zeros(3, 3)}), r"\(3, 3\) where \(4, 4\)"),
        (DepthProposal(block, {"weight": torch.zeros(3, 3)}), "'weight', which the new layer does not have"),
        (DepthProposal(block, replace={weight: torch.zeros(1)}), r"has shape \(1,\) where \(6, 4\)"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            apply(proposal, model, None)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert len(model.depth_sites()) == 3
    unbiased, _ = NETS["mlp without bias"].build()
    site = unbiased.width_sites()[0]
    with pytest.raises(ValueError, match="has an incoming bias and the producer has none"):
        apply(wide(incoming=good.incoming, outgoing=torch.zeros(3, 2)), unbiased, None)
