"""Which classes a run's net confuses on the test split; nothing is selected by this.

The net is measured again, so that older runs have this table as well, but only if its data are at hand and unchanged
and it takes a few seconds. The last checkpoint is measured, whose test score is in the summary.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import prod
from typing import TYPE_CHECKING, Any

from omegaconf.errors import OmegaConfBaseException

from grow_cli import config as configuration
from grow_cli.analysis.report.reading import RunData
from grow_cli.data.identity import check_plain
from grow_cli.errors import UserError
from grow_cli.files import is_there
from grow_cli.records.configs import typed

if TYPE_CHECKING:
    from grow_cli.config import Config

_CLASSES = 30
_MOST_FLOPS = 3e11  # some ten seconds
_MOST_NUMBERS = 3e8  # of all inputs: CIFAR-10 has 1.8e8
_BATCH = 500

SHADE = 45
"""Percent of the colour in a cell, at most: a darker ground would leave its number too little contrast."""

Matrix = list[list[int]]
"""[true class][class that the net says]: samples."""


def confusion(run: RunData) -> tuple[list[str], Matrix] | None:
    """Names of the classes, and the confusion matrix; None if that would take too long."""
    last = run.folder.checkpoints / "last.pt"
    known = run.summary.get("data") or {}
    try:
        check_plain(known)
    except TypeError:  # the folder may be anybody's
        return None
    classes = known.get("classes") or []
    if run.task.name != "classification" or run.status != "finished" or not is_there(last):
        return None
    if not 2 <= len(classes) <= _CLASSES or not _quick(known, float(run.latest("flops_per_sample") or 0)):
        return None
    try:
        config = configuration.build(typed(run.config, run.folder.hydra / "config.yaml"))
        if not config.dataset.at_hand(config.data_folder):
            return None
        return [str(name) for name in classes], _measured(run, config, len(classes))
    except (UserError, OmegaConfBaseException):  # the data are others by now, say: a page of the run needs them not
        return None


def _quick(data: dict[str, Any], flops: float) -> bool:
    """Whether reading data of these sizes, and measuring a net with these FLOPs per sample, takes about ten seconds at
    most."""
    counts, shape = data.get("counts") or {}, data.get("input_shape") or []
    if "test" not in counts:  # an older run's
        return False
    return sum(counts.values()) * prod(shape) <= _MOST_NUMBERS and counts["test"] * flops <= _MOST_FLOPS


def _measured(run: RunData, config: Config, classes: int) -> Matrix:
    import torch

    from grow_cli.analysis.phases import data_of, load_phase
    from grow_cli.surgery.measure import evaluation_mode

    phase = load_phase(run.folder.checkpoints / "last.pt")
    data = data_of(config, phase)
    found = torch.zeros(classes * classes, dtype=torch.int64)
    with evaluation_mode(phase.model):
        for x, y in zip(data.test.x.split(_BATCH), data.test.y.split(_BATCH), strict=True):
            said = phase.model(data.prepare(x)).argmax(1)
            found += torch.bincount(y * classes + said, minlength=classes * classes)
    counts: Matrix = found.view(classes, classes).tolist()
    return counts


def worst(names: Sequence[str], matrix: Matrix) -> str:
    """The most frequent mistakes, in a sentence; empty without any."""
    mistakes = sorted(
        ((n, t, s) for t, row in enumerate(matrix) for s, n in enumerate(row) if n and s != t), key=lambda m: -m[0]
    )
    told = ", ".join(f"{names[true]} taken for {names[said]} ({n:,})" for n, true, said in mistakes[:3])
    wrong, samples = sum(n for n, _, _ in mistakes), sum(map(sum, matrix))
    return f"{wrong:,} of {samples:,} test samples are misclassified; most often: {told}." if told else ""


def confusion_table(names: Sequence[str], matrix: Matrix) -> str:
    """A row per true class; right ones shaded by their share of the row, wrong ones by that of the most frequent mistake."""
    most = max([1, *(n for true, row in enumerate(matrix) for said, n in enumerate(row) if said != true)])
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for true, counts in enumerate(matrix):
        total = max(1, sum(counts))
        cells = "".join(_cell(n, n / (total if said == true else most), said == true) for said, n in enumerate(counts))
        rows.append(f"<tr><td>{escape(names[true])}</td>{cells}</tr>")
    return (
        '<div class="scroll" tabindex="0"><table class="confusion">\n'
        f"<thead><tr><th>true ↓, said →</th>{head}</tr></thead>\n<tbody>\n{chr(10).join(rows)}\n</tbody></table></div>"
    )


def _cell(n: int, share: float, right: bool) -> str:
    if not n:
        return "<td></td>"
    tone = "right" if right else "wrong"
    shade = f"background: color-mix(in srgb, var(--{tone}) {round(SHADE * share)}%, transparent)"
    return f'<td style="{shade}">{n:,}</td>'
