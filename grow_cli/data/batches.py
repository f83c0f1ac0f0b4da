"""Endless minibatches of a split on the device: a batch is an index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from grow_cli.console import warn
from grow_cli.data.augment import Augment
from grow_cli.data.mapped import Rows
from grow_cli.errors import UserError
from grow_cli.hardware import sent
from grow_cli.words import counted


@dataclass(frozen=True)
class Split:
    """Samples on the device, as they are stored: `Data.prepare` makes of `x` what a model takes."""

    x: Tensor | Rows
    """(N, ...) inputs; rows of a file where memory has no room for them."""
    y: Tensor
    """(N,) int64 class indices, (N, k) targets, or (N, context) bytes of text."""

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Chosen(Split):
    """A few of them, in memory."""

    x: Tensor


class Batches:
    """Draws `(x, y)` without end, each sample at most once per epoch; an epoch's incomplete last batch is dropped.

    The order is drawn on the CPU, so that it is the same on every device, and moved to the device once per epoch.
    `generator` belongs to this object alone: nothing else may draw from it.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        generator: torch.Generator,
        *,
        prepare: Callable[[Tensor], Tensor],
        augment: Augment | None = None,
    ) -> None:
        self._x, self._y = split.x, split.y
        self._generator = generator
        self._prepare = prepare
        self._augment = augment
        self._augment_generator = _peeked(generator, split.x.device) if augment else None
        self.batch_size = min(batch_size, len(split))
        self.epoch = 0
        """Completed epochs."""
        self.position = 0
        """Batches drawn in this epoch."""
        self._order: Tensor | None = None  # of this epoch, on the device; None before its first batch
        self._order_of_file: Tensor | None = None  # the same on the CPU, where the inputs are rows of a file
        self._cursor = 0  # samples drawn in this epoch
        self._generator_at_start = generator.get_state()  # before this epoch's order was drawn

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self._y) // self.batch_size

    def next(self) -> tuple[Tensor, Tensor]:
        """The next batch, prepared and augmented; never waits for the device."""
        order = self._order
        if order is None:
            order = self._shuffle()
        drawn = slice(self._cursor, self._cursor + self.batch_size)
        index = order[drawn]
        rows = index if self._order_of_file is None else self._order_of_file[drawn]
        x = self._prepare(self._x.index_select(0, rows))
        if self._augment is not None:
            assert self._augment_generator is not None
            x = self._augment(x, self._augment_generator)
        self._cursor += self.batch_size
        self.position += 1
        self._end_epoch_if_too_few_are_left()
        return x, self._y.index_select(0, index)

    def set_batch_size(self, batch_size: int) -> None:
        """From the next batch on; the epoch's order and the place in it stay."""
        self.batch_size = min(batch_size, len(self._y))
        self._end_epoch_if_too_few_are_left()

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and ints; small, as the order is drawn again from its generator."""
        return {
            "generator": self._generator_at_start,
            "augment": self._augment_generator.get_state() if self._augment_generator is not None else None,
            "samples": len(self._y),
            "batch_size": self.batch_size,
            "epoch": self.epoch,
            "position": self.position,
            "cursor": self._cursor,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue bit for bit where the state was taken."""
        if state["samples"] != len(self._y):
            raise UserError(
                f"the checkpoint was written with {counted(state['samples'], 'training sample')}, and there are "
                f"{len(self._y):,} now: resume with the same dataset, dataset.validation and subset"
            )
        if (state["augment"] is None) != (self._augment_generator is None):
            raise UserError(
                "the checkpoint was written with other augmentation: resume with the same dataset.crop and dataset.flip"
            )
        self.batch_size, self.epoch = state["batch_size"], state["epoch"]
        self.position, self._cursor = state["position"], state["cursor"]
        self._generator.set_state(state["generator"])
        self._generator_at_start = self._generator.get_state()
        self._shuffle()
        if self._augment_generator is not None:
            if len(state["augment"]) == len(self._augment_generator.get_state()):
                self._augment_generator.set_state(state["augment"])
            else:  # each kind of device has a generator of its own
                warn("resumed on another kind of device: augmentation continues with other random numbers")

    def _shuffle(self) -> Tensor:
        order = torch.randperm(len(self._y), generator=self._generator)
        self._order_of_file = order if isinstance(self._x, Rows) else None
        self._order = sent(order, self._y.device)
        return self._order

    def _end_epoch_if_too_few_are_left(self) -> None:
        if self._cursor + self.batch_size > len(self._y):
            self.epoch += 1
            self.position = self._cursor = 0
            self._order = None
            self._generator_at_start = self._generator.get_state()


def _peeked(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """A generator on the device, seeded from the next number of another, which is left as it was.

    So the order of the samples is the same with and without augmentation.
    """
    seed = torch.randint(2**62, (), generator=generator.clone_state())
    return torch.Generator(device).manual_seed(int(seed))
