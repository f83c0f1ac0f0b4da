"""Goals against autograd on a copy, and the part of a net behind a module against a forward with a hook."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from growing_nets import NETS, Net, spec
from torch import Tensor, nn
from torch.nn import functional as F

from grow_cli.models.modules.network import GrowableModel
from grow_cli.models.modules.sites import WidthSite
from grow_cli.models.residual_cnn import ResidualCNNOption
from grow_cli.surgery.signals import Tail, signals
from grow_cli.tasks import TASKS

NETS = {
    **NETS,
    "cnn avg": replace(NETS["cnn"], option=replace(NETS["cnn"].option, pool="avg")),
    "residual_cnn identity": Net(ResidualCNNOption(width=3, hidden=[2], norm="none", activation="identity"), (1, 4, 4)),
}
WIDE = {key: net for key, net in NETS.items() if net.build()[0].width_sites()}
every_net = pytest.mark.parametrize("net", WIDE.values(), ids=WIDE)
CLASSES = torch.tensor([0, 2, 1, 1, 0, 2, 2, 2, 0, 1, 0, 0])


def double(net: Net) -> tuple[GrowableModel, Tensor]:
    model, x = net.build()
    return model.double(), x.double()


def names_of(model: nn.Module) -> dict[int, str]:
    return {id(module): name for name, module in model.named_modules()}


def literal_gradient(model: GrowableModel, module: nn.Module, x: Tensor, total: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Of `total` of the net's outputs: input, output and output's gradient of the module, in a copy of the net."""
    copy = deepcopy(model).eval().requires_grad_(True)
    part = copy.get_submodule(names_of(model)[id(module)])
    seen: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        seen[:] = [arguments[0].detach(), output]

    part.register_forward_hook(keep)
    total(copy(x)).backward()
    assert seen[1].grad is not None
    return seen[0], seen[1].detach(), seen[1].grad


@every_net
def test_goals_are_minus_the_gradient_of_the_summed_loss(net: Net) -> None:
    model, x = double(net)
    sites = model.width_sites()
    found = signals(model, sites, x, CLASSES, TASKS["classification"].loss(0.0))
    assert len(found) == len(sites)
    for site, seen in zip(sites, found, strict=True):
        middle, _, gradient = literal_gradient(
            model, site.consumer, x, lambda outputs: F.cross_entropy(outputs, CLASSES, reduction="sum")
        )
        inputs, _, _ = literal_gradient(model, site.producer, x, lambda outputs: outputs.sum())
        torch.testing.assert_close(seen.goal, -gradient, rtol=1e-10, atol=1e-12)
        assert torch.equal(seen.middle, middle)
        assert torch.equal(seen.inputs, inputs)
        assert not seen.goal.requires_grad
        assert not seen.middle.requires_grad
        assert seen.goal.abs().max() > 0


