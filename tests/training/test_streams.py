"""Random streams: apart from each other, and carried by a checkpoint, the device's own generator among them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from grow_cli.training.streams import Streams

CPU = torch.device("cpu")


class Accelerator:
    """The generator of a device that is not here: `torch.cuda` or `torch.mps`, as far as streams know them."""

    def __init__(self) -> None:
        self.state = torch.tensor([7], dtype=torch.uint8)

    def get_rng_state(self, device: Any = None) -> Tensor:
        return self.state.clone()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        self.state = state.clone()


@pytest.fixture(params=["cuda", "mps"])
def accelerated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.device, Accelerator]:
    accelerator = Accelerator()
    for name in ("get_rng_state", "set_rng_state"):
        monkeypatch.setattr(getattr(torch, request.param), name, getattr(accelerator, name))
    return torch.device(request.param), accelerator


def test_what_one_stream_draws_does_not_move_the_others() -> None:
    quiet, busy = Streams(0, CPU), Streams(0, CPU)
    with busy.using("growth"):
        torch.randn(1000)
    for name in ("data", "initialization"):
        assert torch.equal(torch.randn(5, generator=quiet[name]), torch.randn(5, generator=busy[name]))
    assert not torch.equal(torch.randn(5, generator=quiet["growth"]), torch.randn(5, generator=busy["growth"]))


def test_growth_leaves_the_generators_of_training_steps_where_they_were(
    accelerated: tuple[torch.device, Accelerator],
) -> None:
    device, accelerator = accelerated
    streams = Streams(0, device)
    before = torch.get_rng_state()
    with streams.using("growth"):
        torch.randn(10)
        accelerator.state += 1  # as a draw on the device would
    assert torch.equal(torch.get_rng_state(), before)
    assert accelerator.state.item() == 7


def test_a_checkpoint_carries_the_device_s_own_generator(accelerated: tuple[torch.device, Accelerator]) -> None:
    device, accelerator = accelerated
    streams = Streams(0, device)
    state = streams.state_dict()
    accelerator.state += 1
    Streams(0, device).load_state_dict(state)
    assert accelerator.state.item() == 7
    Streams(0, CPU).load_state_dict(state)  # goes on where that device is not
    accelerator.state += 1
    Streams(0, device).load_state_dict(Streams(0, CPU).state_dict())
    assert accelerator.state.item() == 8, "a run from the CPU does not know it"
