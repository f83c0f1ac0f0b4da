"""Separate random streams, so that growing earlier changes neither the data order nor the initialization."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from grow_cli.data.splits import bits_of


class Streams:
    """A generator each for `data` (order, augmentation), `initialization` and `growth`, all derived from one seed.

    What a training step draws besides (dropout) comes from torch's global generators, seeded here as well.
    """

    names = ("data", "initialization", "growth")

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self.generators = {name: torch.Generator().manual_seed(bits_of(f"{seed}/{name}")) for name in self.names}
        torch.manual_seed(bits_of(f"{seed}/step"))

    def __getitem__(self, name: str) -> torch.Generator:
        return self.generators[name]

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Let code that draws from torch's global generators (`nn.Linear`, ...) draw from this stream instead."""
        before = self._device_state()
        with torch.random.fork_rng(devices=[]):
            try:
                # one number of the stream seeds the block: the device's generator, too, follows the stream
                torch.manual_seed(int(torch.randint(2**62, (), generator=self.generators[name])))
                yield
            finally:
                self._set_device_state(before)

    @contextmanager
    def peeking(self, name: str) -> Iterator[None]:
        """What `using` would draw next, without moving the stream: what is found here is found again there."""
        state = self.generators[name].get_state()
        try:
            with self.using(name):
                yield
        finally:
            self.generators[name].set_state(state)

    def state_dict(self) -> dict[str, Any]:
        """Every generator's state, the global ones' too; but not that of `data`, which `Batches` keeps with its place."""
        state: dict[str, Any] = {name: g.get_state() for name, g in self.generators.items() if name != "data"}
        state["step"] = torch.get_rng_state()
        own = self._device_state()
        if own is not None:
            state[f"step_{self.device.type}"] = own
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        for name, generator in self.generators.items():
            if name != "data":
                generator.set_state(state[name])
        torch.set_rng_state(state["step"])
        self._set_device_state(state.get(f"step_{self.device.type}"))  # absent where it ran on another device

    def _device_state(self) -> Tensor | None:
        """The state of the device's own generator; None on the CPU."""
        if self.device.type == "cuda":
            return torch.cuda.get_rng_state(self.device)
        return torch.mps.get_rng_state() if self.device.type == "mps" else None

    def _set_device_state(self, state: Tensor | None) -> None:
        if state is None:
            return
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state, self.device)
        else:
            torch.mps.set_rng_state(state)


def fork(generator: torch.Generator) -> torch.Generator:
    """A new generator seeded by one draw; its draws do not affect the stream that it came from."""
    seed: Tensor = torch.randint(2**62, (), generator=generator)
    return torch.Generator().manual_seed(int(seed))
