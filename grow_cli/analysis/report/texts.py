"""Text that a language net writes, before each growth event whose net was kept and at the end."""

from __future__ import annotations

from html import escape

from grow_cli.analysis.report.page import table
from grow_cli.analysis.report.reading import RunData
from grow_cli.files import is_there

_LENGTH = 160
_MOST_FLOPS = 3e11  # for all the texts of a page: some ten seconds
_MOST = 12


def texts(run: RunData) -> str:
    """A table of stages and texts; empty for other tasks, and if writing would take long."""
    last = run.folder.checkpoints / "last.pt"
    if run.task.name != "language" or not is_there(last):
        return ""
    grown = [(event.step, run.folder.checkpoints / f"before-{event.event}.pt") for event in run.events]
    stages = [(f"step {step:,}, before growing", path) for step, path in grown if is_there(path)][:_MOST]
    stages.append(("at the last checkpoint", last))
    a_window = run.latest("flops_per_sample") or 0
    if _LENGTH * len(stages) * a_window > _MOST_FLOPS:
        return ""
    from grow_cli.analysis.sampling import sample

    prompt = b"def " if run.name("dataset") == "python" else b"The "
    rows = []
    for stage, path in stages:
        text = (prompt + sample(path, prompt, _LENGTH, 0.8, 0)).decode("utf-8", "replace")
        rows.append([stage, f"<pre>{escape(text)}</pre>"])
    return table(["net", f"after {prompt.decode()!r}"], rows, text=(0, 1), safe=(1,))
