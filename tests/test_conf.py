"""Every YAML file composes, and every experiment is the one that its name says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from grow_cli.commands.hydra_errors import PLUGINS
from grow_cli.commands.train import compose
from grow_cli.data.base import DataSpec

CONF = Path(__file__).resolve().parent.parent / "conf"


@pytest.mark.parametrize(
    "choice",
    [
        f"{group}={path.stem}"
        for group in ("experiment", "method", "model")
        for path in sorted((CONF / group).glob("*.yaml"))
    ],
)
def test_every_option_composes(choice: str) -> None:
    # no warning is asked for here: a method and a model that do not fit are refused by the command, not by the config
    assert compose([choice]).method.name


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_experiment_fixes_the_method_or_the_model_that_it_is_named_after(path: Path) -> None:
    config = compose([f"experiment={path.stem}"])
    first = path.stem.split("_")[0]
    if (CONF / "method" / f"{first}.yaml").exists():  # a preset has its method's name in the config
        first = compose([f"method={first}"]).method.name
    assert first in (config.method.name, config.model.name)


def test_stack_python_makes_six_blocks_of_two_at_half_the_cost_and_its_sister_for_a_gpu_has_128_million_weights() -> (
    None
):
    small, large = compose(["experiment=stack_python"]), compose(["experiment=stack_python_gpu"])
    assert small.method.pattern == large.method.pattern == "stack"
    assert small.trigger.fractions == large.trigger.fractions == [0.5]
    assert len(small.model.hidden) * small.method.factor == 6
    assert len(large.model.hidden) * large.method.factor == 18
    spec = DataSpec("python", "language", (large.dataset.context,), 256)
    with torch.device("meta"):
        final = replace(large.model, blocks=18).build(spec)
    assert sum(p.numel() for p in final.parameters()) == pytest.approx(128.5e6, rel=0.01)


@pytest.mark.parametrize("method", ["static", "copy", "alether", "random"])
def test_gpt_python_has_its_methods_own_keys(method: str) -> None:
    config = compose(["experiment=gpt_python", f"method={method}"])
    assert config.method.name == method
    assert getattr(config.method, "warmup_steps", 20) == 20
    assert config.growth.max_events is None


@pytest.mark.parametrize("trigger", ["adf", "never"])
def test_another_trigger_than_the_experiments_can_be_asked_for(trigger: str) -> None:
    config = compose(["experiment=tiny_mnist", f"trigger={trigger}"])
    assert config.trigger == compose([f"trigger={trigger}"]).trigger
    assert config.evaluate.every == 0.2, "the rest is the experiment's"


@pytest.mark.parametrize("path", sorted((CONF / "experiment/trigger").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_keys_of_an_experiments_trigger_are_in_it(path: Path) -> None:
    experiment, _, option = path.stem.rpartition("_")
    trigger = compose([f"experiment={experiment}"]).trigger
    assert trigger.name == option
    for key, value in OmegaConf.load(path).items():
        assert getattr(trigger, str(key)) == value


@pytest.mark.parametrize(
    "dataset",
    ["cifar10", *(pytest.param(d, marks=pytest.mark.slow) for d in ("cifar100", "digits", "image_folder", "mnist"))],
)
def test_on_photographs_a_method_brings_convolutions_along(dataset: str) -> None:
    photographs = dataset in ("cifar10", "cifar100", "image_folder")
    for method in ("static", "alether", "copy", "random", "stack", "midas", "zero_blocks", "deepen"):
        model = "residual_cnn" if photographs else "residual_mlp"
        assert compose([f"method={method}", f"dataset={dataset}"]).model.name == model
    for method in ("tiny", "gradmax", "random_width", "net2net"):
        composed = compose([f"method={method}", f"dataset={dataset}"])
        assert (composed.model.name, composed.growth.neurons) == (("cnn", 2) if photographs else ("mlp", 10))
    assert compose([f"dataset={dataset}"]).model.name == ("residual_cnn" if photographs else "residual_mlp")


def test_a_model_given_by_hand_or_by_an_experiment_wins_on_photographs_too() -> None:
    assert compose(["dataset=cifar10", "method=tiny", "model=mlp_tiny", "model.hidden=[5]"]).model.hidden == [5]
    assert compose(["experiment=alether_cifar10_vit"]).model.name == "vit"
    assert compose(["experiment=fold_cifar10", "method=static"]).model.name == "mlp"


def test_what_is_given_by_hand_wins_over_the_experiment() -> None:
    config = compose(["experiment=tiny_mnist", "method=random_width", "dataset=digits"])
    assert (config.method.name, config.method.grow, config.dataset.name) == ("random", "width", "digits")
    assert config.growth.max_units == [110, 51]
    assert config.model.hidden == [1, 1]


@pytest.mark.parametrize("path", sorted((CONF / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sweep_says_who_runs_it_and_its_plugin_is_known(path: Path) -> None:
    config = OmegaConf.load(path)
    if "sweep" in config:
        assert config.sweep.engine == path.stem
        return
    (override,) = (o for o in config.defaults if not next(iter(o)).endswith("sampler"))
    ((group, option),) = override.items()
    assert option in PLUGINS[group.removeprefix("override /")]
