"""Whatever is typed after `grow train` ends in a run or in one sentence.

In the suite the same few are tried every time; `make fuzz` tries thousands, each in a fork (`fuzz/__main__.py`).
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz.commands import cases, typed
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from grow_cli import cli

SECONDS = 10  # of the processor's time: two steps of a small net take less than one


class Hung(Exception):
    """The command has not come back."""


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """By the processor's clock, since other work may go on beside, and ten times as long by the wall's."""

    def hung(*_: object) -> None:
        raise Hung

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, 10 * seconds))
    before = [(number, signal.signal(number, hung)) for _, number, _ in timers]
    for timer, _, limit in timers:
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer, _, _ in timers:
            signal.setitimer(timer, 0)
        for number, handler in before:
            signal.signal(number, handler)


def _check(arguments: list[str]) -> None:
    out, err = io.StringIO(), io.StringIO()
    code: Any = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _at_most(SECONDS):
        try:
            cli.main(arguments)
        except SystemExit as left:
            code = left.code
    words = err.getvalue()
    assert code in (0, 1, 2), words
    assert words.count("error:") == (code != 0), words
    for raw in ("Traceback", "Warning", "Error executing job", "HYDRA_FULL_ERROR"):
        assert raw not in words, words
    if code == 1:  # a run that failed or crashed, and says so in its folder
        assert Path("run/summary.json").exists() or "out of memory" in words, words
    assert set(os.listdir()) <= {"run"}, os.listdir()


@settings(
    max_examples=6,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # what fails is shown as it was typed
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(st.sampled_from(list(cases())), min_size=1, max_size=3))
def test_any_values_of_any_keys_end_in_a_run_or_in_one_sentence(picked: list[tuple[str, str]]) -> None:
    import torch._dynamo  # an optimizer imports it, for seconds

    assert torch._dynamo
    with pytest.MonkeyPatch.context() as patch, _empty_folder() as folder:
        patch.chdir(folder)
        patch.delenv("GROW_DEBUG", raising=False)
        _check(typed(picked))


@contextlib.contextmanager
def _empty_folder() -> Iterator[Path]:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        yield Path(folder)
