"""Small nets of every kind, and random growth of them: a new model is tested by adding a line to NETS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grow_cli.data.base import DataSpec
from grow_cli.models.base import ModelOption
from grow_cli.models.cnn import CNNOption
from grow_cli.models.mlp import MLPOption
from grow_cli.models.modules.network import GrowableModel
from grow_cli.models.modules.sites import DepthSite, WidthSite
from grow_cli.models.residual_cnn import ResidualCNNOption
from grow_cli.models.residual_mlp import ResidualMLPOption
from grow_cli.models.resnet18 import ResNet18Option
from grow_cli.models.vit import ViTOption
from grow_cli.surgery.apply import apply
from grow_cli.surgery.proposal import DepthProposal, WidthProposal


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small are slower on several threads, and very much slower where the cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Net:
    """A model's option, and the shape of its samples."""

    option: ModelOption
    input_shape: tuple[int, ...]

    @property
    def residual(self) -> bool:
        """Whether its hidden layers are blocks of a stream, alike where their widths are."""
        return isinstance(self.option, ResidualMLPOption | ResidualCNNOption | ViTOption)

    def build(self, *, batch: int = 12) -> tuple[GrowableModel, Tensor]:
        """The net, its norms' running statistics no longer those of the start, and a batch."""
        torch.manual_seed(3)
        model = self.option.build(spec(self.input_shape))
        x = torch.randn(batch, *self.input_shape)
        model.train()(2 * x + 1)
        return model.eval(), x


def run_of(model: nn.Module) -> Any:
    """As much of a run as reading a net takes."""
    return SimpleNamespace(model=model, loss=nn.CrossEntropyLoss())


def spec(input_shape: tuple[int, ...], *, outputs: int = 3, task: str = "classification") -> DataSpec:
    return DataSpec("made up", task, input_shape, outputs, ("a", "b", "c") if task == "classification" else ())


NETS = {
    "mlp": Net(MLPOption(hidden=[7, 5]), (1, 4, 4)),
    "mlp linear": Net(MLPOption(hidden=[]), (5,)),
    "mlp batch": Net(MLPOption(hidden=[4, 6], norm="batch", activation="tanh"), (5,)),
    "mlp layer": Net(MLPOption(hidden=[4, 6], norm="layer"), (5,)),
    "mlp rational": Net(MLPOption(hidden=[3, 4], activation="rational"), (2,)),
    "mlp rational_raw": Net(MLPOption(hidden=[3], activation="rational_raw"), (2,)),
    "mlp without bias": Net(MLPOption(hidden=[4, 3], bias=False, dropout=0.3, activation="selu"), (5,)),
    "mlp identity": Net(MLPOption(hidden=[4], activation="identity"), (5,)),
    "mlp relu_right": Net(MLPOption(hidden=[5, 4], activation="relu_right"), (5,)),
    "cnn": Net(CNNOption(channels=[[2, 3], [4]], hidden=[], activation="relu"), (1, 8, 8)),
    "cnn gap": Net(
        CNNOption(channels=[[2], [3, 2]], norm="batch", pool="avg", head="gap", hidden=[], activation="relu"), (3, 6, 7)
    ),
    "cnn hidden": Net(CNNOption(channels=[[3], []], hidden=[5, 4], activation="selu", kernel=1), (2, 8, 8)),
    "cnn rational": Net(CNNOption(channels=[[2], [3]], activation="rational", norm="batch", hidden=[]), (1, 4, 4)),
    "cnn without stages": Net(CNNOption(channels=[], hidden=[4], activation="relu"), (1, 3, 3)),
    "residual_mlp": Net(ResidualMLPOption(width=4, hidden=[5, 3]), (1, 4, 4)),
    "residual_mlp batch": Net(ResidualMLPOption(width=4, hidden=[2], norm="batch"), (5,)),
    "residual_mlp empty": Net(ResidualMLPOption(width=4, hidden=[], norm="none", activation="rational"), (5,)),
    "residual_cnn": Net(ResidualCNNOption(width=4, hidden=[3, 2]), (3, 8, 8)),
    "residual_cnn group": Net(ResidualCNNOption(width=4, hidden=[6, 3], norm="group"), (1, 4, 4)),
    "residual_cnn none": Net(ResidualCNNOption(width=3, hidden=[2], norm="none", pool=1), (1, 4, 4)),
    "resnet18": Net(ResNet18Option(stream=[4, 6], hidden=[[2, 1], [1]], classifier=[5]), (3, 8, 8)),
    "resnet18 batch": Net(ResNet18Option(stream=[2, 3], hidden=[[2], [1, 3]], classifier=[], norm="batch"), (1, 7, 5)),
    "resnet18 rational": Net(ResNet18Option(stream=[3], hidden=[[1, 2]], activation="rational"), (2, 2, 3)),
    "vit": Net(ViTOption(patch=4, dim=8, heads=2, mlp=[6, 5]), (1, 8, 8)),
    "vit rational": Net(ViTOption(patch=2, dim=4, heads=1, mlp=[3], activation="rational", dropout=0.2), (2, 4, 6)),
}


def width_proposal(site: WidthSite, k: int = 2, *, outgoing: float = 0.5, **more: Any) -> WidthProposal:
    """k units with random weights; those outgoing scaled by `outgoing`."""
    like, reader = site.producer.weight, site.consumer.weight
    bias = None if site.producer.bias is None else torch.randn(k)
    columns = k * site.columns_per_unit
    return WidthProposal(
        site,
        torch.randn(k, *like.shape[1:]),
        bias,
        outgoing * torch.randn(reader.shape[0], columns, *reader.shape[2:]),
        **more,
    )


def identity_proposal(site: DepthSite) -> DepthProposal:
    """A layer that passes its input on."""
    block = site.make_block()
    block.identity_()
    return DepthProposal(site, block.state_dict())


def grow_at_random(model: GrowableModel, optimizer: torch.optim.Optimizer | None, times: int = 4) -> list[str]:
    """Depth and width in turns, where the net has both, at random sites; the names of the sites."""
    names = []
    for turn in range(times):
        depth, width = model.depth_sites(), model.width_sites()
        pick = int(torch.randint(1000, ()))
        if depth and (turn % 2 == 0 or not width):
            proposal: Any = DepthProposal(depth[pick % len(depth)])
        else:
            proposal = width_proposal(width[pick % len(width)], 1 + pick % 3)
        apply(proposal, model, optimizer)
        names.append(proposal.site.name)
    return names


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, *, steps: int = 3, seed: int = 0) -> None:
    """Some steps of regression to noise; the same noise and dropout for the same seed."""
    torch.manual_seed(seed)
    model.train()
    for _ in range(steps):
        outputs = model(x)
        (outputs - torch.randn_like(outputs)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
