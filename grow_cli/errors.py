"""Errors for people: one sentence with the cause and the remedy."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user's: the command prints the sentence, without a traceback, and exits with 2."""


class TrainingFailed(Exception):
    """Training went wrong by itself (the loss is NaN, say) and would again: status `failed`, exit code 1."""


class Crashed(TrainingFailed):
    """The machine ended the run (a full disk, no memory left): status `crashed`, exit code 1.

    Not the run's fault: it can be resumed, and a sweep typed again tries it again.
    """


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP arrived; the run can be resumed. `signal_number` decides the exit code.

    Like KeyboardInterrupt no `Exception`: whoever runs jobs one after another must stop, not continue the next.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}")
        self.signal_number = signal_number


class Paused(Exception):
    """A run stopped where `pause_at` asked it to; it is saved and can be resumed. No error."""

    def __init__(self, flops: float) -> None:
        super().__init__(f"set aside after {flops:.3g} FLOPs")


def first_line(error: BaseException) -> str:
    """The first line of the error's message; its type where there is none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def check(condition: bool, sentence: str) -> None:
    """Raise `ValueError(sentence)` unless the condition holds: the range checks of `__post_init__`."""
    if not condition:
        raise ValueError(sentence)
