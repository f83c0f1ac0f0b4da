"""Ctrl-C, SIGTERM and SIGHUP: noted, and handled between steps; a second one acts immediately.

SIGUSR2, too, by which Slurm says that the time is nearly over: it hurries nothing, however often and after whatever it comes.

A launcher of several processes passes on what each of them may have received itself (Ctrl-C, a scheduler's signal to all that it
began): `repeats_for` is how long a second one there is the first.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from grow_cli.errors import Interrupted
from grow_cli.signals import handled


class Interrupts:
    """Callable: the number of the signal that has arrived, or None."""

    def __init__(self) -> None:
        self.repeats_for = 0.0
        """Seconds."""
        self._arrived: int | None = None
        self._arrived_at = 0.0
        self._hurried = False

    def __call__(self) -> int | None:
        return self._arrived

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Handle the signals inside the block."""
        with handled(self._note, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
            yield

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR2:
            self._arrived = self._arrived or number
            return
        asked = self._arrived not in (None, signal.SIGUSR2)
        if asked and time.monotonic() - self._arrived_at < self.repeats_for:
            return
        if self._hurried:  # a third: whatever the second one has to put in order takes too long
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if asked:
            self._hurried = True
            raise Interrupted(number)
        self._arrived, self._arrived_at = number, time.monotonic()
