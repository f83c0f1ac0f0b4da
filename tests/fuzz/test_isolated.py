"""The fuzzer sees what it is there to see: each kind of fault, made on purpose."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz import isolated
from fuzz.isolated import Command, Ended, call


def _ended(act: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Ended]:
    """Of two commands, of which the first does this in its working directory and the second nothing."""
    commands = [Command([name], tmp_path / name, "run") for name in ("first", "second")]
    for command in commands:
        command.work.mkdir(parents=True)

    def grow(arguments: list[str]) -> int:
        if arguments == ["first"]:
            act(Path.cwd())
        return 0

    monkeypatch.setattr(isolated, "_grow", grow)
    monkeypatch.setattr(isolated, "SECONDS", 0)
    return call(commands)


@pytest.mark.parametrize(
    ("act", "wrong"),
    [
        (lambda here: (here / "run").mkdir(), ""),
        (lambda here: (here / "other").mkdir(), "writes elsewhere"),
        (lambda here: (here.parent / "home" / "x").write_text("x"), "writes elsewhere"),
        (lambda here: os.write(2, b"some/module.py:3: UserWarning: old\n"), "raw words"),
        (lambda here: os.kill(os.getpid(), signal.SIGSEGV), "killed by SIGSEGV"),
        (lambda here: [None for _ in iter(int, 1)], "hangs"),
    ],
)
def test_each_kind_of_fault_is_seen_and_spoils_no_other_case(
    act: Callable[[Path], object], wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _ended(act, tmp_path, monkeypatch)
    assert first.wrong().startswith(wrong) if wrong else not first.wrong(), first
    assert not second.wrong(), second


def test_two_faults_of_one_kind_read_alike() -> None:
    words = (
        f"Traceback (most recent call last):\n  File \"/x/grow_cli/run.py\", line 3, in f\nValueError: {n} is no '{n}'\n"
        for n in (1, 22)
    )
    assert {Ended(1, "", text).wrong() for text in words} == {"traceback: grow_cli/run.py:3: ValueError: # is no '…'"}


def test_a_mistake_that_is_answered_in_one_sentence_is_no_fault() -> None:
    assert not Ended(2, "", "warning: a\nerror: seed=-1: must be 0 or more\n").wrong()
    assert Ended(2, "", "").wrong()
    assert Ended(3, "", "error: x\n").wrong()
