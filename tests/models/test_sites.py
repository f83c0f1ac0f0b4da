"""What the sites say of the nets."""

from __future__ import annotations

import pytest
import torch
from growing_nets import NETS, Net
from torch import nn

from grow_cli.methods.base import Method
from grow_cli.models.modules.activations import Rational
from grow_cli.models.modules.layers import Block

RESIDUAL = {key: net for key, net in NETS.items() if net.residual}


def test_names_say_where_a_site_is() -> None:
    keys = ("mlp", "cnn", "cnn hidden", "vit", "resnet18")
    names = {key: [s.name for s in NETS[key].build()[0].width_sites()] for key in keys}
    assert names == {
        "mlp": ["hidden 1", "hidden 2"],
        "cnn": ["stage 1 conv 1", "stage 1 conv 2", "stage 2 conv 1"],
        "cnn hidden": ["stage 1 conv 1", "hidden 1", "hidden 2"],
        "vit": ["block 1 hidden", "block 2 hidden"],
        "resnet18": ["stage 1 block 1", "stage 1 block 2", "stage 2 block 1"],
    }
    assert [s.name for s in NETS["mlp"].build()[0].depth_sites()] == ["hidden 1", "hidden 2", "hidden 3"]
    assert [s.name for s in NETS["vit"].build()[0].depth_sites()] == ["block 1", "block 2", "block 3"]


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_the_widths_are_those_of_the_sites_in_order(net: Net) -> None:
    model, _ = net.build()
    assert model.no_width or [s.units for s in model.width_sites()] == model.widths()
    assert bool(model.depth_sites()) == (net.option.name != "resnet18")


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_what_the_consumer_reads_is_the_producers_output_passed_through_between(net: Net) -> None:
    model, x = net.build()
    for site in model.width_sites():
        seen: dict[str, torch.Tensor] = {}
        hooks = [
            site.producer.register_forward_hook(lambda m, i, o, seen=seen: seen.update(out=o)),
            site.consumer.register_forward_hook(lambda m, i, o, seen=seen: seen.update(read=i[0])),
        ]
        model(x)
        for hook in hooks:
            hook.remove()
        assert torch.equal(nn.Sequential(*site.between)(seen["out"]), seen["read"])
        assert site.activation in site.between
        assert (
            seen["read"].shape[-1 if isinstance(site.consumer, nn.Linear) else 1] == site.units * site.columns_per_unit
        )


def test_a_flatten_gives_a_unit_a_column_per_pixel() -> None:
    model, _ = NETS["cnn"].build()
    assert [s.columns_per_unit for s in model.width_sites()] == [1, 1, 4]


def test_followers_are_what_has_an_entry_per_unit() -> None:
    def kinds(key: str) -> list[list[str]]:
        return [[type(f).__name__ for f in s.followers] for s in NETS[key].build()[0].width_sites()]

    assert kinds("mlp") == [[], []]
    assert kinds("mlp batch") == [["BatchNorm1d"], ["BatchNorm1d"]]
    assert kinds("cnn rational") == [["BatchNorm2d", "Rational"], ["BatchNorm2d", "Rational"]]
    assert kinds("residual_cnn") == [["BatchNorm2d"], ["BatchNorm2d"]]
    assert kinds("resnet18 batch") == [["BatchNorm2d"]] * 3
    assert kinds("resnet18 rational") == [["Rational"]] * 2


@pytest.mark.parametrize("key", ["mlp layer", "residual_cnn group"])
def test_a_norm_over_the_hidden_units_leaves_no_width_site_and_says_why(key: str) -> None:
    model, _ = NETS[key].build()
    assert model.width_sites() == []
    assert "use model.norm=batch or model.norm=none" in model.no_width


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_residual_models_say_so_and_have_one_stack_of_blocks(net: Net) -> None:
    model, _ = net.build()
    stack = next((s.stack for s in model.depth_sites() if s.residual), None)
    assert (stack is not None) == net.residual
    assert all(s.residual == net.residual for s in model.depth_sites())
    assert stack is None or len(stack) == len(model.widths())
    if stack is not None:
        assert [s.index for s in model.depth_sites()] == list(range(len(stack) + 1))
        assert all(s.stack is stack for s in model.depth_sites())
        for site in model.depth_sites():
            if site.index < len(stack):  # a new block can take the frontier's tensors
                site.make_block().load_state_dict(stack[site.index].state_dict())


@pytest.mark.parametrize("net", RESIDUAL.values(), ids=RESIDUAL)
def test_a_block_adds_its_outputs_applied_to_its_activations(net: Net) -> None:
    model, x = net.build()
    for block in next((s.stack for s in model.depth_sites() if s.residual), []):
        assert isinstance(block, Block)
        streams: list[torch.Tensor] = []
        hook = block.register_forward_hook(lambda m, i, o, streams=streams: streams.extend((i[0], o)))
        model(x)
        hook.remove()
        before, after = streams
        added = sum(w(a) for w, a in zip(block.outputs(), block.activations(before), strict=True))
        torch.testing.assert_close(after, before + added)


def test_the_frontier_is_the_last_block_or_hidden_layer_that_depth_can_grow_at() -> None:
    keys = ("vit", "mlp", "cnn", "mlp linear", "resnet18")
    vit, mlp, cnn, linear, resnet = (NETS[key].build()[0] for key in keys)
    assert Method().frontier(vit) is vit.blocks[-1]
    assert Method().frontier(mlp) is mlp.hidden[-1]
    assert Method().frontier(cnn) is cnn.stages[1][-1]
    assert Method().frontier(linear) is linear
    assert Method().frontier(resnet) is resnet


def test_senns_activation_is_the_identity_at_1_0_0_and_the_formula_elsewhere() -> None:
    x = torch.linspace(-3, 3, 7)[:, None].expand(7, 2)
    for normalize in (True, False):
        act = Rational(2, normalize=normalize)
        theta = torch.stack([act.alpha, act.beta, act.gamma]).detach()
        alpha, beta, gamma = theta / theta.norm(dim=0) if normalize else theta
        torch.testing.assert_close(act(x), alpha * x + (beta + gamma * x) / (1 + x**2))
        act.load_state_dict({"alpha": torch.ones(2), "beta": torch.zeros(2), "gamma": torch.zeros(2)})
        assert torch.equal(act(x), x)
