"""Signals that ask a process to end, handled for as long as something must be put in order first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from grow_cli.errors import Interrupted

TERMINATING = (signal.SIGTERM, signal.SIGHUP)
"""SIGINT is not among them: Python raises KeyboardInterrupt by itself."""


@contextmanager
def handled(handler: Callable[[int, FrameType | None], Any], *numbers: int) -> Iterator[None]:
    """Inside the block the handler is asked; SIGHUP, where it is ignored (`nohup`), stays ignored.

    Elsewhere than in the main thread signals do not arrive, and nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    earlier = {n: signal.getsignal(n) for n in numbers if not (nohup and n == signal.SIGHUP)}
    try:
        for number in earlier:
            signal.signal(number, handler)
        yield
    finally:
        for number, before in earlier.items():
            signal.signal(number, before)


def interrupt(number: int, frame: FrameType | None) -> None:
    """A handler that raises, as Python itself does for Ctrl-C: what has been begun is then ended in order."""
    raise Interrupted(number)