@pytest.mark.parametrize("key", ["mlp", "cnn gap", "resnet18", "vit"])
def test_a_regressions_goals_are_of_n_times_the_mean_over_batch_and_outputs(key: str) -> None:
    net = NETS[key]
    torch.manual_seed(1)
    model = net.option.build(spec(net.input_shape, task="regression")).double().eval()
    x, y = torch.randn(5, *net.input_shape).double(), torch.randn(5, 3).double()
    sites = model.width_sites()
    for site, seen in zip(sites, signals(model, sites, x, y, TASKS["regression"].loss(0.0)), strict=True):
        _, _, gradient = literal_gradient(model, site.consumer, x, lambda outputs: ((outputs - y) ** 2).sum() / 3)
        torch.testing.assert_close(seen.goal, -gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("key", ["mlp", "mlp batch", "cnn gap", "residual_cnn", "vit"])
def test_a_samples_goal_does_not_depend_on_the_others(key: str) -> None:
    model, x = double(NETS[key])
    sites, loss = model.width_sites(), TASKS["classification"].loss(0.1)
    together = signals(model, sites, x, CLASSES, loss)
    parts = [signals(model, sites, x[part], CLASSES[part], loss) for part in (slice(0, 1), slice(1, 12))]
    for i, seen in enumerate(together):
        torch.testing.assert_close(seen.goal, torch.cat([part[i].goal for part in parts]), rtol=1e-10, atol=1e-12)


@every_net
def test_some_of_the_sites_have_the_signals_that_they_have_among_all(net: Net) -> None:
    model, x = double(net)
    sites, loss = model.width_sites(), TASKS["classification"].loss(0.0)
    together = signals(model, sites, x, CLASSES, loss)
    backwards = signals(model, sites[::-1], x, CLASSES, loss)[::-1]
    for i, site in enumerate(sites):
        for alone in (signals(model, [site], x, CLASSES, loss)[0], backwards[i]):
            torch.testing.assert_close(alone.goal, together[i].goal, rtol=1e-10, atol=1e-12)


def trace(model: nn.Module) -> dict[str, Any]:
    """What measuring must leave alone."""
    state = {f"value of {name}": tensor.clone() for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        state[f"identity of {name}"] = id(parameter)
        state[f"flag of {name}"] = parameter.requires_grad
    for name, module in model.named_modules():
        state[f"mode of {name}"] = module.training
        state[f"hooks of {name}"] = len(module._forward_hooks)
        state[f"own forward of {name}"] = "forward" in module.__dict__
    return state | {"random": torch.get_rng_state(), "grad": torch.is_grad_enabled()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(v, b[k]) if isinstance(v, Tensor) else v == b[k] for k, v in a.items()
    )


def unsettle(model: nn.Module) -> None:
    """Modes and flags of all kinds."""
    model.train()
    list(model.modules())[-1].eval()
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 3 != 1)


@every_net
@pytest.mark.parametrize("frozen", ["none", "some", "all"])
def test_signals_leave_no_trace_whatever_is_frozen(net: Net, frozen: str) -> None:
    model, x = double(net)
    sites, loss = model.width_sites(), TASKS["classification"].loss(0.0)
    expected = signals(model, sites, x, CLASSES, loss)
    if frozen != "none":
        unsettle(model)
    if frozen == "all":
        model.requires_grad_(False)
    before, given = trace(model), x.clone()
    found = signals(model, sites, x, CLASSES, loss)
    assert same(trace(model), before)
    assert torch.equal(x, given)
    assert not x.requires_grad
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.goal, b.goal)


@pytest.mark.parametrize("key", ["mlp batch", "cnn", "vit rational"])
def test_signals_of_a_loss_that_fails_leave_no_trace(key: str) -> None:
    model, x = double(NETS[key])
    unsettle(model)
    before = trace(model)

    def fails(outputs: Tensor, y: Tensor) -> Tensor:
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        signals(model, model.width_sites(), x, CLASSES, fails)
    assert same(trace(model), before)


def literal_tail(model: nn.Module, module: nn.Module, x: Tensor, outputs: Tensor) -> Tensor:
    handle = module.register_forward_hook(lambda *_: outputs)
    with torch.no_grad():
        result: Tensor = model(x)
    handle.remove()
    return result


@every_net
def test_a_tail_with_the_modules_own_outputs_is_the_net(net: Net) -> None:
    model, x = double(net)
    expected = model(x).detach()
    for site in model.width_sites():
        model.train()  # dropout and batch norm are in evaluation mode all the same
        tail = Tail(model, site.consumer, x)
        for _ in range(2):
            assert torch.equal(tail(tail.outputs), expected)
        model.eval()
        middle, outputs, _ = literal_gradient(model, site.consumer, x, lambda outputs: outputs.sum())
        assert torch.equal(tail.outputs, outputs)
        assert torch.equal(tail.inputs[site.consumer], middle)
        assert torch.equal(tail.inputs[site.producer], literal_gradient(model, site.producer, x, lambda o: o.sum())[0])
        assert not tail(tail.outputs).requires_grad


