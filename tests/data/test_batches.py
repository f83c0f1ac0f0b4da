"""Minibatches: order, epochs, exact resume, and no waiting for the device."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from grow_cli.data.augment import Augment
from grow_cli.data.batches import Batches, Split
from grow_cli.errors import UserError


def unchanged(x: Tensor) -> Tensor:
    return x


def make(n: int, batch_size: int, seed: int = 0, augment: Augment | None = None) -> Batches:
    """Sample i has the label i; its image is 4×4 pixels of its own."""
    x = torch.arange(n * 16, dtype=torch.float32).view(n, 1, 4, 4)
    generator = torch.Generator().manual_seed(seed)
    return Batches(Split(x, torch.arange(n)), batch_size, generator, prepare=unchanged, augment=augment)


def draw(batches: Batches, steps: int) -> list[tuple[Tensor, Tensor]]:
    return [batches.next() for _ in range(steps)]


def labels(batches: Batches, steps: int) -> list[int]:
    return [int(label) for _, y in draw(batches, steps) for label in y]


def same(a: list[tuple[Tensor, Tensor]], b: list[tuple[Tensor, Tensor]]) -> bool:
    return all(torch.equal(xa, xb) and torch.equal(ya, yb) for (xa, ya), (xb, yb) in zip(a, b, strict=True))


def test_each_epoch_visits_each_sample_once_in_an_order_of_its_own() -> None:
    batches = make(12, 4)
    epochs = [labels(batches, 3) for _ in range(3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 100))
def test_epoch_and_position_count_whole_batches_and_the_rest_is_dropped(n: int, batch_size: int, steps: int) -> None:
    batches = make(n, batch_size)
    assert batches.batch_size == min(batch_size, n)
    assert batches.steps_per_epoch == n // batches.batch_size
    seen: list[int] = []
    for step in range(steps):
        assert (batches.epoch, batches.position) == divmod(step, batches.steps_per_epoch)
        if batches.position == 0:
            seen = []
        seen += labels(batches, 1)
        assert len(set(seen)) == len(seen)
        assert len(seen) % batches.batch_size == 0


def test_inputs_and_labels_belong_together() -> None:
    for x, y in draw(make(10, 3), 9):
        assert torch.equal(x[:, 0, 0, 0], 16.0 * y)


def test_the_order_depends_on_the_generator_alone() -> None:
    first = labels(make(20, 4, seed=3), 15)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert labels(make(20, 4, seed=3), 15) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert labels(make(20, 4, seed=4), 15) != first


def test_the_order_is_the_same_with_and_without_augmentation() -> None:
    assert labels(make(20, 4, augment=Augment(1, True)), 15) == labels(make(20, 4), 15)


def test_augmentation_differs_between_epochs_and_seeds() -> None:
    augment = Augment(1, True)
    first, other = make(8, 8, seed=0, augment=augment), make(8, 8, seed=1, augment=augment)

    def by_label(batch: tuple[Tensor, Tensor]) -> Tensor:
        return batch[0][batch[1].argsort()]

    one, two = by_label(first.next()), by_label(first.next())
    assert not torch.equal(one, two)
    assert not torch.equal(one, by_label(other.next()))


@settings(deadline=None)
@given(st.integers(1, 13), st.integers(0, 30), st.booleans())
def test_a_resumed_run_continues_bit_for_bit(batch_size: int, steps: int, augmented: bool) -> None:
    augment = Augment(1, True) if augmented else None
    batches = make(13, batch_size, seed=5, augment=augment)
    draw(batches, steps)
    file = io.BytesIO()
    torch.save(batches.state_dict(), file)
    file.seek(0)
    rest = draw(batches, 20)

    resumed = make(13, 99, seed=6, augment=augment)
    draw(resumed, 3)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.batch_size == batch_size
    assert same(draw(resumed, 20), rest)
    assert (resumed.epoch, resumed.position) == (batches.epoch, batches.position)
    assert same(draw(resumed, 20), draw(batches, 20))


def test_a_state_is_small_and_does_not_change_as_drawing_goes_on() -> None:
    batches = make(1000, 10)
    draw(batches, 5)
    state = batches.state_dict()
    copy = {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
    draw(batches, 250)
    assert all(torch.equal(v, copy[k]) if isinstance(v, Tensor) else v == copy[k] for k, v in state.items())
    assert sum(v.numel() for v in state.values() if isinstance(v, Tensor)) < 20_000


def test_a_state_of_other_data_or_another_augmentation_is_a_sentence() -> None:
    state = make(10, 2).state_dict()
    with pytest.raises(UserError, match="10 training samples, and there are 11 now"):
        make(11, 2).load_state_dict(state)
    with pytest.raises(UserError, match="other augmentation"):
        make(10, 2, augment=Augment(1, False)).load_state_dict(state)


def test_a_new_batch_size_keeps_the_order_and_the_place_in_it() -> None:
    order = labels(make(12, 1), 12)
    batches = make(12, 2)
    taken = labels(batches, 2)
    batches.set_batch_size(3)
    assert (batches.epoch, batches.position, batches.steps_per_epoch) == (0, 2, 4)
    taken += labels(batches, 2)
    assert taken == order[:10]
    assert batches.epoch == 1  # two are left, too few for a batch of three
    batches.set_batch_size(100)
    assert batches.batch_size == 12


def test_a_new_batch_size_too_large_for_what_is_left_ends_the_epoch() -> None:
    batches = make(12, 2)
    draw(batches, 4)
    batches.set_batch_size(5)
    assert (batches.epoch, batches.position) == (1, 0)
    assert len(set(labels(batches, 2))) == 10


class _Refuse(TorchDispatchMode):
    """Refuses what makes the host wait for a device: a value read back, or a shape that depends on values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "equal", "masked_select", "is_nonzero"), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("augment", [None, Augment(1, True)])
def test_a_batch_reads_nothing_back_from_the_device(augment: Augment | None) -> None:
    batches = make(12, 4, augment=augment)
    with _Refuse():
        draw(batches, 7)
    with pytest.raises(AssertionError, match="_local_scalar_dense"), _Refuse():
        torch.ones(()).item()


def test_a_batch_without_augmentation_is_a_slice_and_two_selections() -> None:
    called: list[str] = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    batches = make(12, 4)
    batches.next()
    with Count():
        batches.next()
    assert called == ["slice", "index_select", "index_select"]
