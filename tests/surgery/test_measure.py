"""Measuring leaves no trace; FLOPs are those counted by hand."""

from __future__ import annotations

import pytest
import torch
from growing_nets import NETS, Net, spec
from torch.nn import functional as F

from grow_cli.models.base import ModelOption
from grow_cli.models.cnn import CNNOption
from grow_cli.models.mlp import MLPOption
from grow_cli.models.residual_cnn import ResidualCNNOption
from grow_cli.models.residual_mlp import ResidualMLPOption
from grow_cli.models.vit import ViTOption
from grow_cli.surgery.flops import flops_per_sample
from grow_cli.surgery.measure import function_change, measure


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_measuring_changes_nothing(net: Net) -> None:
    model, x = net.build()
    model.train()
    next(model.children()).eval()  # modes may differ from module to module
    state = {k: v.clone() for k, v in model.state_dict().items()}
    parameters = [(id(p), p.grad, p.requires_grad) for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    y = torch.randint(3, (12,))
    random = torch.random.get_rng_state()
    first = measure(model, x, y, F.cross_entropy)
    flops = flops_per_sample(model, net.input_shape)
    assert torch.equal(measure(model, x, y, F.cross_entropy).outputs, first.outputs)
    assert flops_per_sample(model, net.input_shape) == flops > 0
    y_hat = first.outputs
    assert not y_hat.requires_grad
    assert first.loss == F.cross_entropy(y_hat, y).item()
    assert first.accuracy == pytest.approx((y_hat.argmax(1) == y).sum().item() / 12)
    assert all(torch.equal(v, state[k]) and v.device.type == "cpu" for k, v in model.state_dict().items())
    assert parameters == [(id(p), p.grad, p.requires_grad) for p in model.parameters()]
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(random, torch.random.get_rng_state())


def test_modes_are_restored_when_the_model_fails() -> None:
    model, _ = NETS["mlp"].build()
    model.train()
    with pytest.raises(RuntimeError):
        measure(model, torch.zeros(2, 99), torch.zeros(2), F.mse_loss)
    assert all(m.training for m in model.modules())


def test_regression_has_no_accuracy() -> None:
    model = MLPOption().build(spec((2,), outputs=1, task="regression"))
    assert measure(model, torch.zeros(4, 2), torch.zeros(4, 1), F.mse_loss).accuracy is None


def test_the_change_of_a_function_is_a_mean_over_samples_of_squared_norms() -> None:
    before = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    change = function_change(before, before + torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    assert (change.mean_squared, change.relative) == (2.5, (2.5 / 12.5) ** 0.5)
    assert function_change(before, before).relative == 0
    zero = torch.zeros(2, 2)
    assert function_change(zero, zero).relative == 0
    assert function_change(zero, before).relative == float("inf")


def _vit_by_hand(tokens: int, pixels: int, dim: int, mlp: list[int], outputs: int) -> int:
    attention = 4 * tokens * dim * dim + 2 * tokens * tokens * dim
    return 2 * (tokens * pixels * dim + sum(attention + 2 * tokens * dim * h for h in mlp) + dim * outputs)


@pytest.mark.parametrize(
    ("option", "input_shape", "by_hand"),
    [
        (MLPOption(hidden=[7, 5], norm="batch"), (1, 4, 4), 2 * (16 * 7 + 7 * 5 + 5 * 3)),
        (MLPOption(hidden=[]), (6,), 2 * 6 * 3),
        (MLPOption(hidden=[4], activation="rational"), (6,), 2 * (6 * 4 + 4 * 3)),
        (ResidualMLPOption(width=4, hidden=[5, 3]), (6,), 2 * (6 * 4 + 2 * 4 * 5 + 2 * 4 * 3 + 4 * 3)),
        (
            CNNOption(channels=[[2, 3], [4]], hidden=[5], activation="relu"),
            (1, 8, 8),
            2 * (64 * 9 * 1 * 2 + 64 * 9 * 2 * 3 + 16 * 9 * 3 * 4 + 4 * 4 * 5 + 5 * 3),
        ),
        (
            CNNOption(channels=[[2]], head="gap", kernel=1, hidden=[], activation="relu"),
            (3, 6, 7),
            2 * (42 * 3 * 2 + 2 * 3),
        ),
        (
            ResidualCNNOption(width=4, hidden=[3, 2]),
            (3, 8, 8),
            2 * (64 * 9 * 3 * 4 + 16 * 9 * 2 * 4 * (3 + 2) + 4 * 3),
        ),
        (ViTOption(patch=2, dim=8, heads=2, mlp=[6, 5]), (1, 8, 8), _vit_by_hand(16, 4, 8, [6, 5], 3)),
        (ViTOption(patch=7, dim=8, heads=4, mlp=[6]), (1, 28, 28), _vit_by_hand(16, 49, 8, [6], 3)),
    ],
    ids=lambda v: v.name if isinstance(v, ModelOption) else "",
)
def test_flops_are_those_counted_by_hand(option: ModelOption, input_shape: tuple[int, ...], by_hand: int) -> None:
    model = option.build(spec(input_shape))
    assert flops_per_sample(model, input_shape) == by_hand
    assert flops_per_sample(model.double(), input_shape) == by_hand