@every_net
def test_a_tail_with_other_outputs_is_a_forward_in_which_they_replace_the_modules(net: Net) -> None:
    model, x = double(net)
    for site in model.width_sites():
        tail = Tail(model, site.consumer, x)
        for _ in range(3):
            outputs = torch.randn_like(tail.outputs)
            torch.testing.assert_close(tail(outputs), literal_tail(model, site.consumer, x, outputs), rtol=0, atol=0)


class Shared(nn.Module):
    """Modules called before the cut, behind it and on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.cut, self.twice = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.activation, self.norm = nn.Tanh(), nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.twice(self.activation(self.twice(self.first(x)))))
        y = self.cut(self.norm(x))
        return self.activation(self.twice(self.norm(y))) + self.twice(self.activation(y)) + x


def test_modules_called_on_both_sides_of_the_cut_are_kept_before_and_computed_behind_it() -> None:
    torch.manual_seed(0)
    model, x = Shared().double().eval(), torch.randn(4, 3).double()
    tail = Tail(model, model.cut, x)
    assert torch.equal(tail(tail.outputs), model(x))
    outputs = torch.randn(4, 3).double()
    assert torch.equal(tail(outputs), literal_tail(model, model.cut, x, outputs))


@every_net
def test_a_tail_leaves_no_trace(net: Net) -> None:
    model, x = double(net)
    unsettle(model)
    before = trace(model)
    for site in model.width_sites():
        tail = Tail(model, site.consumer, x)
        assert same(trace(model), before)
        tail(tail.outputs + 1)
        assert same(trace(model), before)


@every_net
def test_a_tail_that_fails_leaves_no_trace(net: Net) -> None:
    model, x = double(net)
    unsettle(model)
    before = trace(model)
    tails = [Tail(model, site.consumer, x) for site in model.width_sites()]
    model.get_submodule("head").register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Tail(model, model.width_sites()[0].consumer, x)
    assert same(trace(model), before)
    for tail in tails:
        with pytest.raises(ZeroDivisionError):
            tail(tail.outputs)
        assert same(trace(model), before)


def test_a_tail_computes_only_what_is_behind_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = NETS["resnet18"].build()
    tail = Tail(model, model.width_sites()[-1].consumer, x)
    computed = []
    for kind in (nn.Linear, nn.Conv2d):

        def forward(self: nn.Module, x: Tensor, original: Any = kind.forward) -> Any:
            computed.append(self)
            return original(self, x)

        monkeypatch.setattr(kind, "forward", forward)
    tail(tail.outputs)
    assert computed == [model.classifier[0].linear, model.head]


class Branches(nn.Module):
    """Two consumers whose outputs are added: autograd gives both the same tensor. With `total`, their sum over tokens."""

    def __init__(self, *, total: bool) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(3, 3) for _ in range(4))
        self.activation, self.total = nn.Tanh(), total

    def width_sites(self) -> list[WidthSite]:
        act = self.activation
        return [WidthSite("left", self.a, (act,), act, self.b), WidthSite("right", self.c, (act,), act, self.d)]

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.b(self.activation(self.a(x))), self.d(self.activation(self.c(x)))
        return left.sum(1) + right.sum(1) if self.total else left + right


@pytest.mark.parametrize("total", [False, True])
def test_goals_of_consumers_that_are_added_or_summed_up_are_right(total: bool) -> None:
    model = Branches(total=total).double()
    x, y = torch.randn(2, *[4] * total, 3).double(), torch.tensor([0, 1])
    sites = model.width_sites()
    for site, seen in zip(sites, signals(model, sites, x, y, TASKS["classification"].loss(0.0)), strict=True):
        _, _, gradient = literal_gradient(model, site.consumer, x, lambda o: F.cross_entropy(o, y, reduction="sum"))
        torch.testing.assert_close(seen.goal, -gradient)
