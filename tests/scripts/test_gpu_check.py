"""The acceptance on a GPU: what it calls broken, and what its page says where no GPU was there."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def check() -> ModuleType:
    return import_module("gpu_check")


def _run(folder: Path, losses: list[float], seconds: float = 1.0) -> Path:
    folder.mkdir()
    rows = "".join(f"{i},{seconds},{loss}\n" for i, loss in enumerate(losses))
    (folder / "metrics.csv").write_text(f"step,seconds,val_loss\n{rows}")
    return folder


def test_a_resumed_run_may_differ_by_the_clock_alone_where_bits_are_promised(check: ModuleType, tmp_path: Path) -> None:
    whole = _run(tmp_path / "whole", [2.0, 1.0])
    same, near = _run(tmp_path / "same", [2.0, 1.0], seconds=9.0), _run(tmp_path / "near", [2.0, 1.01])
    far, short = _run(tmp_path / "far", [2.0, 1.5]), _run(tmp_path / "short", [1.0])
    assert check.repeated(whole, same, exactly=True) == ("same bits", "")
    assert check.repeated(whole, near, exactly=False) == ("1.0e-02 apart", "")
    for other, exactly in ((near, True), (far, False), (short, False)):
        assert "it is another run" in check.repeated(whole, other, exactly=exactly)[1]


def test_slow_or_waiting_steps_break_a_promise_on_a_gpu_and_none_on_a_cpu(check: ModuleType) -> None:
    gpu = torch.device("cuda", 0)
    good = check.Steps("vit", "bf16", ratio=0.95, milliseconds=1.0, waits=0)
    slow, waiting = check.Steps("vit", "bf16", 0.8, 1.0, 0), check.Steps("mlp", "fp32", 0.8, 1.0, 3)
    assert check.broken_steps(good, gpu) == []
    assert check.broken_steps(slow, gpu) == ["vit: 0.80 of the bare loop's throughput, below 0.9"]
    assert check.broken_steps(waiting, gpu) == ["mlp: 3 waits in 30 steps"]
    assert check.broken_steps(check.Steps("vit", "bf16", 0.5, 1.0, None), CPU) == []


def test_a_graph_that_is_slow_or_trains_another_net_breaks_a_promise(check: ModuleType) -> None:
    assert check.broken_replay(None) == []
    assert check.broken_replay(check.Replay("mlp", ratio=6.0, apart=1e-6)) == []
    assert check.broken_replay(check.Replay("mlp", 2.0, 1e-6)) == [
        "mlp: 2.0 times the steps by graph=always, below 5.0"
    ]
    for apart in (0.5, float("nan")):
        assert "graph=always trains another net" in check.broken_replay(check.Replay("mlp", 6.0, apart))[0]


def test_a_page_without_a_gpu_says_so_and_names_what_is_broken_and_what_was_not_tried(check: ModuleType) -> None:
    rows = [check.Row("tiny", "fp32", broken=["nothing grew"]), check.Row("copy", "fp32")]
    text = check.page(CPU, rows, [check.Steps("mlp", "fp32", 0.9, 1.0, None)], ["fold, bf16"], 12.0)
    assert "No GPU was available. Nothing on this page was measured on one" in text
    assert "- broken: tiny, fp32: nothing grew" in text
    assert "- not tried, the time was over: fold, bf16" in text
    assert "No promise" not in text
    assert "No promise that could be tried was broken." in check.page(CPU, rows[1:], [], [], 1.0)


def test_every_method_is_tried_but_replay_and_stages(check: ModuleType) -> None:
    from grow_cli import registry

    tried = {*check.METHODS, "replay", "stages"}
    assert set(registry.groups()["method"]) <= tried


@pytest.mark.slow
def test_a_method_is_rehearsed_on_the_cpu_and_a_broken_one_is_noticed(
    check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = check.check_method("net2net", "fp32", CPU, "150")
    assert (row.broken, row.repeats) == ([], "same bits")
    assert row.events > 0
    monkeypatch.setitem(check.METHODS, "static", "model=nowhere")
    assert "train: exit code" in check.check_method("static", "fp32", CPU, "150").broken[0]
