"""A kill at any operation on files: the folder it leaves is resumed, or begun again, and ends as the whole run does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from grow_cli import cli, registry

CLOCKS = ("seconds", "growth_seconds", "peak_memory_bytes", "overrides")
RUN = (
    *("subset=128", "batch_size=32", "stop.epochs=3", "evaluate.every=1", "trigger=every", "trigger.every=1"),
    *("growth.neurons=2", "growth.until=0.9", "growth.max_events=2", "evaluate.probe=16", "threads=1", "device=cpu"),
    *("progress=off", "trajectory.window=3", "trajectory.every=1", "schedule.warmup=0", "optimizer.lr=3e-3"),
)
OF = {
    "alether": ("method.rank=2", "method.warmup_steps=2"),
    "copy": ("method.warmup_steps=2",),
    "gradmax": ("model.activation=relu_right",),
    "random": ("method.warmup_steps=2",),
    "senn": ("model.hidden=[2,2]",),
    "stages": ("batch_size=128", "model.hidden=[[3,3]]", "optimizer.lr=1", "optimizer.iterations=3"),
}
METHODS = sorted(name for name in registry.groups()["method"] if name != "replay")
# What changes a file for good, or makes sure that it is on the disk.
OPERATIONS = ("replace", "fsync", "link", "mkdir", "unlink", "open")


def _typed(method: str) -> list[str]:
    needs_units = "mlp" if method in ("tiny", "gradmax", "random_width", "net2net", "fold") else ""
    model = (f"model={needs_units}", "model.hidden=[3,3]") if needs_units else ()
    return ["train", f"method={method}", *RUN, *model, *OF.get(method, ())]


def _run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    return int(left.value.code or 0)


def _run_with_snapshots(arguments: list[str], folder: Path, into: Path) -> list[Path]:
    """`grow ARGUMENTS`, and what a kill ahead of each operation on files would leave of its folder, once per state.

    A kill keeps what the system has been given, and nothing that still waits in the process: a copy holds just that, and
    one training serves for all of them. A snapshot is a path where nothing is if there was no folder yet.
    """
    snapshots: list[Path] = []
    last: dict[str, bytes | None] | None = None
    copying = False

    def before() -> None:
        nonlocal last, copying
        if copying:
            return
        copying = True
        try:
            state = _state(folder)
            if state != last:
                last = state
                snapshots.append(into / f"killed-{len(snapshots)}")
                if folder.exists():
                    shutil.copytree(folder, snapshots[-1])
        finally:
            copying = False

    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, _announced(getattr(os, name), before))
        assert _run(arguments) == 0
    return snapshots


def _state(folder: Path) -> dict[str, bytes | None]:
    """Path → content; None of a folder."""
    return {str(p.relative_to(folder)): None if p.is_dir() else p.read_bytes() for p in sorted(folder.rglob("*"))}


def _announced(operation: Callable, before: Callable[[], None]) -> Callable:
    def announced(*args: Any, **more: Any) -> Any:
        if operation.__name__ != "open" or (len(args) > 1 and args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            before()
        return operation(*args, **more)

    return announced


def _same_end(whole: Path, other: Path) -> None:
    for name in ("metrics.csv",):
        one, two = (pd.read_csv(p / name) for p in (whole, other))
        drop = [c for c in CLOCKS if c in one]
        pd.testing.assert_frame_equal(one.drop(columns=drop), two.drop(columns=drop), check_exact=True)
    one, two = ([_less(json.loads(line)) for line in _lines(p / "growth.jsonl")] for p in (whole, other))
    assert one == two
    one, two = (_less(json.loads((p / "summary.json").read_text())) for p in (whole, other))
    assert one == two
    for file in ("last.pt", "best.pt"):
        a, b = (torch.load(p / "checkpoints" / file, weights_only=True)["model"] for p in (whole, other))
        assert all(torch.equal(a[name], b[name]) for name in a)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _less(record: dict[str, Any]) -> dict[str, Any]:
    """Without clocks, and what depends on the machine's memory."""
    for phase in record.get("phases", []):
        phase.pop("seconds", None)
    return {key: value for key, value in record.items() if key not in CLOCKS}


def _check(method: str, chosen: Callable[[int], slice], work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed, whole = _typed(method), work / "whole"
    snapshots = _run_with_snapshots([*typed, f"run_dir={whole}"], whole, work)
    assert len(snapshots) > 20
    for folder in snapshots[chosen(len(snapshots))]:
        if not _finished(folder):
            claimed = (folder / ".hydra/config.yaml").exists()
            again = ["resume", str(folder)] if claimed else [*typed, f"run_dir={folder}"]
            capsys.readouterr()
            assert _run(again) == 0, (method, folder.name, capsys.readouterr().err)
            left = [p for p in folder.rglob("*") if p.name.endswith(".tmp")]
            assert not left, (method, folder.name, left)
        _same_end(whole, folder)
        shutil.rmtree(folder)


def _finished(folder: Path) -> bool:
    summary = folder / "summary.json"
    return summary.exists() and json.loads(summary.read_text())["status"] == "finished"


def test_a_kill_at_a_file_operation_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _check("fold", lambda n: slice(n // 9, None, n // 2), tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_kill_at_any_file_operation_loses_nothing(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _check(method, lambda n: slice(None), tmp_path, capsys)
