"""The choices: every group, its options, and a line about each."""

from __future__ import annotations

from pathlib import Path

from grow_cli import registry

GROUPS = ("dataset", "model", "method", "trigger", "optimizer", "schedule", "logger", "experiment", "debug", "sweep")


def describe(group: str) -> dict[str, str]:
    """Option → its line, in alphabetical order; of several folders the first wins, as in Hydra."""
    found: dict[str, str] = {}
    for folder in registry.config_folders():
        for path in sorted((folder / group).glob("*.yaml")):
            found.setdefault(path.stem, _first_comment(path))
    return dict(sorted(found.items()))


def _first_comment(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("#") and "@package" not in line:
                return line.lstrip("# ").strip()
            if not line.startswith("#"):
                break
    return ""
