"""The step as one CUDA graph: a small net's kernels take less time than Python takes to start them.

The step of a small net is a hundred kernels of some microseconds each. Recorded once after each growth event and then replayed,
they cost one launch. A replay computes what was recorded, with the tensors that were recorded: so the batch is copied into
fixed tensors, the rate is a tensor, and nothing that Python decides anew at each step may be part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from grow_cli.console import warn
from grow_cli.errors import TrainingFailed, UserError
from grow_cli.methods.base import Method
from grow_cli.training.step import Step

if TYPE_CHECKING:
    from grow_cli.training.session import Session

Outputs = tuple[Tensor, Tensor]
WARM_UP = 3
"""Steps that run as usual before one is recorded: the optimizer makes its moments then, and cuDNN chooses its kernels."""


class Recorder(Protocol):
    """Records work on a device."""

    def warm_up(self, work: Callable[[], Outputs]) -> Outputs:
        """Do the work where it will be recorded."""

    def record(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        """The tensors that will hold its results, and what does it once more, which only then fills them."""


class CudaGraphs:
    """CUDA's own, on a stream of its own, as capturing demands."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def warm_up(self, work: Callable[[], Outputs]) -> Outputs:
        usual = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            done = work()
        usual.wait_stream(self._stream)
        return done

    def record(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        graph, device = torch.cuda.CUDAGraph(), self._device
        # What is recorded waits for the current device, which may be another job's, and where it fails it leaves its own stream
        # the current one. thread_local: another thread may fetch a batch from a file and pin its memory meanwhile.
        with (
            torch.cuda.device(device),
            torch.cuda.stream(torch.cuda.current_stream(device)),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            done = work()
        return done, graph.replay


class ReplayedStep:
    """A step, recorded after it ran a few times and replayed from then on; one for all the nets that a run grows to."""

    def __init__(self, session: Session, recorder: Recorder) -> None:
        self._session, self._recorder = session, recorder
        self._by_loss = session.task.of_loss(0.0) is not None
        self._refused = False

    def over(self, step: Step) -> ReplayedStep:
        """The same for another step, of `make_step`."""
        self._step, self._groups = step, self._session.optimizer.param_groups
        self._known = [float(group["lr"]) for group in self._groups]
        self._rates = [torch.tensor(rate, device=self._session.device) for rate in self._known]
        self.forget()
        return self

    def forget(self) -> None:
        """Record anew, and give the recording's memory back: an event may replace what it reads, the optimizer's moments, too."""
        self._warm = 0
        self._recording: tuple[Outputs, Outputs, Callable[[], None]] | None = None

    def __call__(self, x: Tensor, y: Tensor) -> Outputs:
        """One step; never waits for the device but where it records."""
        self._follow_rates()
        if self._warm < WARM_UP:
            self._warm += 1
            return self._recorder.warm_up(lambda: self._with_tensor_rates(x, y))
        if self._recording is None and not self._refused:
            self._record(x, y)
        if self._recording is None:
            return self._with_tensor_rates(x, y)
        batch, (loss, outputs), replay = self._recording
        for fixed, new in zip(batch, (x, y), strict=True):
            fixed.copy_(new)
        replay()
        # outputs over a vocabulary are large, and nobody reads them
        return loss.clone(), (outputs[:0] if self._by_loss else outputs).clone()

    def _follow_rates(self) -> None:
        for i, group in enumerate(self._groups):
            if group["lr"] != self._known[i]:
                self._known[i] = group["lr"]
                self._rates[i].fill_(group["lr"])

    def _with_tensor_rates(self, x: Tensor, y: Tensor) -> Outputs:
        """The step with rates that are read on the device: before the recording, too, so that a resumed run rounds alike."""
        with self._groups_with({"lr": self._rates}):
            return self._step(x, y)

    def _record(self, x: Tensor, y: Tensor) -> None:
        batch = (x.clone(), y.clone())
        try:
            with self._groups_with({"lr": self._rates, "capturable": [True] * len(self._groups)}):
                done, replay = self._recorder.record(lambda: self._step(*batch))
        except (RuntimeError, AssertionError) as error:
            self._give_up(error)
        else:
            self._recording = batch, done, replay

    def _give_up(self, error: Exception) -> None:
        """From now on the step as it is; TrainingFailed with graph=always."""
        cause = error.__context__ or error  # of several errors, the first says what was wrong
        why = (str(cause).splitlines() or [type(cause).__name__])[0]
        if self._session.config.graph == "always":
            raise TrainingFailed(
                f"graph=always: the training step cannot be recorded as a CUDA graph ({why})"
            ) from error
        warn(
            f"graph=auto: the training step cannot be recorded as a CUDA graph ({why}): it runs one operation after the other; "
            "graph=never leaves the attempt out"
        )
        self._session.optimizer.zero_grad()
        self._refused = True

    @contextmanager
    def _groups_with(self, settings: dict[str, list[Tensor] | list[bool]]) -> Iterator[None]:
        """The optimizer's groups with other settings, where they have such; checkpoints and tables know plain numbers alone."""
        before = [dict(group) for group in self._groups]
        for name, values in settings.items():
            for group, value in zip(self._groups, values, strict=True):
                if name in group:
                    group[name] = value
        try:
            yield
        finally:
            for group, earlier in zip(self._groups, before, strict=True):
                group.update({name: earlier[name] for name in settings if name in earlier})


def replayed(session: Session) -> ReplayedStep | None:
    """What replays this run's steps as a CUDA graph, where the config wants that and they can be; UserError where they must be
    and cannot."""
    wanted = session.config.graph
    why_not = cannot_replay(session)
    if wanted == "always" and why_not:
        raise UserError(f"graph=always: {why_not}: use graph=auto")
    return None if wanted == "never" or why_not else ReplayedStep(session, CudaGraphs(session.device))


def cannot_replay(session: Session) -> str:
    """Why the step must be run one operation after the other; empty where it can be replayed."""
    config, method = session.config, session.method
    if session.device.type != "cuda":
        return f"device={session.device.type} has no CUDA graphs"
    if config.compile:
        return "compile=true makes a program of its own of the step"
    if config.precision == "fp64":
        return "precision=fp64 has rates in float64, which a recorded step reads in float32"
    if not config.optimizer.replayable:
        return f"optimizer={config.optimizer.name} may decide in Python at each step"
    if not config.model.replayable:
        return f"model={config.model.name} may decide in Python at each step"
    if not method.trains_by_gradient:
        return f"method={config.method.name} does not train by gradient steps"
    if type(method).regularizer is not Method.regularizer and not method.replayable_regularizer:
        return f"method={config.method.name} has a regularizer that may change from step to step"
    return ""
