"""Strangers' additions, a file and a YAML each outside the package: found, listed, completed, run, and held to the contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STRANGERS = REPOSITORY / "tests/strangers"
ADDED = {
    "method": ["sparse", "blend"],
    "trigger": ["slowing"],
    "dataset": ["rings"],
    "model": ["ladder"],
    "logger": ["diary"],
}
Call = Callable[..., subprocess.CompletedProcess[str]]

CONTRACT = """
import sys
from pathlib import Path
from grow_cli import testing
here = Path(sys.argv[1])
blocks = ("model=residual_mlp", "model.width=8", "model.hidden=[6,6]", "method.warmup_steps=2")
testing.check_method("sparse", here / "sparse")
testing.check_method("blend", here / "blend", *blocks)
testing.check_trigger("slowing", here / "slowing", "trigger.least=9")
testing.check_dataset("rings", here / "rings", "dataset.samples=300")
testing.check_model("ladder", here / "ladder", "model.rungs=[3,3]")
testing.check_logger("diary", here / "diary")
"""


@pytest.fixture
def plugged(tmp_path: Path) -> Call:
    """`python` with the strangers installed: their modules on the path, and their entry points."""
    meta = tmp_path / "site/strangers-1.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1\n")
    modules = sorted(path.stem for path in STRANGERS.glob("stranger_*.py"))
    (meta / "entry_points.txt").write_text("[grow.plugins]\n" + "".join(f"{m} = {m}\n" for m in modules))
    paths = (tmp_path / "site", STRANGERS, REPOSITORY)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return call


@pytest.mark.slow
def test_what_strangers_add_is_found_listed_completed_trained_resumed_and_compared(
    plugged: Call, tmp_path: Path
) -> None:
    def grow(*arguments: str) -> str:
        done = plugged("-m", "grow_cli", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for group, names in ADDED.items():
        listed = grow("list", group)
        assert all(name in listed for name in names)
    assert "method=sparse" in grow("completion", "--query", "grow train method=spa")
    refused = plugged("-m", "grow_cli", "train", "trigger=slowing", "trigger.last=2")
    assert refused.returncode == 2
    assert "did you mean least?" in refused.stderr
    own = ("model=ladder", "dataset=rings", "dataset.samples=200", "trigger=slowing", "trigger.least=9")
    more = ("logger=[csv,diary]", "stop.epochs=4", "growth.neurons=1", "method=sparse", "progress=off")
    for seed in (0, 1):
        grow("train", *own, *more, f"seed={seed}", f"run_dir=runs/{seed}")
    summary = json.loads((tmp_path / "runs/0/summary.json").read_text())
    assert (summary["model"], summary["events"] > 0) == ("ladder", True)
    assert summary["ended"] == {"rule": "epochs", "value": 4}
    assert (tmp_path / "runs/0/diary.txt").read_text().count("grew by") >= summary["events"]
    assert "sparse" in grow("compare", "runs")


@pytest.mark.slow  # the contract is the one that our own options keep
def test_what_strangers_add_keeps_the_contract(plugged: Call, tmp_path: Path) -> None:
    done = plugged("-W", "error", "-c", CONTRACT, str(tmp_path / "runs"))
    assert done.returncode == 0, done.stderr


def test_a_plugin_cannot_take_a_built_ins_name(plugged: Call, tmp_path: Path) -> None:
    (tmp_path / "site/thief.py").write_text((STRANGERS / "stranger_sparse.py").read_text().replace("sparse", "tiny"))
    (tmp_path / "site/strangers-1.dist-info/entry_points.txt").write_text("[grow.plugins]\nthief = thief\n")
    done = plugged("-m", "grow_cli", "list", "method")
    assert done.returncode == 2
    assert "method=tiny is registered by grow_cli.methods.tiny and by thief" in done.stderr


def test_a_plugin_that_cannot_be_imported_is_named(plugged: Call, tmp_path: Path) -> None:
    (tmp_path / "site/broken.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "site/strangers-1.dist-info/entry_points.txt").write_text("[grow.plugins]\nbroken = broken\n")
    done = plugged("-m", "grow_cli", "list", "method")
    assert (done.returncode, "the plugin broken" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
