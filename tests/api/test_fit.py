"""`grow.fit`: a stranger's module is traced, grown, and trained to the numbers of the command on the same net."""

from __future__ import annotations

import signal
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import grow_cli as grow
from grow_cli.commands.train import compose
from grow_cli.data.base import DataSpec
from grow_cli.errors import UserError
from grow_cli.methods.width import check_widening
from grow_cli.models.base import rebuild
from grow_cli.models.modules.traced import template_of
from grow_cli.models.modules.tracing import trace
from grow_cli.surgery.flops import flops_per_sample
from grow_cli.training.loop import Loop
from grow_cli.training.streams import Streams

SHORT = {"trigger": "every", "trigger.every": 1, "stop.epochs": 2, "batch_size": 8, "threads": 1, "device": "cpu"}
ENDS = DataSpec("tensors", "classification", (6,), 3)
SHORT |= {"growth.neurons": 2, "growth.until": 0.9, "evaluate.probe": 16}


class Residual(nn.Module):
    """Two blocks on a stream, with batch norm, of a forward that uses functions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.conv1, self.bn1 = nn.Conv2d(4, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv3, self.conv4 = nn.Conv2d(4, 2, 3, padding=1), nn.Conv2d(2, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        x = x + self.conv4(torch.relu(self.conv3(x)))
        return self.head(x.mean((2, 3)))


class Functional(nn.Module):
    """Everything but the layers is a function, and the flattening counts its samples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc1, self.fc2 = nn.Conv2d(1, 2, 3), nn.Linear(2 * 9, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.leaky_relu(self.conv(x), 0.1), 2)
        x = F.dropout(torch.tanh(self.fc1(x.view(x.size(0), -1))), 0.1, self.training)
        return self.fc2(x)


class Block(nn.Module):
    def __init__(self, d: int, hidden: int) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, hidden), nn.SiLU(), nn.Linear(hidden, d))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


def _vgg() -> nn.Module:
    stage = [nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.SELU(), nn.Conv2d(2, 3, 3, padding=1), nn.SELU()]
    head = [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3 * 16, 4), nn.SELU(), nn.Dropout(0.2), nn.Linear(4, 3)]
    return nn.Sequential(*stage, *head)


def _shared_activation() -> nn.Module:
    act = nn.Tanh()
    return nn.Sequential(nn.Linear(6, 3), act, nn.Linear(3, 4), act, nn.Linear(4, 3))


# name → the module, how many numbers a sample has, and how many sites it has
SHAPES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "plain": (lambda: nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 3)), (6,), 1),
    "deep": (
        lambda: nn.Sequential(*[nn.Linear(6, 6), nn.GELU()] * 1, nn.Linear(6, 2), nn.ELU(), nn.Linear(2, 3)),
        (6,),
        2,
    ),
    "shared activation": (_shared_activation, (6,), 2),
    "batch norm": (
        lambda: nn.Sequential(nn.Linear(6, 3, bias=False), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 3)),
        (6,),
        1,
    ),
    "dropout": (lambda: nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Dropout(0.3), nn.Linear(3, 3)), (6,), 1),
    "residual blocks": (
        lambda: nn.Sequential(nn.Linear(6, 5), Block(5, 3), Block(5, 2), nn.LayerNorm(5), nn.Linear(5, 3)),
        (6,),
        2,
    ),
    "vgg": (_vgg, (1, 8, 8), 3),
    "average pooling": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 2, 3, stride=2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
        ),
        (1, 8, 8),
        1,
    ),
    "residual convolutions": (Residual, (1, 8, 8), 2),
    "functions": (Functional, (1, 8, 8), 2),
}


def data(shape: tuple[int, ...], n: int = 48) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, *shape, generator=generator)
    return x, (x.flatten(1)[:, :3]).argmax(1)


@pytest.mark.parametrize("name", SHAPES)
def test_every_site_of_a_module_is_found_and_grown(name: str, tmp_path: Path) -> None:
    make, shape, sites = SHAPES[name]
    torch.manual_seed(0)
    module = make()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    x, y = data(shape)
    best = {"method": "tiny", "method.significance": False}
    keys = best if name in ("plain", "vgg", "residual convolutions") else {"method": "random", "method.grow": "width"}
    run = grow.fit(module, (x, y), (x[:16], y[:16]), run_dir=tmp_path / "run", **SHORT | keys)
    assert len(run.net.widths()) == sites
    first = [place.of(module).units for place in trace(module, shape).places]
    assert all(after > before for after, before in zip(run.net.widths(), first, strict=True))
    assert all(torch.equal(module.state_dict()[key], tensor) for key, tensor in before.items()), (
        "the one given is touched"
    )
    grown = run.module
    assert type(grown) is type(module)
    assert (
        sum(p.numel() for p in grown.parameters())
        == run.summary["parameters"]
        > sum(t.numel() for t in module.parameters())
    )
    assert run.summary["flops_per_sample"] == flops_per_sample(grown, shape)
    accuracy = (run.predict(x[:16], names=False) == y[:16].numpy()).mean()
    assert accuracy == pytest.approx(run.summary["val_accuracy"], abs=1e-9)


