"""A comparison shown on the terminal, and written as Markdown, CSV and pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from grow_cli import console
from grow_cli.analysis.comparison import Comparison
from grow_cli.analysis.figures import empty, save
from grow_cli.analysis.notes import one_split
from grow_cli.analysis.reaching import COSTS, medians_table, sooner_table
from grow_cli.analysis.rows import rows_of_tests
from grow_cli.analysis.verdicts import ALPHA
from grow_cli.analysis.ways import Way
from grow_cli.errors import UserError
from grow_cli.files import write_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Points along the cost at which runs are averaged.
_GRID = 300


def show(comparisons: list[Comparison]) -> None:
    """The tables of every dataset."""
    for comparison in comparisons:
        for caution in comparison.cautions:
            console.out.print(f"[yellow]Careful:[/yellow] {escape(caution)}")
        for title, frame in _frames(comparison):
            for part, of in enumerate(_parts(frame)):
                show_frame(title if part == 0 else f"{comparison.title}: what it cost", of)
        for note in comparison.notes:
            console.out.print(f"[dim]{escape(note)}[/dim]")
        console.out.print()


def show_frame(title: str, frame: pd.DataFrame) -> None:
    """A table of text, cut into several where the terminal is narrow."""
    for more, fitting in enumerate(_fitting(frame, console.out.width) if len(frame) else []):
        console.out.print(_table(f"{title}, continued" if more else title, fitting))


def _frames(comparison: Comparison) -> list[tuple[str, pd.DataFrame]]:
    kind = comparison.kind
    scale = " (percentage points)" if comparison.task.percent else ""
    frames = [
        (f"{comparison.title}: {kind}, mean ± standard deviation over seeds", comparison.table),
        (
            f"Differences of {kind}{scale}{', on one split of the data' if one_split(comparison.ways) else ''}",
            comparison.tests,
        ),
        ("Anytime: mean of the best validation score so far, against", comparison.anytime),
    ]
    if comparison.to is not None:
        frames.append((f"What it cost until the validation score was {comparison.to:g}", comparison.reaching))
        frames.append(
            (
                "Median cost over all seeds; a run that missed the target counts as infinite",
                medians_table(comparison.numbers),
            )
        )
        frames.append(("Who reaches it sooner, one-sided", sooner_table(comparison.sooner)))
    if comparison.decisions is not None:
        frames.append((f"Seed by seed: verdicts that hold whenever one stops (level {ALPHA:g})", comparison.deciding))
    return frames


def _parts(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """What fits a terminal side by side: the columns from FLOPs on are a table of their own."""
    if not len(frame):
        return []
    same = "n" in frame and frame["n"].nunique() == 1  # the notes tell how many
    columns = [c for c in frame.columns if c != "bootstrap" and not (c == "n" and same)]
    if "FLOPs/sample" not in columns:
        return [frame[columns]]
    first = columns.index("FLOPs/sample")
    costs = [c for c in columns[first:] if c != "front"]
    return [frame[[*columns[:first], "front"]], frame[[columns[0], *costs]]]


def _fitting(frame: pd.DataFrame, width: int) -> list[pd.DataFrame]:
    """Tables below each other that fit a narrow terminal, each with the first column: figures are never cut, it may be folded."""
    sizes = [max([len(name.strip()), *(len(str(cell)) for cell in frame[name])]) + 3 for name in frame.columns]
    room = width - min(sizes[0], max(8, width // 5))
    parts: list[list[str]] = []
    used = 0
    for name, size in zip(frame.columns[1:], sizes[1:], strict=True):
        if not parts or used + size > room:
            parts.append([])
            used = 0
        parts[-1].append(name)
        used += size
    return [frame[[frame.columns[0], *names]] for names in parts]


def _table(title: str, frame: pd.DataFrame) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(frame.columns):
        table.add_column(name.strip(), justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    above = ""
    for row in frame.itertuples(index=False):
        first, *others = map(str, row)
        way, _, control = first.partition(" · ")
        if control and way == above:  # below its run, whose name need not be said again
            first = f" {control}"
        above = way
        table.add_row(*map(escape, [first, *others]))
    return table


def markdown(comparisons: list[Comparison], command: str, pictures: bool = True) -> str:
    """All tables and notes; the pictures are named if they lie beside it."""
    parts = ["# Comparison", f"Made by `{command}`."]
    for number, comparison in enumerate(comparisons):
        parts += [f"**Careful:** {caution}" for caution in comparison.cautions]
        for title, frame in _frames(comparison):
            if len(frame):
                parts += [f"## {title}", markdown_table(frame)]
        parts += comparison.notes
        if pictures:
            parts += [f"![{name}]({name}{_suffix(number)}.png)" for name in ("anytime", "fronts")]
    return "\n\n".join(parts) + "\n"


def markdown_table(frame: pd.DataFrame) -> str:
    """A table of text."""

    def cells(row: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"

    lines = [cells([c.strip() for c in frame.columns]), cells(["---", *["---:"] * (len(frame.columns) - 1)])]
    return "\n".join(lines + [cells([str(c) for c in row]) for row in frame.itertuples(index=False)])


def write(comparisons: list[Comparison], folder: Path, command: str) -> list[Path]:
    """compare.md, compare.csv, compare_tests.csv and the pictures; UserError where they cannot be written."""
    numbers = pd.concat([c.numbers.assign(dataset=c.title, metric=c.metric) for c in comparisons])
    tests = pd.DataFrame([row for c in comparisons for row in rows_of_tests(c)])
    texts = {
        "compare.md": markdown(comparisons, command),
        "compare.csv": numbers.to_csv(index=False),
        "compare_tests.csv": tests.to_csv(index=False),
    }
    written = write_into(folder, texts)
    for number, comparison in enumerate(comparisons):
        written.append(draw_anytime(comparison, folder / f"anytime{_suffix(number)}.png"))
        written.append(draw_fronts(comparison, folder / f"fronts{_suffix(number)}.png"))
    return written


def write_into(folder: Path, texts: dict[str, str]) -> list[Path]:
    """The files, written by name into a folder, which is made; UserError where they cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_texts(folder, texts)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): choose another with -o FOLDER") from error
    return [folder / name for name in texts]


