"""Output while a run trains: a live display on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from grow_cli import console
from grow_cli.records.events import GrowthEvent
from grow_cli.records.words import counted, fixed
from grow_cli.tasks import task_in

_REFRESH_SECONDS = 0.25
_MEASURED = ("train_", "val_", "grid_")
# Between two lines of a run that nobody watches.
_SOON_SECONDS, _SELDOM_SECONDS = 2.0, 60.0


def _finite(total_steps: float) -> float | None:
    """As rich wants it."""
    return None if math.isinf(total_steps) else total_steps


def make_display(mode: str, title: str, folder: Path | str = "", falling: Collection[str] = ()) -> Display:
    """`auto` is live on a terminal, and a line now and then elsewhere.

    :param falling: the trigger's readings that reach their threshold from above
    """
    if mode == "off":
        return Display()
    if mode == "live" or (mode == "auto" and console.out.is_terminal):
        return WhileItLasts(lambda: LiveDisplay(title, str(folder), falling))
    return WhileItLasts(lambda: (NowAndThen if mode == "auto" else LineDisplay)(f"{title} · {folder}"))


class Display:
    """Shows nothing; the base of those that do."""

    def start(self, total_steps: float, thresholds: dict[str, float]) -> None:
        """Before the first step; the total is infinite where only seconds are limited."""

    def step(self, step: int) -> None:
        """After a step: must cost next to nothing."""

    def evaluation(self, row: dict[str, Any], thresholds: dict[str, float], closed: str) -> None:
        """After a row of metrics.csv; `closed` says why the net cannot grow any more, if it cannot."""

    def growing(self) -> None:
        """Before a growth event."""

    def growth(self, event: GrowthEvent, total_steps: float) -> None:
        """After a growth event; larger batches may have changed the number of steps."""

    def stop(self) -> None:
        """Give the terminal back."""


def growth_line(event: GrowthEvent) -> str:
    """One line, rich markup, that says what a growth event did."""
    when = f"epoch {event.epoch:.1f}, step {event.step:,}"
    if event.taken_back:
        return f"[yellow]took back[/yellow] {when}: {escape(event.reason)}, widths {event.widths_after}"
    if not event.changed:
        return f"[dim]{when}: nothing added: {escape(event.reason)}[/dim]"
    losses = f"probe loss {_loss(event.loss_before)} → {_loss(event.loss_after)}"
    if not event.units_added:
        return (
            f"[green]updated[/green] {when}: no new units, best updates at {escape('; '.join(event.updated))}, {losses}"
        )
    return (
        f"[bold green]{'pruned' if event.removed else 'grew'}[/bold green] {when}: {escape(event.places)}, "
        f"{event.parameters_before:,} → {event.parameters_after:,} parameters, widths {event.widths_after}, "
        f"{losses} → {_loss(event.loss_settled)} settled"
    )


def event_lines(events: Sequence[GrowthEvent]) -> list[str]:
    """A line each; firings in a row that added nothing for one reason are one line, the last's, with their number."""
    lines = []
    for _, alike in groupby(enumerate(events), key=lambda e: e[1].reason if _empty(e[1]) else e[0]):
        group = [event for _, event in alike]
        lines.append(growth_line(group[-1]) + (f" [dim]×{len(group)}[/dim]" if len(group) > 1 else ""))
    return lines


def _empty(event: GrowthEvent) -> bool:
    return not event.taken_back and not event.changed


def _loss(value: float | None) -> str:
    return "–" if value is None else fixed(value, 3)


class WhileItLasts(Display):
    """Wraps a display and drops it when it can no longer be written (`| head`, a full disk, a closed terminal);
    training continues."""

    def __init__(self, make: Callable[[], Display]) -> None:
        self.shown = Display()
        self._try(lambda: setattr(self, "shown", make()))

    def start(self, total_steps: float, thresholds: dict[str, float]) -> None:
        self._try(lambda: self.shown.start(total_steps, thresholds))

    def step(self, step: int) -> None:
        self._try(lambda: self.shown.step(step))

    def evaluation(self, row: dict[str, Any], thresholds: dict[str, float], closed: str) -> None:
        self._try(lambda: self.shown.evaluation(row, thresholds, closed))

    def growing(self) -> None:
        self._try(self.shown.growing)

    def growth(self, event: GrowthEvent, total_steps: float) -> None:
        self._try(lambda: self.shown.growth(event, total_steps))

    def stop(self) -> None:
        self._try(self.shown.stop)

    def _try(self, show: Callable[[], None]) -> None:
        try:
            show()
        except OSError:
            shown, self.shown = self.shown, Display()
            with contextlib.suppress(OSError):
                shown.stop()


class LineDisplay(Display):
    """A line per evaluation and per event, for logs."""

    def __init__(self, title: str) -> None:
        self._print(title)

    def evaluation(self, row: dict[str, Any], thresholds: dict[str, float], closed: str) -> None:
        words = [f"epoch {row['epoch']:.1f}", f"step {row['step']}", f"lr {row['lr']:.2g}"]
        words += [f"{k} {fixed(v, 4)}" for k, v in row.items() if k.startswith(_MEASURED) and _shown(v)]
        words += [
            f"{k.removeprefix('trigger/')} {v:.3g}" for k, v in row.items() if k.startswith("trigger/") and _shown(v)
        ]
        self._print(escape("  ".join(words)))

    def growth(self, event: GrowthEvent, total_steps: float) -> None:
        self._print(growth_line(event))

    def _print(self, line: str) -> None:
        console.out.print(line, soft_wrap=True)


