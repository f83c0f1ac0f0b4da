"""A logger whose server may be slow or hang: a thread sends to it, and training does not wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import ClassVar

from grow_cli.console import warn
from grow_cli.loggers.base import Remote

_LOOKS = 0.05  # seconds between two looks at whether the thread gets on


class Patient(Remote):
    """Sends in the order in which it received; at the end of the run it waits as long as the server makes progress."""

    patience: ClassVar[float] = 30.0
    """Seconds without progress after which the remaining messages are dropped."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._waiting: SimpleQueue[tuple[Callable[[], None], dict[str, int]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._tell, name=f"logger={self.name}", daemon=True)
        self._given, self._done, self._moved = 0, 0, time.monotonic()

    def _try(self, send: Callable[[], None], **known: int) -> None:
        if not self._given:
            self._thread.start()
        self._given += 1
        self._waiting.put((send, known))

    def _tell(self) -> None:
        while (wanted := self._waiting.get()) is not None:
            send, known = wanted
            super()._try(send, **known)
            self._done += 1
            self._moved = time.monotonic()

    def close(self) -> None:
        self._try(self.finish)
        self._waiting.put(None)
        self._moved = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - self._moved < self.patience:
            self._thread.join(_LOOKS)
        if self._thread.is_alive():
            self._lost = True
            warn(
                f"logger={self.name} has not answered for {self.patience:g} seconds: {self._given - self._done} of "
                f"{self._given} messages have not arrived; metrics.csv has every row"
            )
