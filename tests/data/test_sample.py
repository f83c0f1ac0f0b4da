"""A sample is the same minibatches each time, and nobody else's random numbers."""

from __future__ import annotations

import pytest
import torch
from growing_nets import spec
from torch import Tensor

from grow_cli.data.augment import Augment
from grow_cli.data.batches import Split
from grow_cli.data.sample import Sample
from grow_cli.data.tensors import Data, Normalizer

SIZE = 23
AUGMENTS = {"plain": None, "cropped": Augment(2, False), "flipped": Augment(0, True), "both": Augment(1, True)}


def images(augment: Augment | None = None, *, stored: torch.dtype = torch.float32) -> Data:
    """Image i is i everywhere but in the first column, and its target is i."""
    x = torch.arange(SIZE, dtype=stored).view(-1, 1, 1, 1).expand(-1, 2, 4, 5).clone()
    x[..., 0] = 100
    split = Split(x, torch.arange(SIZE))
    normalizer = Normalizer(torch.full((1, 2, 1, 1), 3.0), torch.full((1, 2, 1, 1), 2.0))
    return Data(spec((2, 4, 5)), split, split, split, augment, normalizer, 255, 0)


def batches(sample: Sample) -> list[tuple[Tensor, Tensor]]:
    return list(sample)


def equal(a: list[tuple[Tensor, Tensor]], b: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = zip(a, b, strict=True)
    return len(a) == len(b) and all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in pairs)


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
def test_iterating_again_gives_the_same_minibatches(augment: Augment | None) -> None:
    sample = Sample(images(augment), 15, 4, seed=8)
    first = batches(sample)
    iterator = iter(sample)
    next(iterator)  # left half-way
    assert equal(batches(sample), first)
    torch.manual_seed(99)
    assert equal(batches(Sample(images(augment), 15, 4, seed=8)), first)
    assert not equal(batches(Sample(images(augment), 15, 4, seed=9)), first)


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
@pytest.mark.parametrize(("n", "batch_size"), [(1, 4), (8, 4), (15, 4), (SIZE, 5), (SIZE, 100), (1000, 7)])
def test_there_are_n_samples_without_repetition_or_all_of_them(
    augment: Augment | None, n: int, batch_size: int
) -> None:
    sample = Sample(images(augment), n, batch_size, seed=1)
    targets = [y for _, y in sample]
    count = min(n, SIZE)
    assert len(sample) == count
    assert [len(y) for y in targets[:-1]] == [batch_size] * ((count - 1) // batch_size)
    assert len(targets[-1]) == (count - 1) % batch_size + 1
    assert len(set(torch.cat(targets).tolist())) == count
    assert all(x.shape == (len(y), 2, 4, 5) for x, y in sample)


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
def test_the_minibatch_size_does_not_change_which_samples(augment: Augment | None) -> None:
    few, many = (torch.cat([y for _, y in Sample(images(augment), 10, size, seed=4)]) for size in (3, 10))
    assert torch.equal(few, many)


@pytest.mark.parametrize("stored", [torch.float32, torch.uint8])
def test_inputs_are_those_of_their_targets_as_a_model_takes_them(stored: torch.dtype) -> None:
    data = images(stored=stored)
    for x, y in Sample(data, 12, 5, seed=2):
        expected = torch.stack([data.train.x[i].float() for i in y.tolist()])
        assert x.dtype == torch.float32
        assert torch.equal(x, (expected - 3) / 2 if stored == torch.uint8 else expected)


def test_images_are_augmented_one_by_one_and_differently_in_each_minibatch() -> None:
    mirrored = []
    for x, y in Sample(images(Augment(0, True)), SIZE, 6, seed=3):
        left = x[:, 0, 0, 0] == 100
        assert torch.equal(left, x[:, 0, 0, -1] != 100)
        assert torch.equal(x[:, 0, 0, 2], y.float())
        mirrored.append((~left).tolist())
    assert any(True in batch and False in batch for batch in mirrored)
    assert mirrored[0] != mirrored[1]


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
def test_the_global_random_state_does_not_move(augment: Augment | None) -> None:
    before = torch.get_rng_state()
    batches(Sample(images(augment), 15, 4, seed=8))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_split_is_left_as_it_was() -> None:
    data = images(Augment(1, True))
    before = data.train.x.clone()
    for x, _ in Sample(data, SIZE, 6, seed=3):
        x.zero_()
    assert torch.equal(data.train.x, before)
