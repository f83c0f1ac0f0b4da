"""`grow list`: what there is to choose from, read from the first comment of each YAML file."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from grow_cli import console, registry
from grow_cli.errors import UserError

GROUPS = ("dataset", "model", "method", "trigger", "optimizer", "schedule", "logger", "experiment", "debug", "sweep")


def main(arguments: list[str]) -> int:
    """Print every group, or the ones named."""
    for name in arguments:
        if name not in GROUPS:
            raise UserError(f"`{name}` is not a config group: choose from {', '.join(GROUPS)}")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for group in arguments or GROUPS:
        options = describe(group)
        if not options:
            continue
        table.add_row(f"[cyan]{group}=[/cyan]")
        for name, line in options.items():
            table.add_row(f"  {name}", line)
        table.add_row()
    console.uncut(table)
    return 0


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
