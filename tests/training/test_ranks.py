"""Two processes train one run: the same as one process, in one folder."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import GROWING, SHORT

from grow_cli import launched, registry
from grow_cli.commands.train import compose
from grow_cli.errors import Crashed, Interrupted, UserError
from grow_cli.training.interrupts import Interrupts
from grow_cli.training.ranks import Ranks, refuse_built, refuse_config
from grow_cli.training.together import make_shared_step
from grow_cli.training.whole_batch import whole_batch

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 240.0
"""Seconds after which a process that should have ended is killed, and its test fails."""

# Commands of grow, of which a test sees more: in double precision, the net right after each event, a signal at a step.
DRIVER = """
import json, os, signal, sys
import torch
from grow_cli import run
from grow_cli.cli import main
from grow_cli.data import tensors
from grow_cli.data.batches import Batches
from grow_cli.training.loop import Loop

asked = json.loads(sys.argv[1])
if asked["double"]:
    torch.set_default_dtype(torch.float64)
    run.dtype_of = lambda precision: torch.float64  # of a classification, which precision=fp64 is refused for
    tensors._check_dtype = lambda *of: None
grow, draw, drawn = Loop._grow, Batches.next, 0

def and_keep(loop):
    grow(loop)
    path = loop.folder.path / f"after-{loop.session.progress.firings}.pt"
    torch.save({"architecture": loop.session.model.architecture(), "model": loop.session.model.state_dict()}, path)

def and_signal(batches):
    global drawn
    drawn += 1
    if [drawn, os.environ.get("RANK")] == asked["signal"]:
        signal.raise_signal(signal.SIGTERM)
    return draw(batches)

Loop._grow, Batches.next = and_keep, and_signal
code = 0
for number, words in enumerate(asked["commands"]):
    if "MASTER_PORT" in os.environ and number:
        os.environ["MASTER_PORT"] = str(asked["ports"][number])
    try:
        main(words)
    except SystemExit as left:
        code = max(code, left.code)
sys.exit(code)
"""


def free_ports(count: int) -> list[int]:
    """That nobody listens on at the moment."""
    with contextlib.ExitStack() as open_ones:
        sockets = [open_ones.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def environment(rank: int, world: int, port: int) -> dict[str, str]:
    """As torchrun sets it."""
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    alone = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", *meet)}
    ranks = {"RANK": str(rank), "WORLD_SIZE": str(world), **meet} if world > 1 else {}
    return alone | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)} | ranks


def spawn(folder: Path, environ: dict[str, str], *words: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *words], cwd=folder, env=environ, stdout=pipe, stderr=pipe, text=True)


def ended(child: subprocess.Popen[str], patience: float = PATIENCE) -> tuple[int, str, str]:
    """Exit code and what it said; killed, with a failure, where it does not end."""
    try:
        out, err = child.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        child.kill()
        pytest.fail(f"it did not end: {child.communicate()}")
    return child.returncode, out, err


def driven(
    folder: Path,
    world: int,
    commands: list[list[str]],
    *,
    signal_at: tuple[int, str] | None = None,
    double: bool = False,
) -> list[tuple[int, str, str]]:
    """Commands, one after the other, in so many processes side by side, as torchrun begins them: what each process came to.

    :param signal_at: the batch, and the rank, at which this rank gets a SIGTERM
    """
    ports = free_ports(len(commands))
    asked = json.dumps(
        {"commands": commands, "ports": ports, "signal": signal_at and list(signal_at), "double": double}
    )
    children = [spawn(folder, environment(rank, world, ports[0]), "-c", DRIVER, asked) for rank in range(world)]
    try:
        return [ended(child, PATIENCE * len(commands)) for child in children]
    finally:
        for child in children:
            child.kill()


def state(path: Path) -> dict[str, Any]:
    """Of a checkpoint."""
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def furthest(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference between the parameters of two nets of the same architecture."""
    assert one["architecture"] == other["architecture"]
    return max(float((tensor - other["model"][name]).abs().max()) for name, tensor in one["model"].items())


TINY = GROWING["tiny"]


