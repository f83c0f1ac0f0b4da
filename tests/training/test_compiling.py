"""`compile=true`: how often the step is compiled, and whose time that is."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

HOUR = 3600.0
"""What a compilation takes here; nothing else takes any time."""


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """Everything that is compiled, by a backend that leaves the graph as it is."""
    seen: list[torch.fx.GraphModule] = []
    now = [0.0]

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        seen.append(graph)
        now[0] += HOUR
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return seen


def test_a_step_is_compiled_once_at_the_start_and_once_after_each_event_however_long_it_warms_up(
    make: Any, compiled: list[torch.fx.GraphModule]
) -> None:
    plain, loop = (make("method=copy", "method.thaw_steps=4", f"compile={option}") for option in ("false", "true"))
    for one in (plain, loop):
        one.display.start(100, {})
        one._train_until(5)
    assert len(compiled) == 1
    for events in (1, 2):
        for one in (plain, loop):
            one._grow()
            assert one.session.progress.events == events
            one._train_until(5 + 3 * events)
        assert len(compiled) == 1 + events
    for a, b in zip(plain.session.model.parameters(), loop.session.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_compiling_counts_as_compile_seconds_and_not_as_seconds(
    make: Any, compiled: list[torch.fx.GraphModule]
) -> None:
    loop = make("method=static", "compile=true")
    loop.display.start(100, {})
    loop._train_until(5)
    assert len(compiled) == 1
    progress = loop.session.progress
    assert (progress.seconds, progress.compile_seconds) == (0, HOUR)
    loop._model_changed()
    loop._train_until(10)
    assert (progress.seconds, progress.compile_seconds) == (0, 2 * HOUR)


def test_a_limit_in_seconds_is_not_spent_on_compiling(make: Any, compiled: list[torch.fx.GraphModule]) -> None:
    loop = make("method=static", "compile=true", "stop.epochs=null", "stop.seconds=9")
    loop.display.start(100, {})
    loop._train_until(2)
    assert loop.session.progress.step == 2
    assert loop.session.progress.compile_seconds == HOUR