@pytest.mark.slow
def test_the_command_on_the_same_net_gives_the_same_bits(tmp_path: Path) -> None:
    keys = SHORT | {"subset": 200, "batch_size": 32, "method.samples": 100, "run_dir": tmp_path / "theirs"}
    theirs = grow.train(method="tiny", dataset="digits", model="mlp", **{"model.hidden": [3, 2]}, **keys)
    mine = nn.Sequential(
        OrderedDict(flat=nn.Flatten(), a=nn.Linear(64, 3), f=nn.ReLU(), b=nn.Linear(3, 2), g=nn.ReLU())
    )
    mine.add_module("head", nn.Linear(2, 10))
    config = compose(["dataset=digits", "method=tiny", "model=mlp", "model.hidden=[3,2]"])
    with torch.random.fork_rng(devices=[]), Streams(0, torch.device("cpu")).using("initialization"):
        first = rebuild(theirs.summary["architecture"] | {"model": theirs.config["model"]})
    for p, q in zip(mine.parameters(), first.parameters(), strict=True):
        p.data.copy_(q)
    raw = config.dataset.load(tmp_path)
    keys["run_dir"] = tmp_path / "mine"
    ours = grow.fit(mine, (raw.train_x, raw.train_y), None, (raw.test_x, raw.test_y), method="tiny", **keys)
    assert theirs.growth["units_added"].sum() > 0
    assert theirs.net.widths() == ours.net.widths()
    for p, q in zip(theirs.net.parameters(), ours.net.parameters(), strict=True):
        assert torch.equal(p, q)
    same = [name for name in theirs.metrics if "seconds" not in name]
    assert theirs.metrics[same].equals(ours.metrics[same])
    (found,) = grow.compare([ours])
    assert found.numbers["parameters"].item() == ours.summary["parameters"]
    assert ours.report().is_file()


def test_a_regression_of_numpy_arrays_and_a_dataset_of_tensors(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 4))
    net = nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 1))
    run = grow.fit(net, (x, x.sum(1)), method="net2net", run_dir=tmp_path / "a", **SHORT)
    assert run.predict(x).shape == (60, 1)
    assert "val_r2" in run.summary
    pairs = TensorDataset(*data((6,)))
    net = nn.Sequential(nn.Linear(6, 2), nn.Tanh(), nn.Linear(2, 5))  # it knows of more classes than are shown
    run = grow.fit(net, pairs, pairs, overrides=["method=net2net"], run_dir=tmp_path / "b", **SHORT)
    assert run.predict_proba(pairs.tensors[0]).shape == (48, 5)


def test_a_run_is_read_again_with_a_module_like_the_one_given(tmp_path: Path) -> None:
    make, shape, _ = SHAPES["batch norm"]
    x, y = data(shape)
    run = grow.fit(make(), (x, y), method="random", run_dir=tmp_path / "run", **SHORT, **{"method.grow": "width"})
    again = grow.load(run.folder, module=make())
    assert np.array_equal(again.predict(x), run.predict(x))
    with pytest.raises(UserError, match=r"grow\.load\(RUN, module=\.\.\.\)"):
        grow.load(run.folder).predict(x)
    with pytest.raises(UserError, match="a module of another structure"):
        grow.load(run.folder, module=SHAPES["plain"][0]())


@pytest.mark.slow
def test_an_interrupted_fit_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, shape, _ = SHAPES["plain"]
    torch.manual_seed(0)
    module, keys = make(), SHORT | {"method": "net2net", "stop.epochs": 4}
    whole = grow.fit(module, data(shape), run_dir=tmp_path / "whole", **keys)
    evaluate = Loop._evaluate

    def interrupted(loop: Loop) -> None:
        evaluate(loop)
        if loop.session.progress.evaluations == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Loop, "_evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        grow.fit(module, data(shape), run_dir=tmp_path / "broken", **keys)
    monkeypatch.setattr(Loop, "_evaluate", evaluate)
    with pytest.raises(UserError, match="of other keys"):
        grow.fit(module, data(shape), run_dir=tmp_path / "broken", resume=True, **keys | {"seed": 1})
    again = grow.fit(module, data(shape), run_dir=tmp_path / "broken", resume=True, **keys)
    assert again.growth["units_added"].sum() > 0
    assert all(torch.equal(p, q) for p, q in zip(again.net.parameters(), whole.net.parameters(), strict=True))
    with pytest.raises(UserError, match="is finished"):
        grow.fit(module, data(shape), run_dir=tmp_path / "broken", resume=True, **keys)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if x.sum() > 0 else -self.a(x)


