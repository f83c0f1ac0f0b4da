"""Two processes train one run: the same as one process, in one folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from grow_cli import launched
from grow_cli.commands.train import compose
from grow_cli.errors import UserError
from grow_cli.training.ranks import Ranks, refuse_built, refuse_config
from grow_cli.training.together import make_shared_step

REPOSITORY = Path(__file__).resolve().parents[2]


def begin(folder: Path, world: int, *words: str) -> list[subprocess.Popen[str]]:
    """A command of grow in so many processes, as torchrun begins them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    ranks = [{"RANK": str(r), "WORLD_SIZE": str(world)} for r in range(world)] if world > 1 else [{}]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "grow_cli", *words],
            cwd=folder,
            env=os.environ | shared | rank,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ranks
    ]


def run(folder: Path, world: int, *words: str) -> None:
    """The same, to its end; the others than rank 0 say nothing."""
    children = begin(folder, world, *words)
    said = [child.communicate(timeout=300)[0] for child in children]
    assert [child.returncode for child in children] == [0] * world, said
    assert said[1:] == [""] * (world - 1)


def state(path: Path) -> dict[str, Any]:
    """Of a checkpoint."""
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def furthest(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference between the parameters of two nets of the same architecture."""
    assert one["architecture"] == other["architecture"]
    return max(float((tensor - other["model"][name]).abs().max()) for name, tensor in one["model"].items())


SHORT = (
    *("subset=300", "batch_size=33", "stop.epochs=7", "evaluate.every=10", "evaluate.unit=steps", "threads=1"),
    *("trigger=every", "trigger.every=10", "trigger.unit=steps", "growth.max_events=2", "growth.until=1"),
)
METHODS = {
    "width": ("method=tiny", "model=mlp_tiny"),
    "depth": ("method=copy", "method.warmup_steps=5"),
}


@pytest.mark.slow
@pytest.mark.parametrize("grows", METHODS)
def test_two_processes_grow_the_net_that_one_grows_though_their_parts_are_unequal(tmp_path: Path, grows: str) -> None:
    for world in (1, 2):
        keys = (*SHORT, *METHODS[grows], "checkpoint.events=true", f"run_dir={world}")
        run(tmp_path, world, "train", *keys)
    for name in ("before-1.pt", "before-2.pt", "last.pt"):
        one, two = (state(tmp_path / folder / "checkpoints" / name) for folder in ("1", "2"))
        assert furthest(one, two) <= 1e-6, name
    assert two["progress"]["events"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}


class OneOfTwo(Ranks):
    """Rank 0 or 1 of two in one process: what it would add up is noted, and comes back as it was."""

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        self.noted = tensor.clone()
        return tensor


def test_loss_gradients_and_outputs_of_unequal_parts_add_up_to_the_whole_batchs(make: Callable) -> None:
    session = make("method=copy").session
    x, y = session.batches.next()
    x, y = x[:7], y[:7]
    outputs = session.model(x)
    loss = session.loss(outputs, y)
    parameters = list(session.model.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    whole = torch.cat([t.detach().reshape(-1) for t in (loss, outputs, *gradients)])
    for group in session.optimizer.param_groups:
        group["lr"] = 0.0  # both parts are of the same net
    total = torch.zeros_like(whole)
    for rank in (0, 1):
        one = OneOfTwo(rank, 2)
        make_shared_step(session, one)(x, y)
        total += one.noted[:-1]
        assert one.noted[-1] == 0  # no signal
    torch.testing.assert_close(total, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "method=replay",
        "method=senn",
        "model=cnn",
        "optimizer=natural",
        "compile=true",
        "stop.seconds=9",
        "precision=bf16",
    ],
)
def test_what_was_not_shown_on_several_processes_is_refused_there_and_there_only(name: str) -> None:
    config = compose([name] if name.startswith("method=") else ["method=copy", name])
    refuse_config(config, 1)
    with pytest.raises(UserError, match=name.replace("stop.seconds=9", "stop.seconds")):
        refuse_config(config, 2)
    refuse_config(compose(["method=copy"]), 2)


def test_what_differs_between_processes_by_nature_is_refused(make: Callable) -> None:
    session = make("method=copy").session
    refuse_built(session, 2)
    with pytest.raises(UserError, match="batch_size=32 has less than a sample for each of 33"):
        refuse_built(session, 33)
    session.model.add_module("dropout", torch.nn.Dropout(0.1))
    with pytest.raises(UserError, match="dropout"):
        refuse_built(session, 2)
    session.model.add_module("norm", torch.nn.BatchNorm1d(3))
    with pytest.raises(UserError, match="batch normalisation"):
        refuse_built(session, 2)


def test_only_a_launcher_with_a_rank_makes_several(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (launched.world(), launched.rank()) == (1, 0)
    monkeypatch.setenv("RANK", "1")
    assert (launched.world(), launched.rank()) == (2, 1)
    with pytest.raises(UserError, match="MASTER_ADDR and MASTER_PORT"):
        launched.refuse_no_address()
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(UserError, match="RANK=first"):
        launched.rank()
