"""`sweep=ray`: a sweep's jobs as tasks of Ray, on this machine or on the nodes of a running cluster.

As of `sweep=local`, the jobs' folders are claimed when Hydra has composed them, and each is then trained by `grow resume`, in a
process that a task begins, on whichever node has room. A process ends with its task, however that ends; a task that is
lost, with its worker or with its node, is begun again and goes on from the last checkpoint. The folders, the data and an
installed grow must be where every node can read them.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from grow_cli import console
from grow_cli.analysis.listed import locked
from grow_cli.commands import children, local
from grow_cli.commands.board import Board
from grow_cli.errors import UserError
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import counted
from grow_cli.signals import TERMINATING

if TYPE_CHECKING:
    from grow_cli.commands.sweep import Job
    from grow_cli.config import Sweep

_STORE = 100 * 2**20
"""Bytes of Ray's object store, where we start Ray: tasks are given a path, and return what a job printed."""
_PAUSE = 0.2
"""Seconds between two looks at which tasks have ended."""
_SAVING = 60.0
"""Seconds that a process has to save in."""


def refuse_without_ray(arguments: Sequence[str]) -> None:
    """UserError where Ray is asked for and not installed."""
    for word in arguments:
        if word in ("sweep=ray", "sweep.engine=ray") and find_spec("ray") is None:
            raise UserError(f"{word} needs a package that is not installed: pip install 'grow-cli[ray]'")


def train(jobs: Sequence[Job], note: Callable[[Job, str, str], None], config: Sweep) -> None:
    """All of them; `note` is told what became of each (a key of COUNTED), and why where that is not plain."""
    refuse_without_ray(["sweep.engine=ray"])
    with _cluster(config.address) as ray:
        wants = wanted(config, _nodes(ray), cuda=all(job.config.device in ("auto", "cuda") for job in jobs))
        room = room_for(wants, _nodes(ray))
        if not room:
            told = ", ".join(f"{amount:g} {name}" for name, amount in wants.items() if amount)
            console.warn(f"no node of the cluster has what a job asks for ({told}): all wait until one joins it")
        board = Board(jobs, min(len(jobs), config.jobs or room or 1))
        closed = local.closing(board, note, config.retries)
        _Following(ray, _task(ray, wants), wants, config.jobs, board, closed, list(jobs)).to_the_end()


def wanted(config: Sweep, nodes: Sequence[dict[str, float]], *, cuda: bool) -> dict[str, float]:
    """What a job is given of a node's resources, by Ray's names for them.

    :param cuda: the jobs may train on a GPU
    """
    gpus = config.gpus if config.gpus is not None else int(cuda and any(node.get("GPU") for node in nodes))
    if gpus > 1 and config.slots_per_gpu > 1:
        raise UserError(
            f"sweep.gpus={gpus} and sweep.slots_per_gpu={config.slots_per_gpu}: a job has several GPUs, or a share of one: leave "
            "either out"
        )
    return {"CPU": float(config.cpus or 1), "GPU": gpus / config.slots_per_gpu, **config.resources}


def room_for(wants: dict[str, float], nodes: Sequence[dict[str, float]]) -> int:
    """How many jobs the nodes have room for at once, were nothing else on them."""
    asked = {name: amount for name, amount in wants.items() if amount > 0}
    fits = [min(math.floor(node.get(name, 0) / amount + 1e-9) for name, amount in asked.items()) for node in nodes]
    return sum(fits)