def _suffix(number: int) -> str:
    return "" if number == 0 else f"_{number + 1}"


def mean_curve(runs: list[tuple[list[float], list[float]]], grid: np.ndarray) -> np.ndarray:
    """Mean over runs of curves of steps, at the grid's costs."""
    return np.mean([np.asarray(ys)[np.searchsorted(xs, grid, side="right") - 1] for xs, ys in runs], axis=0)


def draw_anytime(comparison: Comparison, output: Path) -> Path:
    """The best validation score so far against each cost, a line per way: a colour for a grown way and its controls, or
    for each control where one way has grown."""
    figure = empty(11, 8)
    for axes, cost in zip(figure.subplots(2, 2).flat, COSTS, strict=True):
        _draw_curves(comparison, cost, axes)
    _legend(comparison, figure, lines=True)
    figure.suptitle(f"{comparison.title}: best validation score so far, mean over seeds", fontsize=11)
    return save(figure, output)


def _draw_curves(comparison: Comparison, cost: str, axes: Axes) -> None:
    curves = comparison.curves[cost]
    ends = [xs[-1] for runs in curves.values() for xs, _ in runs]
    firsts = [xs[1] for runs in curves.values() for xs, _ in runs if len(xs) > 1]
    grid = np.geomspace(max(min(firsts, default=1), 1e-9), max(ends), _GRID)
    means: list[np.ndarray] = []
    for way in comparison.ways:
        look = _look(comparison, way)
        means.append(mean_curve(curves[way.label], grid))
        axes.plot(grid, means[-1], color=look.colour, lw=look.width, ls=look.dash)
    finals = [float(np.mean([ys[-1] for _, ys in runs])) for runs in curves.values()]
    low, high = min(finals), max(finals)
    margin = max(0.1 * abs(high), 2 * (high - low))
    sign = comparison.task.direction  # where curves come from there must be room
    worst = low - margin if sign > 0 else high + margin
    axes.set_ylim(*((worst, high + 0.15 * margin) if sign > 0 else (low - 0.15 * margin, worst)))
    _log_scale(axes)
    seen_from = min(grid[np.argmax(sign * mean >= sign * worst)] for mean in means)
    axes.set_xlim(left=0.9 * seen_from)
    axes.set_xlabel(cost)
    axes.set_ylabel(f"validation {comparison.task.words}")
    axes.spines[["top", "right"]].set_visible(False)


