"""Runs on the simulated GPU, whose calls and waits are counted by phase: step, event, evaluation, and the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from simulated.device import SimulatedGpu, simulated_gpu

from grow_cli.data.batches import Batches
from grow_cli.training.loop import Loop

PHASES = {"_train_until": "steps", "_evaluate": "evaluation", "_grow": "event", "save": "checkpoint"}


class Watched:
    """The simulated GPU, and what was counted in each growth event."""

    def __init__(self, gpu: SimulatedGpu) -> None:
        self.gpu = gpu
        self.steps = 0
        self.events: list[str] = []
        """The phase of each event, in their order."""

    def waits(self) -> list[int]:
        """Of each event."""
        return [self.gpu.waits_in(event) for event in self.events]

    def calls(self) -> list[int]:
        """Operator calls of each event."""
        return [self.gpu.calls[event] for event in self.events]

    def in_phase(self, real: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def watched(loop: Loop, *args: Any, **kwargs: Any) -> Any:
            before, self.gpu.phase = self.gpu.phase, phase
            if phase == "event":
                self.gpu.phase = f"event {len(self.events) + 1}"
                self.events.append(self.gpu.phase)
            try:
                return real(loop, *args, **kwargs)
            finally:
                self.gpu.phase = before

        return watched

    def counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(batches: Batches) -> Any:
            self.steps += 1
            return real(batches)

        return watched


@contextmanager
def watched_gpu() -> Iterator[Watched]:
    """cuda:0 is simulated, and each phase of a run is counted apart."""
    with simulated_gpu() as gpu, ExitStack() as stack:
        watched = Watched(gpu)
        for name, phase in PHASES.items():
            stack.enter_context(patch.object(Loop, name, watched.in_phase(getattr(Loop, name), phase)))
        stack.enter_context(patch.object(Batches, "next", watched.counting(Batches.next)))
        yield watched
