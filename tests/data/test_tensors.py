"""From an option to splits on the device: the cut, the subset, normalisation, storage as bytes, the probe batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grow_cli.data import splits, tensors
from grow_cli.data.base import DatasetOption, DataSpec, RawData
from grow_cli.data.batches import Batches
from grow_cli.data.datasets.digits import Digits
from grow_cli.data.datasets.synthetic import Curve, Moons
from grow_cli.data.identity import Trained
from grow_cli.data.tensors import Data, load_data
from grow_cli.errors import UserError
from grow_cli.words import counted

CPU = torch.device("cpu")


@dataclass
class Given(DatasetOption):
    """The data handed to it."""

    raw: Any = None

    def load(self, data_dir: Path) -> RawData:
        return self.raw


def load(option: DatasetOption, subset: int | float | None = None) -> Data:
    return load_data(option, data_dir=Path("/nowhere"), subset=subset, device=CPU)


def numbered(counts: list[int], **keys: Any) -> Given:
    """As many samples of each class as told; the input of sample i is i, not normalised."""
    y = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(7))]
    x = torch.arange(len(y), dtype=torch.float32).unsqueeze(1)
    classes = tuple(str(c) for c in range(len(counts)))
    return Given(name="given", raw=RawData(x, y, x, y, classes=classes), normalize=False, **keys)


def images(n: int = 60, channels: int = 3, **keys: Any) -> Given:
    """Random bytes of a mean and spread of their own per channel, in two classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.stack(
        [torch.randint(20 * c, 100 + 70 * c, (n, 6, 5), generator=generator) for c in range(channels)], 1
    ).to(torch.uint8)
    y = torch.arange(n) % 2
    return Given(name="given", raw=RawData(x, y, x.clone(), y, classes=("a", "b")), **keys)


def test_digits_become_float32_splits_with_a_spec() -> None:
    data = load(Digits(name="digits"))
    assert data.spec == DataSpec("digits", "classification", (1, 8, 8), 10, tuple("0123456789"))
    assert [len(split) for split in (data.train, data.val, data.test)] == [1293, 144, 360]
    for split in (data.train, data.val, data.test):
        assert split.x.dtype == torch.float32
        assert split.x.shape[1:] == (1, 8, 8)
        assert split.y.dtype == torch.int64
    assert data.augment is None


def test_the_curve_becomes_a_regression() -> None:
    data = load(Curve(name="curve"), subset=50)
    assert data.spec == DataSpec("curve", "regression", (1,), 1, ())
    assert data.train.x.shape == data.train.y.shape == (50, 1)
    assert data.train.y.dtype == torch.float32
    assert data.val.y.shape == (40, 1)


def test_the_cut_is_disjoint_whole_and_stratified() -> None:
    data = load(numbered([100, 50, 30], validation=0.1))
    train, val = data.train.x.flatten(), data.val.x.flatten()
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(180.0))
    assert data.val.y.bincount().tolist() == [10, 5, 3]
    assert data.train.y.bincount().tolist() == [90, 45, 27]


def test_without_a_cut_all_samples_are_trained_on_and_measured() -> None:
    data = load(numbered([100, 50, 30], validation=0))
    assert torch.equal(data.train.x.flatten().sort().values, torch.arange(180.0))
    assert data.val is data.train
    few = load(numbered([100, 50, 30], validation=0), subset=30)
    assert len(few.train) == 30
    assert few.val is few.train, "not those that the subset leaves out"


def test_cut_and_subset_follow_split_seed_and_neither_use_nor_move_the_global_stream() -> None:
    def load_after(seed: int, split_seed: int) -> Data:
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        data = load(numbered([100, 100], split_seed=split_seed), subset=40)
        data.probe(8)
        assert torch.equal(torch.get_rng_state(), before)
        return data

    one, two, other = load_after(1, 0), load_after(2, 0), load_after(1, 1)
    assert torch.equal(one.train.x, two.train.x)
    assert torch.equal(one.val.x, two.val.x)
    assert torch.equal(one.probe(8).x, two.probe(8).x)
    assert not torch.equal(one.val.x, other.val.x)


