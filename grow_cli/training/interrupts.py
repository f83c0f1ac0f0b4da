"""Ctrl-C and SIGTERM: noted, and acted on between steps; a second one acts at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_WATCHED = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Callable: the number of the signal that has arrived, or None."""

    def __init__(self) -> None:
        self._arrived: int | None = None

    def __call__(self) -> int | None:
        return self._arrived

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Handle the signals inside the block; elsewhere than in the main thread they cannot be, and are not."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier: dict[int, Any] = {number: signal.signal(number, self._note) for number in _WATCHED}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._arrived is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._arrived = number