def apart(folder: Path, tried: dict[str, list[str]], *, double: bool) -> dict[str, list[float]]:
    """Each run in one process and in two → the largest difference of any parameter right after each of its two events."""
    for world in (1, 2):
        commands = [["train", *SHORT, *keys, f"run_dir={name}-{world}"] for name, keys in tried.items()]
        came_to = driven(folder, world, commands, double=double)
        assert [code for code, _, _ in came_to] == [0] * world, came_to
        assert all((out, err) == ("", "") for _, out, err in came_to[1:])  # rank 0 speaks for all
    assert len(list(folder.iterdir())) == 2 * len(tried)  # a folder for each run, none for a process
    found = {}
    for name in tried:
        one, two = (folder / f"{name}-{world}" for world in (1, 2))
        progress = [state(run / "checkpoints" / "last.pt")["progress"] for run in (one, two)]
        undone = 2 if "growth.rollback=true" in tried[name] else 0
        assert [(p["events"], p["undone"], p["step"]) for p in progress] == [(2, undone, 63)] * 2, name
        found[name] = [furthest(state(one / f"after-{n}.pt"), state(two / f"after-{n}.pt")) for n in (1, 2)]
    return found


@pytest.mark.slow
def test_two_processes_grow_what_one_grows_by_each_method_model_and_optimizer(tmp_path: Path) -> None:
    """In double precision: in single, an event may amplify what the sums before it are rounded by (docs/ranks.md).

    Though the parts of a batch are unequal. Alether's history is in single precision whatever the net is in.
    """
    tried = {name: keys for name, keys in GROWING.items() if name != "alether"}
    found = apart(tmp_path, tried | {"begun-with": ["method=random_width", "init=net2net-1"]}, double=True)
    assert {name: numbers for name, numbers in found.items() if max(numbers) > 1e-6} == {}


@pytest.mark.slow
def test_in_single_precision_an_extrapolated_block_differs_by_its_historys_rounding(tmp_path: Path) -> None:
    assert max(apart(tmp_path, {"alether": GROWING["alether"]}, double=False)["alether"]) <= 1e-5


