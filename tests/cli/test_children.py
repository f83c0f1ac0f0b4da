"""Commands in processes of their own: none blocks on its output, all end with the one that began them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from grow_cli.commands import children


def _python(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children run this instead of grow; their arguments are in sys.argv."""
    popen = subprocess.Popen

    def begin(command: list[str], **more: object) -> subprocess.Popen[str]:
        return popen([sys.executable, "-c", code, *command[3:]], **more)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(children.subprocess, "Popen", begin)


def test_children_that_print_much_do_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    _python(
        "import sys; print('x' * 10**6); print('y' * 10**6, file=sys.stderr); sys.exit(int(sys.argv[1]))", monkeypatch
    )
    ended: list[children.Ended] = []
    children.run([["0"], ["3"], ["0"]], 2, ended.append)
    assert sorted(one.code for one in ended) == [0, 0, 3]
    assert all(len(one.out) == len(one.err) == 10**6 + 1 for one in ended)


def test_no_more_run_at_once_than_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = f"""
import os, pathlib, sys, time
here = pathlib.Path({str(tmp_path)!r})
(here / sys.argv[1]).touch(); time.sleep(0.1); print(len(list(here.iterdir()))); (here / sys.argv[1]).unlink()
"""
    _python(code, monkeypatch)
    ended: list[children.Ended] = []
    children.run([[str(i)] for i in range(6)], 2, ended.append)
    assert {int(one.out) for one in ended} <= {1, 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL], ids=["SIGTERM", "SIGKILL"]
)
def test_children_end_with_their_parent(
    number: signal.Signals, grow: Callable, spawn: Callable, tmp_path: Path
) -> None:
    overrides = "method=tiny model.hidden=[4,3] growth.neurons=4 trigger.every=2 growth.max_units=[9] stop.epochs=10"
    for name in ("a", "b"):
        assert grow("train", *overrides.split(), f"run_dir=runs/{name}", "progress=off", "threads=1").code == 0
        summary = tmp_path / "runs" / name / "summary.json"  # a control long enough to be stopped in the middle
        summary.write_text(summary.read_text().replace('"steps": ', '"steps": 10000000, "was": '))
    parent = spawn("controls", "runs", "--only", "static-steps", "-j", "2", "progress=lines")
    begun = [tmp_path / f"runs/{name}/controls/static-steps/checkpoints/last.pt" for name in ("a", "b")]
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in begun) and time.monotonic() < deadline:
        time.sleep(0.05)
    found = psutil.Process(parent.pid).children(recursive=True)
    assert len(found) >= 2
    os.kill(parent.pid, number)
    parent.communicate(timeout=30)
    _, alive = psutil.wait_procs(found, timeout=30)
    assert not alive, "a child trains on"


# a child that notes each SIGINT, and a parent that begins it
COUNTS = """
import pathlib, signal, time
from grow_cli.commands.children import end_with_parent
end_with_parent()
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
pathlib.Path("ready").touch()
while not heard:
    time.sleep(0.05)
time.sleep(1)
pathlib.Path("heard").write_text(str(len(heard)))
"""
BEGINS = f"""
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
from grow_cli.commands import children
popen = subprocess.Popen
children.subprocess.Popen = lambda command, **how: popen([sys.executable, "-c", {COUNTS!r}], **how)
{{first}}
children.run([["it"]], 1, lambda ended: None)
"""
AS_RAY_DOES = """
import _thread, pathlib, signal, threading, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
def interrupts():
    while not pathlib.Path("ready").exists():
        time.sleep(0.05)
    _thread.interrupt_main()
threading.Thread(target=interrupts, daemon=True).start()
"""


@pytest.mark.parametrize("how", ["Ctrl-C in the terminal", "as Ray does"])
def test_an_interrupted_parent_interrupts_its_children_once(how: str, tmp_path: Path) -> None:
    first = AS_RAY_DOES if how == "as Ray does" else ""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    code = BEGINS.replace("{first}", first)
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, start_new_session=True)
    while not (tmp_path / "ready").exists():
        assert parent.poll() is None
        time.sleep(0.05)
    if not first:
        os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(timeout=60) != 0
    assert (tmp_path / "heard").read_text() == "1"
