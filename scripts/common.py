"""What the scripts share: runs that are trained once, and pages that keep their notes."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

from grow_cli.files import write_text

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


def recorded(path: Path, keys: Sequence[str]) -> dict[tuple[str, ...], dict[str, str]]:
    """The rows of a CSV of finished runs by the values of these columns; none where there is no file yet.

    Such a file is committed, so that a study is continued where its run folders are not: with more seeds, say.
    """
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {tuple(row[key] for key in keys): row for row in csv.DictReader(file)}


def record(path: Path, keys: Sequence[str], row: Mapping[str, object]) -> None:
    """Add a run to such a file, in place of the row of the same keys if there is one; all is written, or nothing.

    A row has the columns of the first one. Several processes may record at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        rows = recorded(path, keys)
        found = {name: str(value) for name, value in row.items()}
        rows[tuple(found[key] for key in keys)] = found
        text = StringIO()
        writer = csv.DictWriter(text, list(next(iter(rows.values()))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
        write_text(path, text.getvalue())
    finally:
        os.close(folder)


def write_page(name: str, text: str) -> Path:
    """docs/results/<name>.md: what was measured, and below it the notes that the page had."""
    page = ROOT / "docs" / "results" / f"{name}.md"
    had = page.read_text(encoding="utf-8") if page.exists() else ""
    _, mark, notes = had.partition(NOTES)
    page.write_text(f"{text.rstrip()}\n" + (f"\n{mark}{notes}" if mark else ""), encoding="utf-8")
    return page
