"""What `sweep=local` and `sweep=ray` show meanwhile: a table kept up to date in a terminal, a line per change elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from grow_cli import console
from grow_cli.analysis.summary import in_a_line
from grow_cli.analysis.sweeps import STATES, JobState, expected_end, head, used
from grow_cli.config import Stop
from grow_cli.records.words import counted

if TYPE_CHECKING:
    from grow_cli.commands.sweep import Job

_PER_SECOND = 4
# became (a key of COUNTED, or `again`) → the job's state
_STATE = {"trained": "finished", "resumed": "finished", "skipped": "finished", "busy": "running", "again": "queued"}
# which jobs are shown where there is no room for all
_FIRST = ("running", "failed", "crashed", "interrupted", "finished", "queued")


@dataclass
class _Row:
    job: Job
    state: str = "queued"
    words: str = ""
    """What is known of it besides, of one that is not running."""
    changed: float = 0.0

    @property
    def name(self) -> str:
        return self.job.told or self.job.folder.path.name

    @property
    def limits(self) -> dict[str, float | None]:
        return {f"stop.{name}": getattr(self.job.config.stop, name) for name in Stop.BUDGETS}


class Board:
    """The jobs of a sweep while they are trained; a context, in which a terminal shows the table."""

    def __init__(self, jobs: Sequence[Job], at_once: int) -> None:
        self.rows = {str(job.folder.path): _Row(job) for job in jobs}
        self._begun = time.time()
        self._over = 0
        self._live = _Live(
            console=console.out, get_renderable=self.table, refresh_per_second=_PER_SECOND, transient=True
        )
        console.say(f"{counted(len(jobs), 'job')}, {at_once} at a time")

    def __enter__(self) -> None:
        if console.out.is_terminal:
            self._live.start(refresh=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def begins(self, path: str) -> None:
        """A process trains the job in this folder."""
        self._set(path, "running", "")

    def ended(self, job: Job, became: str, sentence: str) -> None:
        """It is over; `became` is a key of COUNTED, or `again`."""
        self._over += became != "again"
        told = {"again": "goes on again"}.get(became, became)
        well = _STATE.get(became) == "finished"
        words = in_a_line(job.folder, job.folder.read_summary()) if well else sentence
        self._set(str(job.folder.path), _STATE.get(became, became), words)
        if console.out.is_terminal and well:
            return  # it is in the table
        row = self.rows[str(job.folder.path)]
        line = f"job {self._over} of {len(self.rows)}: {row.name}: {told}"
        console.line(line + (f", {words}" if well else f" ({words})" if words else ""))

    def table(self) -> Group:
        """As it is now: at most as many lines as the terminal has."""
        running = {
            path: JobState(row.job.folder, row.job.told, "running")
            for path, row in list(self.rows.items())
            if row.state == "running"
        }
        found = Counter(row.state for row in self.rows.values())
        parts = sum(used(now.run.last, self.rows[path].limits) for path, now in running.items())
        end = expected_end(self._begun, time.time(), self._over + parts, len(self.rows) - self._over - parts)
        table = Table(box=None, pad_edge=False, show_header=False)
        longest = max(len(row.name) for row in self.rows.values())
        for width in (max(map(len, STATES)), min(longest, console.out.width // 2), None):
            table.add_column(no_wrap=True, overflow="ellipsis", min_width=width, ratio=None if width else 1)
        room = max(1, console.out.height - 2)  # the counts stand above, the cursor below
        shown = self._chosen(room)
        for path in shown:
            row = self.rows[path]
            words = running[path].reached if path in running else row.words
            table.add_row(row.state, escape(row.name), escape(words.partition("\n")[0]))
        hidden = len(self.rows) - len(shown)
        return Group(
            Text(head({state: found[state] for state in STATES}, end), no_wrap=True, overflow="ellipsis"),
            *([table] if shown else []),
            *([f"and {hidden:,} more"] if hidden else []),
        )

    def _chosen(self, room: int) -> list[str]:
        """The folders of the jobs that are shown: all in their order, or the most telling."""
        if len(self.rows) <= room:
            return list(self.rows)
        order = sorted(self.rows, key=lambda path: (_FIRST.index(self.rows[path].state), -self.rows[path].changed))
        return order[: room - 1]

    def _set(self, path: str, state: str, words: str) -> None:
        row = self.rows[path]
        row.state, row.words, row.changed = state, words, time.monotonic()


class _Live(Live):
    """Nothing ends because a terminal does."""

    def refresh(self) -> None:
        with console.whatever_happens_to_the_terminal():
            super().refresh()
