"""A package of the user's adds a trigger by one file and one YAML, through the entry point group `grow.plugins`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

PLUGIN = '''
from dataclasses import dataclass
from grow_cli.registry import option
from grow_cli.triggers.base import Trigger, Verdict

@option("trigger", "thrice")
@dataclass
class Thrice(Trigger):
    """Every third evaluation."""
    loudness: int = 1

    @dataclass
    class State:
        asked: int = 0

    readings = ("asked",)

    def update(self, now):
        self.state.asked += 1
        return Verdict(self.state.asked % 3 == 0, {"asked": self.state.asked})

    def reset(self, now):
        pass
'''
YAML = "# Grow at every third evaluation\ndefaults:\n  - /schema/trigger/thrice@_here_\n  - _self_\n"


def test_a_plugins_trigger_is_listed_composed_and_run(tmp_path: Path) -> None:
    package, meta = tmp_path / "site/myplugin", tmp_path / "site/myplugin-1.dist-info"
    (package / "conf/trigger").mkdir(parents=True)
    meta.mkdir()
    (package / "__init__.py").write_text(PLUGIN)
    (package / "conf/trigger/thrice.yaml").write_text(YAML)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: myplugin\nVersion: 1\n")
    (meta / "entry_points.txt").write_text("[grow.plugins]\nmyplugin = myplugin\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{REPOSITORY}"}

    def grow(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "grow_cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert "Grow at every third evaluation" in grow("list", "trigger").stdout
    refused = grow("train", "trigger=thrice", "trigger.loudnes=2")
    assert refused.returncode == 2
    assert "loudness" in refused.stderr
    done = grow("train", "trigger=thrice", "method=copy", "debug=fast", "method.warmup_steps=5", "run_dir=r")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "r/summary.json").read_text())["trigger"] == "thrice"
    assert (tmp_path / "r/growth.jsonl").exists()