def _nodes(ray: ModuleType) -> list[dict[str, float]]:
    """What each node of the cluster has, now."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _task(ray: ModuleType, wants: dict[str, float]) -> Any:
    others = {name: amount for name, amount in wants.items() if name not in ("CPU", "GPU")}
    # not Ray's own retries: one count for whatever ended a job, and a line for each time
    return ray.remote(num_cpus=wants["CPU"], num_gpus=wants["GPU"], resources=others, max_retries=0)(resume)


def resume(path: str, gpu: bool) -> children.Ended:
    """In a worker of Ray: `grow resume` in a process that ends with this one.

    :param gpu: it was given one, or a share of one: Ray has said which, in CUDA_VISIBLE_DEVICES
    """
    folder = RunFolder(Path(path))
    _wait_for(lambda: not locked(folder))  # the process of an earlier task, which is lost, may still save
    found: list[children.Ended] = []
    package = str(Path(__file__).resolve().parents[2])  # where this worker found it
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    # nor a grow_cli that happens to lie where the node was started
    variables = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
    variables |= {} if gpu else {"CUDA_VISIBLE_DEVICES": ""}
    children.run([["resume", path]], 1, found.append, lambda slot: variables)
    return found[0]


@dataclass
class _Following:
    """Hands the jobs out, and says of each what became of it."""

    ray: ModuleType
    task: Any
    wants: dict[str, float]
    most: int | None
    """How many at once; None: as many as there is room for."""
    board: Board
    closed: Callable[[Job, str, str], bool]
    waiting: list[Job]
    flying: dict[Any, Job] = field(default_factory=dict)

    def to_the_end(self) -> None:
        """Interrupted, what the jobs have begun is ended, too, and waited for."""
        try:
            with self.board:
                while self.waiting or self.flying:
                    self._hand_out()
                    over = self._over()
                    for one in over:
                        self._ended(one)
                    if not over:
                        time.sleep(_PAUSE)
        finally:
            for one in self.flying:
                self.ray.cancel(one, force=False)  # interrupts its worker, which has its process save
            _wait_for(lambda: len(self._over()) == len(self.flying))

    def _over(self) -> list[Any]:
        """The tasks that have ended; not waited for in Ray, which would take a signal's exception for its own."""
        over, _ = self.ray.wait(list(self.flying), num_returns=len(self.flying), timeout=0)
        return list(over)

    def _hand_out(self) -> None:
        # one at least, for which the cluster may grow
        most = (self.most or max(1, room_for(self.wants, _nodes(self.ray)))) if self.waiting else 0
        while self.waiting and len(self.flying) < most:
            job = self.waiting.pop(0)
            self.flying[self.task.remote(str(job.folder.path), self.wants["GPU"] > 0)] = job
            self.board.begins(str(job.folder.path))

    def _ended(self, one: Any) -> None:
        job = self.flying.pop(one)
        if self.closed(job, *_came(self.ray, one, job)):
            self.waiting.append(job)


def _came(ray: ModuleType, one: Any, job: Job) -> tuple[str, str]:
    """What became of a job whose task has ended."""
    try:
        ended = ray.get(one)
    except ray.exceptions.RayTaskError as error:  # it could not begin the process: no grow there, say
        return "failed", f"its task on the cluster ended ({str(error).strip().splitlines()[-1]})"
    except ray.exceptions.RayError as error:
        if job.folder.read_summary().get("status") == "finished":
            return ("resumed" if job.begun else "trained"), ""
        return "crashed", f"its worker is lost: {type(error).__name__}"
    local.keep(job.folder.path, ended)
    return local.outcome(job.folder, ended, resumed=job.begun)


def _wait_for(holds: Callable[[], bool]) -> None:
    """Wait for processes that save, but not for ever."""
    end = time.monotonic() + _SAVING
    while not holds() and time.monotonic() < end:
        time.sleep(_PAUSE)


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[ModuleType]:
    """Ray, connected: to the cluster at an address, or to one that is started here and ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    how: dict[str, Any] = {"address": address}
    if address is None:
        how = {"address": "local", "include_dashboard": False, "object_store_memory": _STORE}
    earlier = {number: signal.getsignal(number) for number in TERMINATING}
    try:
        ray.init(**how, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises that, too, where a node of its own does not come up in time
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        if address is None:
            raise UserError(f"sweep=ray: Ray does not start here ({first}): use sweep=local, or try again") from error
        raise UserError(
            f"sweep.address={address}: no cluster can be joined there ({first}): `ray status` says whether it runs; leave "
            "sweep.address out to start a Ray of its own here"
        ) from error
    finally:
        for number, handler in earlier.items():  # Ray brings its own
            signal.signal(number, handler)
    try:
        if address is not None:
            there = sum(node["Alive"] for node in ray.nodes())
            console.say(f"joined the Ray cluster of {counted(there, 'node')}")
        yield ray
    finally:
        ray.shutdown()