class Fixed(nn.Module):
    """Its width stands in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(2 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(x)).view(-1, 72))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.b(torch.relu(self.a(x)))))))


REFUSED: dict[str, tuple[Callable[[], object], tuple[int, ...], str]] = {
    "no module": (lambda: nn.Linear, (6,), "is not a torch.nn.Module"),
    "no parameter": (lambda: nn.Flatten(), (6,), "has no parameter"),
    "branches": (Branching, (6,), "cannot be traced by torch.fx"),
    "other inputs": (lambda: nn.Linear(5, 3), (6,), "cannot take samples of shape"),
    "other outputs": (lambda: nn.Linear(6, 2), (6,), "has 2 outputs but the data have 3 classes"),
    "an image": (lambda: nn.Conv2d(1, 3, 3), (1, 8, 8), "a row per sample"),
    "nothing hidden": (lambda: nn.Sequential(nn.Linear(6, 3)), (6,), "its units are the output"),
    "a width in the forward": (Fixed, (1, 8, 8), "contains its width"),
    "used twice": (Twice, (6,), "b is used more than once"),
    "no activation": (lambda: nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 3)), (6,), "0 activations are between"),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(6, 3), nn.LayerNorm(3), nn.ReLU(), nn.Linear(3, 3)),
        (6,),
        "its units pass through LayerNorm",
    ),
    "groups": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3, groups=2), nn.Flatten(), nn.Linear(32, 3)
        ),
        (1, 8, 8),
        "groups",
    ),
}


def widened(module: object, shape: tuple[int, ...]) -> None:
    """Asks all that a width method asks of a module before it is trained."""
    template = template_of(module, DataSpec("tensors", "classification", shape, 3))  # type: ignore[arg-type]
    check_widening(template.net([place.of(template.module).units for place in template.found.places]), "tiny")


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_that_cannot_grow_is_refused_in_one_sentence(name: str) -> None:
    make, shape, told = REFUSED[name]
    with pytest.raises(UserError, match=told) as refused:
        widened(make(), shape)
    assert "\n" not in str(refused.value)


def test_a_refused_module_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its units are the output"):
        grow.fit(nn.Sequential(nn.Linear(6, 3)), data((6,)), method="tiny", run_dir=tmp_path / "run", **SHORT)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "keys", "told"),
    [
        (None, {"dataset": "digits"}, "leave the key out"),
        (None, {"method": "copy"}, "cannot grow model=module"),
        (None, {"evaluate.test_every": 1}, "needs a test part"),
        ((torch.zeros(4, 6),), {}, "must be a TensorDataset or a pair"),
        ((torch.zeros(4, 6, 2), torch.zeros(4)), {}, "is needed"),
        ((np.array([["a"] * 6] * 4), np.zeros(4)), {}, "encode what is text"),
        ((torch.zeros(4, 6), torch.zeros(3).long()), {}, "4 samples"),
        ((torch.full((8, 6), torch.nan), torch.zeros(8).long()), {}, "not finite"),
    ],
)
def test_data_and_keys_that_do_not_fit_are_refused(
    given: object, keys: dict[str, object], told: str, tmp_path: Path
) -> None:
    net = SHAPES["plain"][0]()
    with pytest.raises(UserError, match=told):
        grow.fit(net, given or data((6,)), run_dir=tmp_path / "run", **SHORT | {"method": "net2net"} | keys)


def test_equal_modules_have_equal_keys_and_others_have_not() -> None:
    ends = template_of(SHAPES["plain"][0](), ENDS).key
    assert ends == template_of(SHAPES["plain"][0](), ENDS).key
    other = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 3))
    assert ends != template_of(other, ENDS).key


def test_a_hidden_width_is_followed_through_every_function() -> None:
    found = trace(Functional(), (1, 8, 8))
    assert [(p.producer, p.consumer) for p in found.places] == [("conv", "fc1"), ("fc1", "fc2")]
    assert [type(m).__name__ for p in found.places for m in p.between] == [
        *("LeakyReLU", "MaxPool2d", "Flatten", "Tanh", "Identity"),
    ]