def test_no_class_loses_its_last_training_sample_to_validation() -> None:
    assert load(numbered([40, 1, 1], validation=0.5)).train.y.bincount().tolist() == [20, 1, 1]


@pytest.mark.parametrize("counts", [[1], [1, 1, 1]])
def test_too_few_samples_to_cut_are_a_sentence(counts: list[int]) -> None:
    with pytest.raises(UserError, match=r"dataset.validation=0.1: the training part has \d samples? in \d class"):
        load(numbered(counts))


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(lambda c: sum(c) > 1), st.floats(0.01, 0.99))
def test_proportional_quotas_are_whole_and_off_by_less_than_one(counts: list[int], fraction: float) -> None:
    total = round(fraction * sum(counts))
    quotas = splits._proportional(counts, total)
    assert sum(quotas) == total
    for quota, count in zip(quotas, counts, strict=True):
        assert abs(quota - count * total / sum(counts)) < 1
        assert 0 <= quota <= count


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.data())
def test_equal_quotas_differ_only_where_a_class_has_no_more(counts: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(counts)))
    quotas = splits._equal(counts, total)
    assert sum(quotas) == total
    highest = max(quotas)
    for quota, count in zip(quotas, counts, strict=True):
        assert quota <= count
        assert quota >= highest - 1 or quota == count
    if total < sum(counts):
        more = splits._equal(counts, total + 1)
        assert all(a <= b for a, b in zip(quotas, more, strict=True))


@pytest.mark.parametrize(
    ("subset", "expected"),
    [
        (30, [10, 10, 10]),
        (31, [10, 10, 11]),
        (3, [1, 1, 1]),
        (0.1, [9, 9, 9]),
        (200, [67, 67, 66]),
        (1.0, [90, 90, 90]),
    ],
)
def test_a_subset_has_equally_many_samples_of_each_class(subset: int | float, expected: list[int]) -> None:
    data = load(numbered([100, 100, 100]), subset=subset)
    assert sorted(data.train.y.bincount().tolist()) == sorted(expected)
    assert len(data.val) == 30


def test_a_subset_larger_than_a_class_takes_all_of_it_and_shares_the_rest() -> None:
    data = load(numbered([100, 20, 100], validation=0.1), subset=118)
    assert data.train.y.bincount().tolist() == [50, 18, 50]


def test_a_subset_keeps_the_validation_split_and_is_part_of_every_larger_one() -> None:
    whole, large, small = (load(numbered([100, 60]), subset=subset) for subset in (None, 50, 0.1))
    assert torch.equal(whole.val.x, small.val.x)
    assert torch.isin(small.train.x, large.train.x).all()
    assert torch.isin(large.train.x, whole.train.x).all()
    assert torch.equal(load(numbered([100, 60]), subset=1.0).train.x, whole.train.x)


@pytest.mark.parametrize(
    ("subset", "sentence"),
    [
        (271, "subset=271: the training split has 270 samples"),
        (2, "subset=2: that is 2 of 270 training samples, but one per class takes 3"),
        (0.001, "subset=0.001: that is 0 of 270 training samples, but one per class takes 3"),
    ],
)
def test_a_subset_too_large_or_below_one_per_class_is_a_sentence(subset: int | float, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load(numbered([100, 100, 100]), subset=subset)


def test_a_subset_of_a_regression_without_a_sample_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"subset=0.001: that is none of 160 training samples"):
        load(Curve(name="curve"), subset=0.001)


