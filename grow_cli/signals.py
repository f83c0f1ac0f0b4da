"""Signals that ask a process to end, handled while something must be cleaned up first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from grow_cli.errors import Interrupted

TERMINATING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
"""SIGINT is not among them: Python raises KeyboardInterrupt by itself. SIGUSR2 is how Slurm says that the time is nearly over."""


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
    if signal.getsignal(signal.SIGUSR2) is interrupt:  # it hurries nothing: what is put in order now is let be
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    raise Interrupted(number)


@contextmanager
def told_through() -> Iterator[None]:
    """An error that came of a signal is the signal's: a library's `finally` may fail at what was left half done, and its error
    hides the exception that the signal raised."""
    try:
        yield
    except Exception as error:
        number = _behind(error)
        if number is None:
            raise
        raise Interrupted(number) from error


def _behind(error: BaseException) -> int | None:
    earlier = error.__cause__ or error.__context__
    while earlier is not None:
        if isinstance(earlier, Interrupted):
            return earlier.signal_number
        if isinstance(earlier, KeyboardInterrupt):
            return signal.SIGINT
        earlier = earlier.__cause__ or earlier.__context__
    return None
