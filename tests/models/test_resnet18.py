"""TINY's ResNet-18 has Table 1's sizes, and GradMax's ReLU its derivative."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from growing_nets import NETS, spec, width_proposal
from torch.nn import functional as F

from grow_cli.errors import UserError
from grow_cli.models.base import rebuild
from grow_cli.models.modules.activations import ReLURight, can_be_identity, make_activation
from grow_cli.models.modules.resnet import ResNet18
from grow_cli.models.resnet18 import ResNet18Option
from grow_cli.surgery.apply import apply

CIFAR = (3, 32, 32)


def resnet(option: ResNet18Option, input_shape: tuple[int, ...], *, outputs: int = 3) -> ResNet18:
    model = option.build(spec(input_shape, outputs=outputs))
    assert isinstance(model, ResNet18)
    return model


def feature_maps(model: ResNet18, x: torch.Tensor) -> list[list[tuple[int, ...]]]:
    """A list per stage: (channels, height, width) after its transition and after each block."""
    shapes = []
    for stage in model.stages:
        seen: list[tuple[int, ...]] = []
        modules = [stage.transition, *stage.blocks]
        hooks = [m.register_forward_hook(lambda m, i, o, seen=seen: seen.append(tuple(o.shape[1:]))) for m in modules]
        x = stage(x)
        for hook in hooks:
            hook.remove()
        shapes.append(seen)
    return shapes


def test_the_sizes_are_those_of_table_1() -> None:
    model = resnet(ResNet18Option(), CIFAR, outputs=100)
    assert feature_maps(model, torch.randn(2, *CIFAR)) == [
        [(8, 32, 32), (8, 32, 32), (8, 16, 16)],
        [(16, 16, 16), (16, 16, 16), (16, 8, 8)],
        [(32, 8, 8), (32, 8, 8), (32, 4, 4)],
        [(64, 4, 4), (64, 4, 4), (64, 2, 2)],
    ]
    linear = [(layer.linear.in_features, layer.linear.out_features) for layer in model.classifier]
    assert linear == [(256, 100), (100, 100)]
    assert (model.head.in_features, model.head.out_features) == (100, 100)
    assert model.widths() == [1] * 8


def test_the_initial_net_has_the_parameters_counted_by_hand() -> None:
    model = resnet(ResNet18Option(), CIFAR, outputs=100)
    transitions = (9 * 3 + 1) * 8 + (9 * 8 + 1) * 16 + (9 * 16 + 1) * 32 + (9 * 32 + 1) * 64
    # per block, a kernel for each channel of the stream to and from the one hidden channel, and the biases
    blocks = 2 * sum(9 * n + 1 + 9 * n + n for n in (8, 16, 32, 64))
    linear = (256 + 1) * 100 + (100 + 1) * 100 + (100 + 1) * 100
    assert sum(p.numel() for p in model.parameters()) == transitions + blocks + linear == 74_996


def test_a_net_is_the_formula_written_out() -> None:
    model = resnet(ResNet18Option(stream=[3], hidden=[[2, 4]], classifier=[5]), (2, 6, 8))
    p, x = dict(model.named_parameters()), torch.randn(3, 2, 6, 8)

    def conv(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        return F.conv2d(x, p[f"stages.0.{name}.weight"], p[f"stages.0.{name}.bias"], stride, padding=1)

    y = F.selu(conv("transition.linear", x))
    y = F.selu(y + conv("blocks.0.consumer", F.selu(conv("blocks.0.hidden.linear", y))))
    middle = F.selu(conv("blocks.1.hidden.linear", y, stride=2))
    y = F.selu(y.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)) + conv("blocks.1.consumer", middle))
    y = F.selu(F.linear(y.flatten(1), p["classifier.0.linear.weight"], p["classifier.0.linear.bias"]))
    torch.testing.assert_close(model(x), F.linear(y, p["head.weight"], p["head.bias"]))


def test_batch_norm_follows_every_convolution_and_no_linear_layer() -> None:
    model = resnet(ResNet18Option(norm="batch"), CIFAR)
    kinds = [type(m).__name__ for m in model.modules()]
    assert kinds.count("BatchNorm2d") == kinds.count("Conv2d") == 4 * (1 + 2 * 2)
    assert kinds.count("BatchNorm1d") == 0


def test_odd_sizes_are_halved_upwards() -> None:
    model, x = NETS["resnet18 batch"].build()
    assert isinstance(model, ResNet18)
    assert [stage[-1] for stage in feature_maps(model, x)] == [(2, 4, 3), (3, 2, 2)]


@pytest.mark.parametrize(
    ("input_shape", "sentence"),
    [
        (
            (1, 8, 8),
            r"each of 4 stages halves the image, and one of 8 x 8 pixels can be halved 3 times: give .* at most 3",
        ),
        ((3, 32, 15), r"32 x 15 pixels can be halved 3 times: give model.stream and model.hidden at most 3 stages"),
        ((3, 1, 32), r"1 x 32 pixels can be halved 0 times: use model=mlp"),
    ],
)
def test_images_too_small_to_be_halved_once_per_stage_are_refused(input_shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        ResNet18Option().build(spec(input_shape))
    ResNet18Option().build(spec((3, 16, 17)))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"stream": [8, 16]}, r"model.hidden=\[\[1, 1\], .*: must have a list per stage of model.stream=\[8, 16\]"),
        ({"stream": [], "hidden": []}, r"model.stream=\[\]: must have at least one stage"),
        ({"stream": [4], "hidden": [[]]}, r"model.hidden=\[\[\]\]: each stage must have at least one block"),
        ({"stream": [4], "hidden": [[1, 0]]}, r"model.hidden=.*: must be 1 or more"),
        ({"stream": [0], "hidden": [[1]]}, r"model.stream=\[0\]: must be 1 or more"),
        ({"classifier": [0]}, r"model.classifier=\[0\]: must be 1 or more"),
        ({"norm": "group"}, r"model.norm=group: must be one of none, batch"),
        ({"activation": "step"}, r"model.activation=step: must be one of relu"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ResNet18Option(**settings)


def test_an_unevenly_grown_net_is_rebuilt_and_can_be_configured() -> None:
    model, x = NETS["resnet18"].build()
    for i, k in [(0, 3), (2, 1), (0, 2)]:
        apply(width_proposal(model.width_sites()[i], k), model, None)
    assert model.widths() == [7, 1, 2]
    assert model.sizes() == {"hidden": [[7, 1], [2]]}
    twin = rebuild(json.loads(json.dumps(model.architecture())))
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.eval()(x), model(x))
    option = ResNet18Option(stream=[4, 6], hidden=[[7, 1], [2]], classifier=[5])
    assert [p.shape for p in option.build(spec((3, 8, 8))).parameters()] == [p.shape for p in model.parameters()]


def test_relu_right_is_relu_but_for_its_derivative_at_zero() -> None:
    x = torch.tensor([-2.0, -0.0, 0.0, 3.0], requires_grad=True)
    y = make_activation("relu_right", 4)(x)
    assert torch.equal(y, torch.relu(x))
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0, 1, 1, 1]
    assert torch.autograd.grad(torch.relu(x).sum(), x)[0].tolist() == [0, 0, 0, 1]
    assert ReLURight()(torch.tensor(torch.nan)).isnan()  # a broken net must not look whole


def test_relu_right_can_be_the_identity_where_relu_can() -> None:
    for nonnegative in (False, True):
        assert can_be_identity("relu_right", inputs_nonnegative=nonnegative) is nonnegative
        assert can_be_identity("relu", inputs_nonnegative=nonnegative) is nonnegative