class NowAndThen(LineDisplay):
    """The same for output that nobody may ever read: the first lines soon, then ever fewer, at least one each minute.

    A line is due when the time since the last is as long as all the time before it, from two seconds to a minute. An event that
    comes before that is counted, and the next line says how many there were.
    """

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(title)
        self._clock = clock
        self._begun = self._last = clock()
        self._untold: list[GrowthEvent] = []

    def evaluation(self, row: dict[str, Any], thresholds: dict[str, float], closed: str) -> None:
        if self._due():
            self._told()
            super().evaluation(row, thresholds, closed)

    def growth(self, event: GrowthEvent, total_steps: float) -> None:
        self._untold.append(event)
        if self._due():
            self._told()

    def _due(self) -> bool:
        now = self._clock()
        return now - self._last >= min(_SELDOM_SECONDS, max(_SOON_SECONDS, self._last - self._begun))

    def _told(self) -> None:
        """The events since the last line: the newest, and how many came before it."""
        self._last = self._clock()
        if self._untold:
            more = len(self._untold) - 1
            before = f" (after {counted(more, 'other event')} since the last line)" if more else ""
            self._print(growth_line(self._untold[-1]) + before)
            self._untold = []


class LiveDisplay(Display):
    """Progress bar, the last evaluations, the trigger's readings against their thresholds, the growth events."""

    def __init__(self, title: str, folder: str = "", falling: Collection[str] = ()) -> None:
        self.title, self.folder, self.falling = title, folder, falling
        self._rows: deque[dict[str, Any]] = deque(maxlen=6)
        self._events: list[GrowthEvent] = []
        self._thresholds: dict[str, float] = {}
        self._closed = ""
        self.shown_at = 0.0

    def start(self, total_steps: float, thresholds: dict[str, float]) -> None:
        self._thresholds = thresholds
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            auto_refresh=False,
            expand=True,
        )
        self._task = self._bar.add_task("training", total=_finite(total_steps))
        # refreshed by hand: a refreshing thread would take turns with the training step
        self._live = Live(self._render(), console=console.out, auto_refresh=False, transient=True)
        self._live.start()

    def step(self, step: int) -> None:
        if step % 16 == 0 and time.monotonic() - self.shown_at > _REFRESH_SECONDS:
            self._bar.update(self._task, completed=step)
            self._refresh()

    def evaluation(self, row: dict[str, Any], thresholds: dict[str, float], closed: str) -> None:
        self._thresholds, self._closed = thresholds, closed
        self._rows.append(row)
        self._bar.update(self._task, completed=row["step"])
        if time.monotonic() - self.shown_at > _REFRESH_SECONDS:
            self._refresh()

    def growing(self) -> None:
        self._bar.update(self._task, description="growing")
        self._refresh()

    def growth(self, event: GrowthEvent, total_steps: float) -> None:
        self._bar.update(self._task, description="training", total=_finite(total_steps))
        self._events.append(event)
        self._refresh()

    def stop(self) -> None:
        self._live.stop()

    def _refresh(self) -> None:
        self.shown_at = time.monotonic()
        self._live.update(self._render(), refresh=True)

    def _render(self) -> Panel:
        parts: list[Any] = [self._evaluations()]
        if self._rows and not self._narrow_widths:
            parts.append(Text(f"widths {self._rows[-1]['widths']}", overflow="fold"))
        parts.append(self._readings())
        parts += event_lines(self._events)[-5:]
        parts.append(self._bar)
        if self.folder:  # as lines: a title is cut where it is wider than the panel
            parts.append(Text(console.spelt(self.folder), style="dim", overflow="fold"))
        return Panel(Group(*parts), title=escape(console.spelt(self.title)), border_style="cyan")

    @property
    def _narrow_widths(self) -> bool:
        """Whether the widths fit a column; else they have a line of their own."""
        return all(len(str(row["widths"])) <= console.out.width // 4 for row in self._rows)

    def _evaluations(self) -> Table:
        score = task_in(self._rows[-1]).score if self._rows else "accuracy"
        table = Table(box=None, pad_edge=False, expand=True)
        names = ["epoch", "train_loss", f"train_{score}", "val_loss", f"val_{score}", "parameters", "widths", "lr"]
        if console.out.width < 90:
            names = ["epoch", "val_loss", f"val_{score}", "widths"]
        if not self._narrow_widths:
            names.remove("widths")
        for name in names:
            table.add_column(name.replace("_", " "), justify="right", overflow="fold")
        for row in self._rows:
            table.add_row(*(_cell(name, row[name]) for name in names))
        return table

    def _readings(self) -> Text:
        text = Text()
        row = self._rows[-1] if self._rows else {}
        for key, value in row.items():
            if not key.startswith("trigger/") or not _shown(value):
                continue
            name = key.removeprefix("trigger/")
            limit = self._thresholds.get(name)
            reached = limit is not None and (value <= limit if name in self.falling else value >= limit)
            text.append(f"{name.replace('_', ' ')} ")
            text.append(f"{value:.3g}", style="bold yellow" if reached else "bold")
            text.append(f" / {limit:g}   " if limit is not None else "   ", style="dim")
        if text and self._closed:
            text.append(f"no more growth: {self._closed}", style="dim")
        return text


def _shown(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)


def _cell(name: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return escape(str(value))
    if name.startswith(_MEASURED):
        return fixed(value, 4)
    return {"epoch": f"{value:.1f}", "lr": f"{value:.2g}"}.get(name, f"{value:,}")