def test_two_processes_grow_the_net_that_one_grows_into_one_folder(
    grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process is rank 0, a child rank 1; the run ends right after the second event."""
    keys = ["train", *SHORT, *TINY, "stop.parameters=450", "checkpoint.events=true"]
    monkeypatch.setattr("grow_cli.training.ranks._PATIENCE", timedelta(seconds=PATIENCE))
    monkeypatch.setattr("grow_cli.run.dtype_of", lambda precision: torch.float64)
    monkeypatch.setattr("grow_cli.data.tensors._check_dtype", lambda *of: None)
    (port,) = free_ports(1)
    asked = {"commands": [[*keys, "run_dir=two"]], "ports": [], "signal": None, "double": True}
    other = spawn(tmp_path, environment(1, 2, port), "-c", DRIVER, json.dumps(asked))
    torch.set_default_dtype(torch.float64)
    try:
        assert grow(*keys, "run_dir=one").code == 0
        for name, value in environment(0, 2, port).items():
            monkeypatch.setenv(name, value)
        assert grow(*keys, "run_dir=two").code == 0
        assert ended(other) == (0, "", "")
    finally:
        torch.set_default_dtype(torch.float32)
        other.kill()
    for name in ("before-1.pt", "before-2.pt", "last.pt"):
        one, two = (state(tmp_path / folder / "checkpoints" / name) for folder in ("one", "two"))
        assert furthest(one, two) <= 1e-6, name
    assert two["progress"]["events"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    files = [{str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*")} for name in ("one", "two")]
    assert files[0] == files[1]


@pytest.mark.slow
def test_a_signal_to_one_process_ends_both_and_one_and_then_two_go_on_to_the_same_net(
    grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["train", *SHORT, *TINY]
    assert grow(*keys, "run_dir=whole").code == 0
    first, second = driven(tmp_path, 2, [[*keys, "run_dir=r"]], signal_at=(25, "1"))
    assert (first[0], second[0]) == (128 + signal.SIGTERM,) * 2, (first, second)
    assert "grow resume" in first[2]
    assert second[1:] == ("", "")
    saved = tmp_path / "r" / "checkpoints" / "last.pt"
    assert state(saved)["progress"]["step"] == 25
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["status"] == "interrupted"
    asked = itertools.count(1)
    with monkeypatch.context() as patched:  # one process goes on, and gets a signal too
        patched.setattr(Interrupts, "__call__", lambda self: signal.SIGTERM if next(asked) > 15 else None)
        assert grow("resume", "r").code == 128 + signal.SIGTERM
    assert 25 < state(saved)["progress"]["step"] < 50
    launcher = spawn(
        tmp_path,
        environment(0, 1, 0),
        *("-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_ports(1)[0]}"),
        *("-m", "grow_cli", "resume", "r"),
    )
    code, _, err = ended(launcher)
    assert code == 0, err
    _same_in_the_end(tmp_path)


@pytest.mark.slow
def test_two_processes_and_then_one_go_on_with_what_one_began(
    grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["train", *SHORT, *TINY]
    assert grow(*keys, "run_dir=whole").code == 0
    asked, saved = itertools.count(1), tmp_path / "r" / "checkpoints" / "last.pt"
    with monkeypatch.context() as patched:
        patched.setattr(Interrupts, "__call__", lambda self: signal.SIGTERM if next(asked) > 15 else None)
        assert grow(*keys, "run_dir=r").code == 128 + signal.SIGTERM
    began = state(saved)["progress"]["step"]
    assert 0 < began < 25
    for (code, _, err), first in zip(
        driven(tmp_path, 2, [["resume", "r"]], signal_at=(25, "0")), (True, False), strict=True
    ):
        assert code == 128 + signal.SIGTERM, err
        assert ("grow resume" in err) is first
    assert state(saved)["progress"]["step"] == began + 25
    assert grow("resume", "r").code == 0
    _same_in_the_end(tmp_path)


def _same_in_the_end(folder: Path) -> None:
    whole, resumed = (state(folder / name / "checkpoints" / "last.pt") for name in ("whole", "r"))
    assert whole["progress"]["step"] == resumed["progress"]["step"] == 63
    assert whole["batches"]["cursor"] == resumed["batches"]["cursor"]
    assert torch.equal(whole["batches"]["generator"], resumed["batches"]["generator"])
    assert furthest(whole, resumed) <= 1e-4
    steps = [
        [row.split(",")[0] for row in (folder / n / "metrics.csv").read_text().splitlines()] for n in ("whole", "r")
    ]
    assert steps[0] == steps[1]
    assert {path.name for path in folder.iterdir()} == {"whole", "r"}


class OneOfTwo(Ranks):
    """Rank 0 or 1 of two in one process: what it would add up is noted, and comes back as it was."""

    others: tuple[int, ...] = ()
    """What the other one has, where the largest is asked for."""

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        self.noted = tensor.clone()
        return tensor

    def _largest(self, numbers: list[int]) -> list[int]:
        return [max(both) for both in zip(numbers, self.others or numbers, strict=True)]


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


@pytest.mark.parametrize(("norm", "shape"), [(torch.nn.BatchNorm1d, (7, 3)), (torch.nn.BatchNorm2d, (5, 3, 4, 2))])
def test_batch_normalisation_is_by_the_whole_batch(norm: type[torch.nn.Module], shape: tuple[int, ...]) -> None:
    """Of two ranks that have the same part: sums are twice as large, over twice as many."""

    class Same(Ranks):
        def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
            if tensor.dim() == 1:
                return tensor.mul_(2)
            return tensor.copy_(tensor[0].expand_as(tensor))  # statistics, a row for each

    torch.manual_seed(0)
    x, d = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    found = []
    for together in (False, True):
        layer = norm(3).double()
        inputs = (x if together else torch.cat([x, x])).clone().requires_grad_()
        for _ in range(2):
            with whole_batch(Same(0, 2), 2 * len(x)) if together else contextlib.nullcontext():
                outputs = layer(inputs)
            outputs.backward(d if together else torch.cat([d, d]))
        outputs = outputs.detach()[: len(x)]
        assert inputs.grad is not None
        found.append([outputs, inputs.grad[: len(x)], layer.running_mean, layer.running_var, layer.num_batches_tracked])
        with whole_batch(Same(0, 2), 2 * len(x)):
            found[-1].append(layer.eval()(x))  # by the running statistics, as always
    for alone, both in zip(*found, strict=True):
        torch.testing.assert_close(both, alone)


def test_dropouts_mask_is_the_one_that_a_process_alone_draws_for_the_whole_batch() -> None:
    layer, x = torch.nn.Dropout(0.5), torch.randn(7, 3)
    torch.manual_seed(0)
    whole, next_number, parts = layer(x), torch.rand(()), torch.empty_like(x)
    for rank in (0, 1):
        ranks = Ranks(rank, 2)
        torch.manual_seed(0)
        with whole_batch(ranks, len(x)):
            ranks.part(parts).copy_(layer(ranks.part(x)))
        assert torch.rand(()) == next_number
    assert torch.equal(parts, whole)
    with whole_batch(ranks, len(x)):
        assert torch.equal(layer.eval()(ranks.part(x)), ranks.part(x))


@pytest.mark.parametrize(("norm", "sums"), [("none", 1), ("batch", 1 + 2 * 5)])
def test_a_step_adds_up_once_and_twice_for_each_batch_normalisation(make: Callable, norm: str, sums: int) -> None:
    session = make("method=static", "model=residual_cnn", f"model.norm={norm}").session
    ranks, sizes = OneOfTwo(0, 2), []
    add = ranks.sum_
    ranks.sum_ = lambda tensor: sizes.append(tensor.numel()) or add(tensor)  # type: ignore[method-assign,func-returns-value]
    make_shared_step(session, ranks)(*session.batches.next())
    assert len(sizes) == sums
    assert max(sizes) >= session.parameters


def test_all_stop_after_the_step_in_whose_sum_a_signal_came_along(make: Callable) -> None:
    session = make("method=copy").session
    ranks = OneOfTwo(0, 2)
    step = make_shared_step(session, ranks)
    step(*session.batches.next())
    assert (ranks.heard, ranks.ending) == (None, False)
    with session.interrupted.watching():
        signal.raise_signal(signal.SIGTERM)
    step(*session.batches.next())
    assert (ranks.heard, ranks.ending) == (signal.SIGTERM, True)


def test_a_signal_that_a_launcher_repeats_is_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    interrupted = Interrupts()
    interrupted.repeats_for = 5.0
    with interrupted.watching():
        for now[0] in (100.0, 100.1, 104.9):
            signal.raise_signal(signal.SIGTERM)
        assert interrupted() == signal.SIGTERM
        now[0] = 105.1
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)


def test_processes_whose_parameters_differ_in_a_bit_do_not_go_on() -> None:
    ranks, there = OneOfTwo(0, 2), torch.ones(3)
    ranks.refuse_different([there])
    other = OneOfTwo(1, 2)
    other._largest = lambda numbers: setattr(ranks, "others", tuple(numbers)) or numbers  # type: ignore[method-assign,func-returns-value]
    there[1] += 2**-23
    other.refuse_different([there])
    with pytest.raises(Crashed, match="no longer have the same parameters"):
        ranks.refuse_different([torch.ones(3)])


PLUGINS = (("method", "copy"), ("model", "gpt"))
"""Options that a plugin's would be derived from."""


def test_what_was_not_shown_on_several_processes_is_refused_there_and_there_only() -> None:
    shown = compose(["method=copy", "method.warmup_steps=5"])
    refuse_config(shown, 2)
    stop, options = shown.stop, registry.groups()
    plugins = {group: type("Plugin", (options[group][name],), {"on_several_ranks": False})() for group, name in PLUGINS}
    not_shown = {
        "method=copy": replace(shown, method=plugins["method"]),
        "model=gpt": replace(shown, model=plugins["model"]),
        "optimizer=natural": replace(shown, optimizer=options["optimizer"]["natural"]()),
        "compile=true": replace(shown, compile=True),
        "stop.seconds": replace(shown, stop=replace(stop, epochs=None, seconds=9)),
        "precision=bf16": replace(shown, precision="bf16"),
    }
    for key, config in not_shown.items():
        refuse_config(config, 1)
        with pytest.raises(UserError, match=key):
            refuse_config(config, 2)


def test_what_differs_between_processes_by_nature_is_refused(make: Callable) -> None:
    session = make("method=copy").session
    refuse_built(session, 2)
    with pytest.raises(UserError, match="batch_size=32 has less than a sample for each of 33"):
        refuse_built(session, 33)
    with pytest.raises(UserError, match="a method without gradient steps"):
        refuse_built(make("method=tiny", "model=mlp_tiny", "method.train_by_growth=true").session, 2)


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
