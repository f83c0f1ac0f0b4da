"""Pictures of run folders: accuracy, loss and size against steps, growth events marked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from grow_cli.analysis.figures import save
from grow_cli.recording.ending import growth_events
from grow_cli.recording.folder import RunFolder


def plot_runs(folders: list[RunFolder], output: Path) -> Path:
    """Draw the runs into one PNG and return its path."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7.5), layout="constrained")
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    summaries = [folder.read_summary() for folder in folders]
    labels = [f"{s['method']} seed {s['seed']}" if s else f.path.name for s, f in zip(summaries, folders, strict=True)]
    scores = set()
    for number, folder in enumerate(folders):
        metrics = pd.read_csv(folder.metrics)
        score = "accuracy" if "val_accuracy" in metrics else "r2"
        colour = f"C{number}"
        label = labels[number] if labels.count(labels[number]) == 1 else folder.path.name
        scores.add("R²" if score == "r2" else score)
        above.plot(metrics["step"], metrics[f"val_{score}"], color=colour, label=f"{label}, validation")
        above.plot(metrics["step"], metrics[f"train_{score}"], color=colour, ls=":", lw=1, label=f"{label}, training")
        middle.plot(metrics["step"], metrics["val_loss"], color=colour)
        middle.plot(metrics["step"], metrics["train_loss"], color=colour, ls=":", lw=1)
        events = [e for e in growth_events(folder) if e["units_added"]]
        # rows are written before the growth at their step: the size changes where the event says
        sizes = [metrics["parameters"].iloc[0], *(e["parameters_after"] for e in events)]
        below.step(
            [0, *(e["step"] for e in events), metrics["step"].iloc[-1]], [*sizes, sizes[-1]], color=colour, where="post"
        )
        for event in events:
            for axes in (above, middle, below):
                axes.axvline(
                    event["step"], color=colour, lw=0.8, alpha=0.5, ls="-" if event["units_added"] > 0 else ":"
                )
            below.annotate(
                event["widths_after"],
                (event["step"], event["parameters_after"]),
                xytext=(4, -12),
                textcoords="offset points",
                fontsize=7,
                color=colour,
            )
    above.set_ylabel(" or ".join(sorted(scores)))
    middle.set_ylabel("loss")
    middle.set_yscale("log")
    below.set_ylabel("parameters")
    below.set_ylim(bottom=0)
    below.set_xlabel("step (vertical lines: growth events, dotted: taken back; numbers: hidden widths)")
    figure.suptitle(" / ".join(sorted({f"{s['model']} on {s['dataset']}" for s in summaries if s})), fontsize=10)
    above.legend(fontsize=7, loc="lower right")
    for axes in (above, middle, below):
        axes.spines[["top", "right"]].set_visible(False)
    return save(figure, output)
