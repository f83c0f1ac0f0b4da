"""The dataset options as configuration: names, YAML files, ranges, and no torch before data is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from grow_cli.data.base import RawData
from grow_cli.data.datasets import digits, downloaded, huggingface, image_folder, synthetic

REPOSITORY = Path(__file__).resolve().parents[2]
OPTIONS = {
    "digits": digits.Digits,
    "mnist": downloaded.MNIST,
    "fashion_mnist": downloaded.FashionMNIST,
    "cifar10": downloaded.CIFAR10,
    "cifar100": downloaded.CIFAR100,
    "image_folder": image_folder.ImageFolder,
    "huggingface": huggingface.HuggingFace,
    "moons": synthetic.Moons,
    "sines": synthetic.Sines,
    "quadratics": synthetic.Quadratics,
    "curve": synthetic.Curve,
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_registered_and_its_yaml_file_composes_with_its_schema(name: str) -> None:
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from grow_cli.registry import _options

    assert _options["dataset"][name] is OPTIONS[name]
    ConfigStore.instance().store(group="schema/dataset", name=name, node=OPTIONS[name](name=name))
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        built = OmegaConf.to_object(compose(overrides=[f"+dataset={name}", "dataset.split_seed=3"]).dataset)
    assert type(built) is OPTIONS[name]
    assert (built.name, built.split_seed) == (name, 3)
    text = (REPOSITORY / "conf" / "dataset" / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert "\ndefaults:\n" in text


def test_the_yaml_files_and_the_options_are_the_same_set() -> None:
    assert {path.stem for path in (REPOSITORY / "conf" / "dataset").glob("*.yaml")} >= OPTIONS.keys()


def test_options_are_imported_and_validated_without_torch_numpy_or_sklearn() -> None:
    modules = ", ".join(f"grow_cli.data.datasets.{m.__name__.split('.')[-1]}" for m in (digits, downloaded))
    code = (
        f"import sys, grow_cli.data.base, {modules}, grow_cli.data.datasets.image_folder\n"
        "from grow_cli.data.datasets.synthetic import Moons\n"
        "Moons(name='moons')\n"
        "assert not {'torch', 'torchvision', 'numpy', 'sklearn', 'PIL'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("digits", "validation", -0.1),
        ("digits", "validation", 1.0),
        ("digits", "validation", float("nan")),
        ("digits", "split_seed", -1),
        ("cifar10", "crop", -1),
        ("image_folder", "size", 0),
        ("moons", "samples", 3),
        ("moons", "noise", -0.1),
        ("curve", "test_samples", 0),
        ("sines", "draw_seed", -1),
        ("quadratics", "crop", 2),
        ("quadratics", "flip", True),
    ],
)
def test_a_value_out_of_range_is_refused_with_key_and_value(name: str, key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"dataset.{key}={value}"):
        OPTIONS[name](name=name, **{key: value})


def test_digits_are_bytes_up_to_16_with_a_stratified_test_fifth() -> None:
    raw = digits.Digits(name="digits").load(Path("/nowhere"))
    assert raw.train_x.shape == (1437, 1, 8, 8)
    assert raw.test_x.shape == (360, 1, 8, 8)
    assert raw.train_x.dtype == torch.uint8
    assert raw.train_x.max() == raw.white == 16
    assert raw.train_y.dtype == torch.int64
    assert raw.classes == tuple("0123456789")
    shares = raw.test_y.bincount() / (raw.test_y.bincount() + raw.train_y.bincount())
    assert torch.allclose(shares, torch.tensor(0.2), atol=0.01)


@pytest.mark.parametrize("name", ["moons", "sines", "quadratics"])
def test_points_in_the_plane_have_two_classes_of_equal_size(name: str) -> None:
    raw = OPTIONS[name](name=name, samples=300, test_samples=100).load(Path("/nowhere"))
    assert raw.train_x.shape == (300, 2)
    assert raw.train_x.dtype == torch.float32
    assert raw.test_x.shape == (100, 2)
    assert raw.task == "classification"
    assert raw.train_y.dtype == torch.int64
    assert raw.train_y.bincount().tolist() == [150, 150]
    assert raw.classes == ("0", "1")


def test_the_curve_is_a_regression_of_one_variable() -> None:
    raw = synthetic.Curve(name="curve", noise=0.0).load(Path("/nowhere"))
    assert (raw.train_x.shape, raw.test_x.shape) == ((200, 1), (1000, 1))
    assert raw.task == "regression"
    assert raw.classes == ()
    assert raw.train_y.dtype == torch.float32
    expected = (2 * raw.train_x).sin() + (5 * raw.train_x).sin() / 2
    torch.testing.assert_close(raw.train_y, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["moons", "sines", "quadratics", "curve"])
def test_a_draw_depends_on_its_own_seed_only_and_test_samples_are_drawn_separately(name: str) -> None:
    def load(**keys: int) -> RawData:
        return OPTIONS[name](name=name, **keys).load(Path("/nowhere"))

    torch.manual_seed(1)
    first = load()
    torch.manual_seed(2)
    again, other, longer = load(), load(draw_seed=1), load(samples=500)
    assert torch.equal(first.train_x, again.train_x)
    assert torch.equal(first.test_y, again.test_y)
    assert not torch.equal(first.train_x, other.train_x)
    assert torch.equal(first.test_x, longer.test_x)
    assert not torch.isin(first.test_x[:, 0], first.train_x[:, 0]).all()


def test_the_sines_are_separated_by_a_curve_and_by_no_line() -> None:
    from sklearn.linear_model import LogisticRegression

    raw = synthetic.Sines(name="sines").load(Path("/nowhere"))
    x, height = raw.train_x.T
    assert torch.equal((height > x.sin() + 0.5).long(), raw.train_y)
    assert LogisticRegression().fit(raw.train_x.numpy(), raw.train_y.numpy()).score(raw.train_x, raw.train_y) < 0.95


def test_the_quadratics_overlap_so_that_the_best_curve_still_errs() -> None:
    raw = synthetic.Quadratics(name="quadratics").load(Path("/nowhere"))
    x, height = raw.train_x.T
    nearest = ((height - (0.5 - x**2)).abs() < (height - (x**2 - 0.5)).abs()).long()
    assert 0.8 < (nearest == raw.train_y).float().mean() < 0.98
