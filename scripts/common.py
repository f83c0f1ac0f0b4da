"""What the scripts share: runs that are trained once, and pages that keep their notes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTES = "<!-- notes: kept when the page is made again -->"


def environment() -> dict[str, str]:
    """Of a process that trains.

    On one thread: jobs side by side do not take each other's cores, and small nets gain nothing from a second.
    """
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def grow(*arguments: str) -> str:
    """What a command prints; the script ends where it fails."""
    command = [sys.executable, "-m", "grow_cli", *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"grow {' '.join(arguments)}: {done.stderr.strip()}")
    if done.stderr:
        print(done.stderr.strip(), file=sys.stderr, flush=True)
    return done.stdout.strip()


def train_once(run: Path, overrides: list[str]) -> None:
    """`grow train` into this folder; an interrupted run goes on, a finished one is used again."""
    summary = run / "summary.json"
    if summary.exists() and json.loads(summary.read_text())["status"] == "finished":
        return
    if (run / "checkpoints" / "last.pt").exists():
        grow("resume", str(run), "progress=off")
    else:
        grow("train", "threads=1", *overrides, f"run_dir={run}", "progress=off")
    print(os.path.relpath(run, ROOT), flush=True)


def write_page(name: str, text: str) -> Path:
    """docs/results/<name>.md: what was measured, and below it the notes that the page had."""
    page = ROOT / "docs" / "results" / f"{name}.md"
    had = page.read_text(encoding="utf-8") if page.exists() else ""
    _, mark, notes = had.partition(NOTES)
    page.write_text(f"{text.rstrip()}\n" + (f"\n{mark}{notes}" if mark else ""), encoding="utf-8")
    return page
