"""Commands of grow in child processes, which end with their parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

_WATCH = "GROW_ENDS_WITH_STDIN"
_LOOKS = 0.5
"""Seconds between two looks at whether this process was interrupted: Ray interrupts its worker without a signal that wakes it."""


@dataclass(frozen=True)
class Ended:
    """A child that is over."""

    arguments: list[str]
    code: int
    out: str
    err: str


def run(
    commands: Sequence[list[str]],
    at_once: int,
    done: Callable[[Ended], bool | None],
    environment: Callable[[int], dict[str, str]] = lambda slot: {},
    begins: Callable[[list[str]], None] = lambda arguments: None,
) -> None:
    """Run `grow ARGUMENTS` for each, `at_once` at a time; `done` is called in this thread as each ends: True starts it again.

    `environment` gives the variables of the slot (0 to at_once - 1) that a child runs in; `begins` is called as each starts.

    A thread each waits for a child and reads what it prints, so that none blocks on a full pipe. Interrupted (by what
    Ctrl-C, SIGTERM and SIGHUP raise), the children are interrupted, too: they save, and all are waited for.
    """
    waiting, ended = list(commands), SimpleQueue[Ended]()
    running: dict[int, tuple[subprocess.Popen[str], int]] = {}
    free = list(range(at_once))

    def wait(child: subprocess.Popen[str], arguments: list[str]) -> None:
        # not communicate(): it would close the child's stdin, whose end tells the child that its parent is gone
        assert child.stdout is not None
        errors: list[str] = []
        reader = threading.Thread(
            target=lambda: errors.append(child.stderr.read() if child.stderr else ""), daemon=True
        )
        reader.start()
        out = child.stdout.read()
        reader.join()
        ended.put(Ended(arguments, child.wait(), out, errors[0]))

    try:
        while waiting or running:
            while waiting and free:
                arguments = waiting.pop(0)
                slot = free.pop(0)
                child = _begin(arguments, environment(slot))
                running[id(arguments)] = child, slot
                threading.Thread(target=wait, args=(child, arguments), daemon=True).start()
                begins(arguments)
            one = _next(ended)
            child, slot = running.pop(id(one.arguments))
            _close(child)
            free.append(slot)
            if done(one):
                waiting.append(one.arguments)
    finally:
        for child, _ in running.values():
            child.send_signal(signal.SIGINT)
        for child, _ in running.values():
            child.wait()
            _close(child)


def _next(ended: SimpleQueue[Ended]) -> Ended:
    while True:
        with contextlib.suppress(Empty):
            return ended.get(timeout=_LOOKS)


def _begin(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "grow_cli", *arguments]
    variables = os.environ | environment | {_WATCH: "1"}
    # a session of its own: a terminal's Ctrl-C, which we pass on, would come twice, and the second one ends a run unsaved
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=variables, start_new_session=True
    )


def _close(child: subprocess.Popen[str]) -> None:
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def end_with_parent() -> None:
    """In a child that `run` began: stop as on SIGTERM when the parent is gone, however it ended; and hear its SIGINT."""
    if os.environ.pop(_WATCH, None) is None:
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # which Ray blocks in all that it begins

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
