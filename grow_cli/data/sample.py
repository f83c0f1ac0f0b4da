"""A random part of the training split, for measuring; iterating again gives the same minibatches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from grow_cli.data.tensors import Data
from grow_cli.hardware import sent


def draw(data: Data, n: int, batch_size: int) -> Sample:
    """Another sample at each call, from torch's global stream: inside a growth event the growth stream."""
    return Sample(data, n, batch_size, int(torch.randint(2**62, ())))


class Sample:
    """`n` training samples without repetition (all, if there are fewer), prepared and augmented as for training."""

    def __init__(self, data: Data, n: int, batch_size: int, seed: int) -> None:
        self._data, self._batch_size, self._seed = data, batch_size, seed
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
        self._index = sent(order[:n], data.train.y.device)

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        data = self._data
        generator = torch.Generator(data.train.y.device).manual_seed(self._seed)
        for index in self._index.split(self._batch_size):
            x = data.prepare(data.train.x.index_select(0, index))
            yield x if data.augment is None else data.augment(x, generator), data.train.y.index_select(0, index)