@pytest.mark.parametrize("make", [images, lambda: Moons(name="moons")])
def test_training_inputs_have_mean_0_and_deviation_1_per_channel_or_feature(make: Any) -> None:
    x = load(make()).train.x.double()
    dims = [d for d in range(x.dim()) if d != 1]
    torch.testing.assert_close(x.mean(dims), torch.zeros(x.shape[1]).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.std(dims, correction=0), torch.ones(x.shape[1]).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("subset", [None, 20])
def test_statistics_come_from_what_is_trained_on_alone(subset: int | None) -> None:
    option = images()
    labels = option.raw.train_y
    train, val = splits.cut(labels, option.validation, option.split_seed)
    if subset:
        train = train[splits.subset(labels[train], subset, option.split_seed)]
    before = load(option, subset)
    others = torch.ones(len(labels), dtype=torch.bool)
    others[train] = False
    assert others[val].all()
    option.raw.train_x[others] = 255
    option.raw.test_x[:] = 0
    after = load(option, subset)
    assert torch.equal(after.train.x, before.train.x)
    assert not torch.equal(after.val.x, before.val.x)


def test_data_for_a_trained_net_are_normalised_as_its_own_were() -> None:
    trained_on, other = Digits(name="digits"), Digits(name="digits", scale=3, validation=0.5)
    ours = load(trained_on)
    theirs = load_data(other, data_dir=Path("/nowhere"), subset=50, device=CPU, trained=Trained(inputs=ours.inputs()))
    torch.testing.assert_close(theirs.test.x, ours.test.x, rtol=0, atol=0)
    assert not torch.equal(load(other, 50).test.x, ours.test.x)


def test_data_of_another_shape_than_a_trained_net_s_is_a_sentence() -> None:
    ours = load(Digits(name="digits"))
    trained = Trained(ours.identity, ours.inputs())
    with pytest.raises(UserError, match=r"given is not what the net was trained on.*\(1,\).*\(1, 8, 8\)"):
        load_data(numbered([5, 5]), data_dir=Path("/nowhere"), subset=None, device=CPU, trained=trained)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_feature_without_variance_becomes_zero_and_not_nan(value: float) -> None:
    option = Moons(name="moons", samples=50)
    raw = option.load(Path("/nowhere"))
    raw.train_x[:, 1] = value
    data = load(Given(name="given", raw=raw))
    assert data.train.x[:, 1].abs().max() == 0
    assert data.test.x.isfinite().all()


def test_a_channel_without_variance_becomes_zero_and_not_nan() -> None:
    option = images()
    option.raw.train_x[:, 2] = 77
    assert load(option).train.x[:, 2].abs().max() == 0


def test_without_normalisation_images_are_divided_by_white_and_vectors_left_alone() -> None:
    option = images(normalize=False)
    data = load(option)
    assert torch.equal(data.test.x, option.raw.test_x / 255)
    assert load(Digits(name="digits", normalize=False)).train.x.max() == 1
    moons = Moons(name="moons", normalize=False)
    assert torch.equal(load(moons).test.x, moons.load(Path("/nowhere")).test_x)


def test_the_inverse_of_the_normalisation_gives_the_bytes_back() -> None:
    option = images()
    data = load(option)
    assert torch.equal(data.normalizer.inverse(data.test.x).round().to(torch.uint8), option.raw.test_x)


def test_images_kept_as_bytes_give_the_same_batches_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    option = images(crop=2, flip=True)
    floats = load(option)
    monkeypatch.setattr(tensors, "FLOAT32_LIMIT", 4 * 54 * 3 * 6 * 5 - 1)  # a byte less than the training split takes
    stored = load(option)
    assert (floats.train.x.dtype, stored.train.x.dtype) == (torch.float32, torch.uint8)
    for name in ("train", "val", "test"):
        assert torch.equal(getattr(floats, name).x, stored.prepare(getattr(stored, name).x))
    assert torch.equal(floats.probe(7).x, stored.probe(7).x)
    batches = [
        Batches(d.train, 7, torch.Generator().manual_seed(0), prepare=d.prepare, augment=d.augment)
        for d in (floats, stored)
    ]
    for _ in range(20):
        (a, ya), (b, yb) = (batch.next() for batch in batches)
        assert torch.equal(a, b)
        assert torch.equal(ya, yb)


def test_prepare_does_nothing_to_what_is_normalised_already() -> None:
    data = load(images())
    assert data.prepare(data.train.x) is data.train.x


def test_the_probe_is_a_fixed_batch_of_training_samples_without_augmentation() -> None:
    data = load(images(crop=2, flip=True))
    probe = data.probe(16)
    assert probe.x.shape == (16, 3, 6, 5)
    assert torch.equal(probe.x, data.probe(16).x)
    assert torch.equal(probe.x[:5], data.probe(5).x)
    for x, y in zip(probe.x, probe.y, strict=True):
        same = (data.train.x == x).flatten(1).all(1)
        assert same.any()
        assert (data.train.y[same] == y).all()
    assert len(data.probe(10_000)) == len(data.train)


def test_augmentation_of_what_is_no_image_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"dataset.crop=2, dataset.flip=False: given has no images"):
        load(numbered([20, 20], crop=2))


