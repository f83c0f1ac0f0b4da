"""`grow report`: everything about a run, or about a folder of runs, as one page that works offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grow_cli.analysis.figures import save_page
from grow_cli.analysis.report.page import Page
from grow_cli.analysis.report.run import run_page
from grow_cli.analysis.report.sweep import sweep_page
from grow_cli.records.folder import RunFolder


def write_report(paths: Sequence[Path], output: Path) -> Path:
    """Write the page of one run, or of all the runs at and below these paths, and return where it is."""
    first = RunFolder(paths[0])
    page: Page = run_page(first) if len(paths) == 1 and first.claimed else sweep_page(paths, output)
    return save_page(page.html(), output)
