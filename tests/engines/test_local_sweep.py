"""Twelve jobs on two slots: one crashes twice, one fails for good, and the process that began them is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
RATES = "1e-3,1e30," + ",".join(f"{i}e-3" for i in range(2, 12))  # the second one's loss is not finite
TYPED = (
    *("train", "-m", "method=static", "model=mlp", "optimizer=sgd", f"optimizer.lr={RATES}", "subset=300", "batch_size=16"),
    *("stop.epochs=60", "evaluate.every=1", "sweep=local", "sweep.jobs=2", "run_dir=s"),
)  # fmt: skip
CRASHING = "optimizer.lr=0.003"
# what a process of the crashing job does, twice, when it has a checkpoint: it is gone at once, as on a machine without memory
KILLS_ITSELF = f"""
import os, signal, sys, threading, time
from pathlib import Path

here = Path(os.environ["CRASHES"])
folder = next((Path(word) for word in sys.orig_argv if {CRASHING!r} in word and "," not in word), None)

def die():
    while not (folder / "checkpoints" / "last.pt").exists():
        time.sleep(0.01)
    here.joinpath(str(len(list(here.iterdir())))).touch()
    os.kill(os.getpid(), signal.SIGKILL)

if folder is not None and len(list(here.iterdir())) < 2:
    threading.Thread(target=die, daemon=True).start()
"""


def _spawn(folder: Path) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(folder / "site"), str(REPOSITORY)])
    return subprocess.Popen(
        [sys.executable, "-m", "grow_cli", *TYPED],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths, "CRASHES": str(folder / "crashes")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _status(folder: Path) -> dict[str, Any]:
    """As another terminal asks for it."""
    command = [sys.executable, "-m", "grow_cli", "sweep", "status", "s", "--json"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_was_killed_goes_on_what_fails_stays_failed_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    for name, text in (("site/sitecustomize.py", KILLS_ITSELF), ("crashes/.keep", "")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    (tmp_path / "crashes/.keep").unlink()
    parent = _spawn(tmp_path)
    end = time.monotonic() + 900
    while len(list(tmp_path.glob("s/*/summary.json"))) < 4 and time.monotonic() < end:
        assert parent.poll() is None, parent.communicate()
        time.sleep(0.1)
    now = _status(tmp_path)
    assert sum(now["counts"].values()) == 12
    assert now["counts"]["queued"] > 0
    assert now["processes"] == 1
    children = psutil.Process(parent.pid).children(recursive=True)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate(timeout=60)
    assert not psutil.wait_procs(children, timeout=120)[1], "a job trains on without its sweep"
    assert _status(tmp_path)["processes"] == 0
    summaries = {path: path.stat().st_mtime_ns for path in tmp_path.glob("s/*/summary.json")}
    done = [path for path in summaries if json.loads(path.read_text())["status"] == "finished"]
    assert done

    again = _spawn(tmp_path)
    out, err = again.communicate(timeout=1800)
    assert again.returncode == 1, err
    assert f"{len(done)} finished already" in out
    assert "goes on again (its process was ended by SIGKILL)" in out, "the last of its crashes"
    assert len(list((tmp_path / "crashes").iterdir())) == 2
    (failed,) = (path for path in summaries if "1e+30" in path.parent.name)
    assert all(path.stat().st_mtime_ns == summaries[path] for path in (*done, failed)), "none is trained twice"
    states = Counter(json.loads(path.read_text())["status"] for path in tmp_path.glob("s/*/summary.json"))
    assert states == {"finished": 11, "failed": 1}
    for path in tmp_path.glob("s/*/metrics.csv"):
        steps = [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]]
        assert steps == sorted(set(steps)), f"{path} holds a step twice"
    after = _status(tmp_path)
    assert (after["counts"]["finished"], after["counts"]["failed"]) == (11, 1)
    (bad,) = (job for job in after["jobs"] if job["state"] == "failed")
    assert bad["job"] == "optimizer.lr=1e+30"
    assert "finite" in bad["reason"]
