"""The pictures of `grow plot --picture NAME`. No torch and no matplotlib at the top: help and completion read the names."""

from __future__ import annotations

from pathlib import Path

from grow_cli.config import Config
from grow_cli.records.folder import RunFolder

RUNS = "runs"
"""The one picture that takes several runs, and needs no config."""

PICTURES = {
    RUNS: "accuracy, loss and size against steps, or another cost",
    "score": "how much the best new unit or layer would raise the natural expansion score, and the threshold",
    "boundaries": "the decision boundary before each growth event and at the end, for classes of points in the plane",
    "landscape": "a one-dimensional regression: the net's function, and what a new unit would gain at each location and scale",
}
"""Name → what it shows."""

AGAINST = ("steps", "epochs", "seconds", "flops")
"""What runs are drawn against, of `records.metrics.AXES`; seconds and FLOPs hold what growing cost."""


def draw(picture: str, folder: RunFolder, config: Config, output: Path) -> Path:
    """Draw one run's picture of this name, any but `runs`, and return its path; UserError where the run does not fit."""
    if picture == "score":
        from grow_cli.analysis.score import draw_score

        return draw_score(folder, config, output)
    if picture == "boundaries":
        from grow_cli.analysis.boundaries import draw_boundaries

        return draw_boundaries(folder, config, output)
    from grow_cli.analysis.landscape import draw_landscape

    return draw_landscape(folder, config, output)
