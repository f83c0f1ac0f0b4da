"""Every option of every group keeps the contract of `grow_cli.testing`: a new file is tested by existing.

What a part needs beside its name stands in PROBLEMS; those that need a package or files that may be absent are skipped there.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from grow_cli import registry, testing

_MLP = ("model=mlp_tiny", "model.hidden=[2,2]")
_BLOCKS = ("model=residual_mlp", "model.width=8", "model.hidden=[6,6]", "method.warmup_steps=2")
_TEXT = (f"dataset.root={Path(__file__).parent.parent / 'docs'}", "dataset.pattern=*.md", "dataset.context=16")
_TEXT += ("dataset.measured=1024", "subset=192")
_GPT = ("model.dim=8", "model.heads=2", "model.mlp=[6,6]")
_SENN = ("method.proposals=6", "method.layer_proposals=3", "method.steps=6", "method.samples=96", "method.held_out=64")

PROBLEMS: dict[str, tuple[str, ...]] = {
    "method=alether": (*_BLOCKS, "method.rank=1"),
    "method=copy": _BLOCKS,
    "method=random": _BLOCKS,
    "method=deepen": (*_BLOCKS, "method.factor=2", "method.pattern=stack", "method.moments=copy", "method.output=half"),
    "method=tiny": (*_MLP, "method.significance=false"),
    "method=gradmax": _MLP,
    "method=net2net": _MLP,
    "method=heads": ("model=vit", "model.dim=8", "model.heads=2", "model.mlp=[6,6]", "model.patch=4"),
    "method=fold": ("model=mlp_fold", "model.hidden=[4]", "method.samples=100"),
    "method=prune": ("model=mlp", "model.hidden=[6,6]", "method.samples=100"),
    "method=senn": (
        "model=mlp_senn",
        "model.hidden=[3]",
        *_SENN,
        "method.tau=1.001",
        "method.alpha=0",
        "growth.neurons=10",
    ),
    "method=replay": (
        *_MLP,
        "trigger=at",
        "trigger.steps=[5,10]",
        "+method.events=[[{kind: width, site: hidden 1, units: 1}], [{kind: width, site: hidden 2, units: 2}]]",
    ),
    "method=stages": (
        *("dataset=functions", "dataset.samples=40", "model.hidden=[[4,4]]", "stop.epochs=8", "batch_size=1000"),
        *("optimizer.lr=1", "optimizer.iterations=4", "dataset.test_samples=40"),
    ),
    "method=static": _MLP,
    "model=residual_mlp": ("model.width=8", "model.hidden=[6,6]"),
    "model=residual_cnn": ("model.width=4", "model.hidden=[3,3]"),
    "model=vit": ("model.dim=8", "model.heads=2", "model.mlp=[6,6]", "model.patch=4"),
    "model=gpt": ("dataset=text", *_TEXT, *_GPT),
    "model=cnn": ("model.channels=[[2],[2]]", "model.hidden=[3]"),
    "model=resnet18": ("model.stream=[3,3]", "model.hidden=[[1],[1]]", "model.classifier=[4]"),
    "model=mlp": ("model.hidden=[3,3]",),
    "model=stages": ("model.hidden=[[3,3]]",),
    "trigger=at": ("trigger.steps=[5,11]",),
    "trigger=adf": ("trigger.window=8", "trigger.patience=2", "evaluate.every=0.25"),
    "trigger=drift": ("trajectory.window=6", "trajectory.every=2", "trigger.level=0.9"),
    "trigger=every": ("trigger.every=1",),
    "trigger=tau_kappa": ("trigger.patience=1", "trigger.tau_crit=0", "trigger.kappa_crit=0"),
    "trigger=any": ("trigger.of.plateau.patience=1",),
    "trigger=all": ("trigger.of.plateau.patience=1", "trigger.of.tau_kappa.patience=1"),
    "trigger=eta": ("method=gradmax", *_MLP, "trigger.samples=64"),
    "optimizer=natural": ("optimizer.iterations=5",),
    "optimizer=lbfgs": ("batch_size=1000", "optimizer.iterations=3", "stop.epochs=8"),
    "optimizer=sgd": ("optimizer.lr=0.01",),
    "dataset=curve": (),
    "dataset=functions": ("dataset.function=ring", "dataset.samples=100"),
    "dataset=text": ("model=gpt", *_TEXT, *_GPT),
}
CHECKS: dict[str, Callable[..., object]] = {
    group: getattr(testing, f"check_{group}")
    for group in ("method", "trigger", "model", "dataset", "logger", "optimizer", "schedule")
}
# they read files that may not be there, or many; tests/data has files of their format, and test_corpus.py the library
_FILES = {"python", "mnist", "fashion_mnist", "cifar10", "cifar100", "image_folder"}
# tests of their own look at these closely
_LATER = {"schedule": {"constant", "cosine", "one_cycle"}, "dataset": {"moons", "sines", "quadratics"}}
_LATER["trigger"] = {"all", "any", "at", "every", "never", "plateau"}
OPTIONS = [
    pytest.param(f"{group}={name}", marks=pytest.mark.slow if name in _LATER.get(group, ()) else ())
    for group, options in registry.groups().items()
    for name in options
]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_keeps_its_groups_contract(option: str, tmp_path: Path) -> None:
    group, _, name = option.partition("=")
    if group == "logger" and name not in ("csv", "several") and find_spec(name) is None:
        pytest.skip(f"the package {name} is not installed")
    if group == "dataset" and name in _FILES:
        pytest.skip("its files may not be there")
    own = _own_file(tmp_path, name) if group == "dataset" else ()
    CHECKS[group](name, tmp_path, *PROBLEMS.get(option, ()), *own)


def _own_file(folder: Path, name: str) -> tuple[str, ...]:
    """For datasets that are a user's file: one."""
    x = np.random.default_rng(0).normal(size=(120, 3)).round(3)
    labels = np.where(x[:, 0] > 0, "up", "down")
    if name == "arrays":
        np.savez(folder / "own.npz", x=x, y=labels)
        return (f"dataset.path={folder}/own.npz",)
    if name == "table":
        rows = [f"{a},{b},{c},{label}" for (a, b, c), label in zip(x, labels, strict=True)]
        (folder / "own.csv").write_text("\n".join(["a,b,c,kind", *rows]) + "\n", encoding="utf-8")
        return (f"dataset.path={folder}/own.csv", "dataset.target=kind")
    if name == "huggingface":
        made = pytest.importorskip("datasets").Dataset.from_dict({"a": x[:, 0], "b": x[:, 1], "kind": labels})
        made.save_to_disk(folder / "own")
        return (f"dataset.path={folder}/own", "dataset.target=kind")
    return ()


def test_every_group_has_a_check() -> None:
    assert set(CHECKS) == set(registry.groups())
