"""Every model builds, takes the inputs it says it takes, and refuses the others in a sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from growing_nets import NETS, Net, spec

from grow_cli.errors import UserError
from grow_cli.models.base import ACTIVATIONS, ModelOption
from grow_cli.models.cnn import CNNOption
from grow_cli.models.mlp import MLPOption
from grow_cli.models.residual_cnn import ResidualCNNOption
from grow_cli.models.residual_mlp import ResidualMLPOption
from grow_cli.models.resnet18 import ResNet18Option
from grow_cli.models.vit import ViTOption

DIGITS, MNIST, CIFAR, MOONS = (1, 8, 8), (1, 28, 28), (3, 32, 32), (2,)


@pytest.mark.parametrize(
    ("option", "input_shape"),
    [
        *((option, shape) for option in (MLPOption(), ResidualMLPOption()) for shape in (DIGITS, MNIST, CIFAR, MOONS)),
        *(
            (option, shape)
            for option in (CNNOption(hidden=[], activation="relu"), ResidualCNNOption())
            for shape in (DIGITS, MNIST, CIFAR)
        ),
        (ViTOption(patch=2), DIGITS),
        (ViTOption(patch=4), MNIST),
        (ViTOption(patch=7), MNIST),
        (ViTOption(patch=4), CIFAR),
        *((ResNet18Option(), shape) for shape in (MNIST, CIFAR)),
    ],
    ids=lambda v: v.name if isinstance(v, ModelOption) else str(v),
)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_batch_of_samples_becomes_a_batch_of_outputs(
    option: ModelOption, input_shape: tuple[int, ...], task: str
) -> None:
    model = option.build(spec(input_shape, outputs=4, task=task))
    for n in (1, 3):
        assert model.eval()(torch.randn(n, *input_shape)).shape == (n, 4)


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_the_outputs_depend_on_every_parameter(net: Net) -> None:
    model, x = net.build()
    model.train()(x).square().sum().backward()
    # a softmax does not change when the same is added to all its inputs: the keys' bias has no effect
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0 or name.endswith("key.bias"), name


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(
    "option", [MLPOption, CNNOption, ResidualMLPOption, ResidualCNNOption, ResNet18Option, ViTOption]
)
def test_every_activation_fits_every_model(option: type[ModelOption], name: str) -> None:
    model = option(activation=name).build(spec(MNIST))  # type: ignore[call-arg]
    assert model(torch.randn(2, *MNIST)).isfinite().all()


def test_the_same_seed_makes_the_same_net() -> None:
    for net in NETS.values():
        a, _ = net.build()
        b, _ = net.build()
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize(
    "option",
    [CNNOption(hidden=[], activation="relu"), ResidualCNNOption(), ResNet18Option(), ViTOption()],
    ids=lambda o: o.name,
)
def test_image_models_refuse_vectors_and_name_what_takes_them(option: ModelOption) -> None:
    with pytest.raises(UserError, match=rf"model={option.name} reads images .* vectors of 2 numbers: use model=mlp"):
        option.build(spec(MOONS))


@pytest.mark.parametrize(
    ("option", "input_shape", "sentence"),
    [
        (ViTOption(patch=5), MNIST, r"patch=5 does not divide .* 28 x 28 pixels: use one of 1, 2, 4, 7, 14, 28"),
        (
            CNNOption(channels=[[1]] * 4, hidden=[], activation="relu"),
            DIGITS,
            r"8 x 8 pixels can be halved 3 times: give at most 3 stages",
        ),
        (ResidualCNNOption(pool=9), DIGITS, r"pool=9: the images have 8 x 8 pixels; give 8 or less"),
    ],
)
def test_sizes_that_do_not_fit_the_images_are_refused_with_the_remedy(
    option: ModelOption, input_shape: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        option.build(spec(input_shape))


@pytest.mark.parametrize(
    ("option", "settings", "sentence"),
    [
        (MLPOption, {"hidden": [3, 0]}, r"model.hidden=\[3, 0\]: must be 1 or more"),
        (MLPOption, {"activation": "step"}, r"model.activation=step: must be one of relu"),
        (MLPOption, {"dropout": 1.0}, r"model.dropout=1.0: must be from 0 to below 1"),
        (MLPOption, {"norm": "group"}, r"model.norm=group: must be one of none, batch, layer"),
        (CNNOption, {"kernel": 4}, r"model.kernel=4: must be odd"),
        (CNNOption, {"channels": [[1], [-1]]}, r"model.channels=.*: must be 1 or more"),
        (ResidualMLPOption, {"width": 0}, r"model.width=0: must be 1 or more"),
        (ViTOption, {"heads": 3}, r"model.heads=3: must divide model.dim=64"),
    ],
)
def test_impossible_settings_are_refused(option: type[ModelOption], settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        option(**settings)  # type: ignore[arg-type]


def test_options_are_imported_without_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, grow_cli.models as m\n"
        "for f in pkgutil.iter_modules(m.__path__):\n"
        "    if not f.ispkg: importlib.import_module('grow_cli.models.' + f.name)\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