# of controls, in the order in which their kinds come
_DASHES = ("--", ":", "-.", (0, (9, 3)), (0, (6, 1, 1, 1, 1, 1)))
_MARKERS = ("s", "^", "v", "D", "x")


@dataclass(frozen=True)
class _Look:
    """Of a way, and of a kind of control in the legend."""

    colour: str
    width: float = 1.8
    dash: Any = "-"
    marker: str = "o"


def _kinds(comparison: Comparison) -> dict[str, _Look]:
    """Kind of control → its look in the legend, in the order in which they come."""
    kinds = dict.fromkeys(way.control for way in comparison.ways if way.control)
    alone = len(_grown(comparison)) == 1
    return {
        kind: _Look(f"C{1 + number % 5}" if alone else "dimgrey", 0.9, _DASHES[number % 5], _MARKERS[number % 5])
        for number, kind in enumerate(kinds)
    }


def _grown(comparison: Comparison) -> list[str]:
    return [way.label for way in comparison.ways if way.control is None]


def _look(comparison: Comparison, way: Way) -> _Look:
    """The colour of the grown way that it belongs to; where there is but one, each kind of control has its own."""
    grown = _grown(comparison)
    colour = f"C{grown.index(way.source) % 10}" if way.source in grown else "grey"
    if way.control is None:
        return _Look(colour)
    of_kind = _kinds(comparison)[way.control]
    return of_kind if len(grown) == 1 else replace(of_kind, colour=colour)


def _legend(comparison: Comparison, figure: Figure, *, lines: bool) -> None:
    from matplotlib.lines import Line2D

    told = [(literal(w.label), _look(comparison, w)) for w in comparison.ways if w.control is None]
    told += [(f"its control {kind}", look) for kind, look in _kinds(comparison).items()]
    entries = []
    for label, look in told:
        style: dict[str, Any] = {"lw": look.width, "ls": look.dash} if lines else {"lw": 0, "marker": look.marker}
        entries.append(Line2D([], [], color=look.colour, label=label, **style))
    figure.legend(handles=entries, loc="outside lower center", ncols=4, fontsize=8, frameon=False)


def _log_scale(axes: Axes) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())


def literal(label: str) -> str:
    """Literal text: not read as mathematics, and not hidden because of a leading underscore."""
    return "\u200b" + label.replace("$", r"\$")


def draw_fronts(comparison: Comparison, output: Path) -> Path:
    """The score against parameters and training FLOPs, with the Pareto front."""
    figure = empty(11, 5)
    n = comparison.numbers.set_index("way")
    for axes, (name, key, label) in zip(
        figure.subplots(1, 2),
        [("parameters", "parameters", "parameters"), ("flops", "training_flops", "training FLOPs")],
        strict=True,
    ):
        for way in comparison.ways:
            row, look = n.loc[way.label], _look(comparison, way)
            axes.errorbar(
                row[key],
                row["mean"],
                yerr=None if np.isnan(row["sd"]) else row["sd"],
                fmt=look.marker,
                color=look.colour,
                mfc=look.colour if way.control is None else "white",
                capsize=2,
                elinewidth=0.8,
            )
        on = n[n[f"front_{name}"]].sort_values(key)
        axes.plot(on[key], on["mean"], color="black", lw=0.8, ls=":", drawstyle="steps-post", zorder=0)
        _log_scale(axes)
        axes.set_xlabel(f"{label} (dotted: Pareto front)")
        axes.set_ylabel(comparison.kind)
        axes.spines[["top", "right"]].set_visible(False)
    _legend(comparison, figure, lines=False)
    figure.suptitle(f"{comparison.title}: mean ± standard deviation over seeds", fontsize=11)
    return save(figure, output)