def test_a_crop_as_large_as_the_image_is_a_sentence() -> None:
    assert load(images(crop=4)).augment is not None
    with pytest.raises(UserError, match=r"dataset.crop=5: .* 5×6 pixels"):
        load(images(crop=5))


def test_the_scale_multiplies_what_the_model_sees_and_the_inverse_undoes_it() -> None:
    for kind in (Digits, Moons):
        plain, scaled = (load(kind(name="given", scale=scale)) for scale in (1.0, 0.1))
        torch.testing.assert_close(scaled.prepare(scaled.train.x), 0.1 * plain.prepare(plain.train.x))
        back = scaled.normalizer.inverse(scaled.prepare(scaled.test.x))
        torch.testing.assert_close(back, plain.normalizer.inverse(plain.prepare(plain.test.x)), rtol=1e-4, atol=1e-3)


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.floats(1e-12, 0.999), st.booleans())
def test_a_held_out_split_is_as_large_as_asked_or_refused_in_a_sentence(
    counts: list[int], fraction: float, regression: bool
) -> None:
    option = numbered(counts, validation=fraction)
    n = sum(counts)
    if regression:
        if n < 2:
            return
        x = option.raw.train_x
        option.raw = RawData(x, x.clone(), x, x.clone(), task="regression")
    try:
        data = load(option)
    except UserError as error:
        said = str(error)
        assert f"dataset.validation={fraction}: the training part has {counted(n, 'sample')}" in said
        least = 2 if regression else 1
        assert round(fraction * n) < least or n <= least or max(counts) == 1, said
    else:
        assert 0 < len(data.val) <= round(fraction * n)
        assert len(data.val) > 1 or not regression


@pytest.mark.parametrize("name", ["digits", "curve", "moons", "sines", "quadratics"])
def test_every_dataset_refuses_to_hold_out_nothing_where_something_is_asked_for(name: str) -> None:
    from grow_cli import registry

    cls = registry.groups()["dataset"][name]
    for fraction in (1e-30, 1e-8, 1e-4):
        with pytest.raises(
            UserError, match=rf"dataset.validation={fraction}: the training part has [\d,]+ samples, too few"
        ):
            load(cls(name=name, validation=fraction))  # type: ignore[call-arg,arg-type]
    assert load(cls(name=name, validation=0)).val is not None  # type: ignore[call-arg,arg-type]


def test_the_share_that_the_refusal_names_is_enough() -> None:
    for n in range(3, 400, 7):
        for option in (numbered([n], validation=1e-9), Curve(name="curve", samples=n + 7, validation=1e-9)):
            with pytest.raises(UserError) as refused:
                load(option)
            share = float(str(refused.value).split("ask for more (")[1].split(" ")[0])
            option.validation = share
            assert len(load(option).val) >= (2 if option.name == "curve" else 1)


def test_bounded_inputs_have_a_norm_of_about_three_and_small_samples_are_left_alone() -> None:
    digits = load(Digits(name="digits", scale=None)).train.x.flatten(1)
    assert float(digits.square().sum(1).mean()) == pytest.approx(9, rel=0.02)
    assert torch.equal(load(Moons(name="moons", scale=None)).train.x, load(Moons(name="moons")).train.x), (
        "two inputs of unit variance"
    )
