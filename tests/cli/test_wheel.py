"""What `pip install .` installs works from any directory, its YAML files included."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds of the checkout, installed into a folder; its dependencies are this environment's."""
    site = tmp_path_factory.mktemp("wheel") / "site"
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(REPOSITORY)], check=True, capture_output=True)
    return site


def test_the_wheel_ships_every_yaml_file(installed: Path) -> None:
    (record,) = installed.glob("*.dist-info/RECORD")
    with record.open(newline="", encoding="utf-8") as file:
        shipped = {row[0].removeprefix("grow_cli/") for row in csv.reader(file)}
    ours = {str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "conf").rglob("*.yaml")}
    assert ours
    assert ours <= shipped
    assert all((installed / "grow_cli" / name).is_file() for name in ours)
    assert not [name for name in shipped if name.startswith(("tests", "scripts"))]


@pytest.mark.slow
def test_the_installed_command_trains_from_any_directory(installed: Path, tmp_path: Path) -> None:
    # -P and another folder: the checkout itself must not be found, nor an editable install of it
    environment = os.environ | {"PYTHONPATH": str(installed)}

    def grow(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(installed / "bin" / "grow"), *arguments]
        return subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)

    found = subprocess.run(
        [sys.executable, "-c", "import grow_cli; print(grow_cli.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.startswith(str(installed))
    assert "alether" in grow("list", "method").stdout
    done = grow("train", "method=copy", "debug=fast", "run_dir=r", "stop.epochs=2")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "r/summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["commit"] is None
