"""`dataset=functions` and `precision=fp64`: exact targets, parts drawn apart, the maximum error on a grid of its own."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grow_cli.commands.train import compose
from grow_cli.config import Config, check_run
from grow_cli.data.datasets.functions import Functions
from grow_cli.data.datasets.synthetic import Moons
from grow_cli.data.datasets.text import Text
from grow_cli.data.formulas import FUNCTIONS
from grow_cli.data.tensors import load_data
from grow_cli.errors import UserError
from grow_cli.methods.alether import Alether
from grow_cli.training.device import check_precision
from grow_cli.triggers.tau_kappa import TauKappa


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_exact_and_about_as_large_as_one(name: str) -> None:
    raw = Functions(function=name, samples=100).load(Path())
    formula = FUNCTIONS[name]
    assert raw.train_x.dtype == raw.train_y.dtype == torch.float64
    assert raw.train_x.shape == (100, formula.variables)
    assert raw.grid is not None
    assert raw.held_out is not None
    for x, y in ((raw.train_x, raw.train_y), (raw.test_x, raw.test_y), raw.held_out, raw.grid):
        assert np.array_equal(formula(x.numpy()), y.numpy())
        assert float(x.abs().max()) <= 1
    assert 0.5 < float(raw.grid[1].abs().max()) < 1.5
    corners = raw.train_x.abs().eq(1).all(1).sum()
    assert corners == 2**formula.variables  # the ends are trained on


def test_validation_and_test_come_from_streams_of_their_own() -> None:
    raw = Functions(samples=100).load(Path())
    more = Functions(samples=100, test_samples=3000).load(Path())
    fewer = Functions(samples=100, validation=0.1).load(Path())
    assert raw.held_out is not None
    assert more.held_out is not None
    assert fewer.held_out is not None
    assert torch.equal(raw.held_out[0], more.held_out[0])
    assert torch.equal(raw.held_out[0][:10], fewer.held_out[0])
    assert torch.equal(raw.test_x, more.test_x[:1000])
    assert torch.equal(raw.test_x, fewer.test_x)
    assert not np.intersect1d(raw.test_x.numpy(), raw.held_out[0].numpy()).size
    assert not torch.equal(raw.test_x, Functions(samples=100, draw_seed=1).load(Path()).test_x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_data_have_the_nets_precision(dtype: torch.dtype) -> None:
    data = load_data(Functions(), data_dir=Path(), subset=None, device=torch.device("cpu"), dtype=dtype)
    assert data.grid is not None
    for split in (data.train, data.val, data.test, data.grid):
        assert split.x.dtype == split.y.dtype == dtype
        assert data.prepare(split.x) is split.x  # normalised once
    raw = Functions().load(Path())
    tolerance = 1e-6 if dtype == torch.float32 else 1e-15
    torch.testing.assert_close(data.normalizer.inverse(data.train.x), raw.train_x.to(dtype), rtol=0, atol=tolerance)


_FP64 = ("dataset=functions", "dataset.samples=50", "precision=fp64", "progress=off", "device=cpu", "threads=1")


@pytest.mark.parametrize(
    "growing",
    [
        ("method=tiny", "model=mlp_tiny", "model.activation=tanh"),
        ("method=gradmax", "model=mlp", "model.hidden=[3]", "model.activation=tanh"),
        (
            "method=senn",
            "model=mlp_senn",
            "model.hidden=[3]",
            "method.proposals=4",
            "method.steps=4",
            "method.samples=30",
        ),
        ("method=deepen", "model=residual_mlp", "model.width=6", "model.hidden=[5]"),
    ],
    ids=lambda growing: growing[0],
)
def test_weights_and_what_grows_are_float64_and_stay_so_when_measured_again(
    grow: Any, growing: tuple[str, ...]
) -> None:
    stop = ("trigger=every", "stop.epochs=4", "growth.until=0.9", "growth.neurons=2", "run_dir=run")
    own = ("method.held_out=20", "method.tau=1.001", "method.alpha=0") if growing[0] == "method=senn" else ()
    done = grow("train", *_FP64, *growing, *own, *stop)
    assert done.code == 0, done.err
    state = torch.load("run/checkpoints/last.pt", weights_only=True)
    floats = [t for t in state["model"].values() if t.is_floating_point()]
    assert floats
    assert all(t.dtype == torch.float64 for t in floats)
    summary = json.loads(Path("run/summary.json").read_text())
    done = grow("eval", "run", "--json")
    assert done.code == 0, done.err
    measured = json.loads(done.out)
    for name in ("test_loss", "grid_max_error"):
        assert measured[name] == pytest.approx(summary[name], rel=1e-12)


def test_the_maximum_error_is_that_on_the_grid_and_stands_in_every_row(grow: Any) -> None:
    done = grow("train", "method=static", "model=mlp", *_FP64, "stop.epochs=2", "run_dir=run")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(Path("run/metrics.csv").read_text().splitlines()))
    import grow_cli

    run = grow_cli.load("run")
    x, y = Functions(samples=50).load(Path()).grid or (torch.empty(0), torch.empty(0))
    worst = float(np.abs(run.predict(x) - y.numpy()).max())
    assert float(rows[-1]["grid_max_error"]) == pytest.approx(worst, rel=1e-9)
    assert json.loads(Path("run/summary.json").read_text())["grid_max_error"] == pytest.approx(worst, rel=1e-9)


@pytest.fixture(scope="module")
def config() -> Config:
    return compose(["method=static", "dataset=curve", "precision=fp64"])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dataset": Text()}, "precision=fp64 is for regression"),
        ({"method": Alether(name="alether")}, "method=alether reads the weights' trajectory"),
        ({"trigger": TauKappa(name="tau_kappa")}, "trigger=tau_kappa reads the weights' trajectory"),
    ],
)
def test_where_float64_is_not_supported_one_sentence_says_so(config: Config, changed: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_run(replace(config, **changed))


def test_float64_is_refused_for_classes_and_on_apples_gpus() -> None:
    with pytest.raises(UserError, match="precision=fp64 is for regression, and dataset=moons is for classification"):
        load_data(Moons(), data_dir=Path(), subset=None, device=torch.device("cpu"), dtype=torch.float64)
    with pytest.raises(UserError, match="no float64"):
        check_precision("fp64", torch.device("mps"))


@pytest.mark.parametrize("kind", ["state_dict", "torch_export"])
def test_an_exported_net_is_as_exact_as_the_trained_one(grow: Any, kind: str) -> None:
    done = grow("train", "method=stages", *_FP64, "stop.epochs=3", "model.hidden=[[4,4]]", "run_dir=run")
    assert done.code == 0, done.err
    done = grow("export", "run", "--format", kind, "-o", "out")
    assert done.code == 0, done.err
    x = torch.linspace(-1, 1, 11, dtype=torch.float64)[:, None]
    if kind == "state_dict":
        names: dict[str, Any] = {"__name__": "model", "__file__": "out/model.py"}
        exec(compile(Path("out/model.py").read_text(), "model.py", "exec"), names)
        found = names["load"]("out/model.pt")(names["prepare"](x))
    else:
        found = torch.export.load("out/model.pt2").module()(x)
    import grow_cli

    expected = torch.from_numpy(grow_cli.load("run").outputs(x))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
