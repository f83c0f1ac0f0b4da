"""`architecture()` is plain data from which `rebuild` makes the net, however it has grown."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from growing_nets import NETS, Net, grow_at_random, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from grow_cli.errors import UserError
from grow_cli.models.base import rebuild
from grow_cli.models.mlp import MLPOption
from grow_cli.models.modules.network import GrowableModel


def assert_rebuilt(model: GrowableModel, x: torch.Tensor) -> None:
    twin = rebuild(json.loads(json.dumps(model.architecture())))
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.eval()(x), model.eval()(x))
    assert twin.architecture() == model.architecture()
    assert twin.widths() == model.widths()
    assert str(twin) == str(model)  # in_features, num_features and the like are up to date


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_a_net_is_rebuilt_before_and_after_growth(net: Net) -> None:
    model, x = net.build()
    assert model.architecture()["model"]["name"] == net.option.name
    assert_rebuilt(model, x)
    grow_at_random(model, None, times=6)
    assert_rebuilt(model, x)


@settings(max_examples=15, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 5), max_size=3),
    norm=st.sampled_from(["none", "batch", "layer"]),
    times=st.integers(0, 6),
)
def test_any_mlp_grown_in_any_way_is_rebuilt(hidden: list[int], norm: str, times: int) -> None:
    model, x = Net(MLPOption(hidden=hidden, norm=norm), (3,)).build()
    grow_at_random(model, None, times)
    assert_rebuilt(model, x)


def test_the_configuration_can_express_a_grown_net() -> None:
    model, _ = NETS["residual_mlp"].build()
    grow_at_random(model, None)
    assert len(model.widths()) == 4
    from_config = type(NETS["residual_mlp"].option)(width=4, hidden=model.widths())
    twin = from_config.build(spec((1, 4, 4)))
    assert [t.shape for t in twin.parameters()] == [t.shape for t in model.parameters()]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": {"name": "mpl"}}, r"model is 'mpl': it must be one of cnn, gpt, mlp"),
        ({"model": {"name": "mlp", "hiden": [3]}}, r"model=mlp cannot be built: .*hiden"),
        ({"model": {"name": "mlp", "hidden": ["wide"]}}, r"model=mlp cannot be built: .*wide"),
        ({"model": {"name": "mlp", "hidden": [0]}}, r"model=mlp cannot be built: model.hidden=\[0\]"),
        ({"model": {"hidden": [3]}}, r"has no entry 'name'"),
        ({"model": None}, r"is not one that `model.architecture\(\)` returns"),
        ({"outputs": "many"}, r"is not one that `model.architecture\(\)` returns"),
    ],
)
def test_a_malformed_architecture_is_refused_in_a_sentence(change: dict[str, Any], sentence: str) -> None:
    model, _ = NETS["mlp"].build()
    with pytest.raises(UserError, match=sentence):
        rebuild(model.architecture() | change)
    with pytest.raises(UserError, match="no entry 'task'"):
        rebuild({k: v for k, v in model.architecture().items() if k != "task"})
