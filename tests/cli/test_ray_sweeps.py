"""`sweep=ray` without Ray: what is asked of it, and what becomes of a job whose worker is lost. With Ray: tests/engines."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grow_cli import cli
from grow_cli.commands import children, ray
from grow_cli.config import Sweep
from grow_cli.errors import UserError

NODES = [{"CPU": 4.0, "GPU": 2.0}, {"CPU": 2.0, "big": 1.0}]


class RayError(Exception):
    """The base of Ray's."""


class WorkerCrashedError(RayError):
    """As Ray calls it."""


class RayTaskError(RayError):
    """The task's own."""


class FakeRay:
    """One task after another in this process; `dies`: a job's number → how often its worker is lost."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.dies: Counter[str] = Counter()
        self.how: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.most = 0
        self.stops: BaseException | None = None
        self.closed = 0

    def init(self, **how: Any) -> None:
        self.how = how
        if how["address"] == "nowhere:1":
            raise ConnectionError("Could not connect\nat all")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray does

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": node} for node in NODES] + [{"Alive": False, "Resources": {"CPU": 99.0}}]

    def remote(self, **asked: Any) -> Callable[[Any], Any]:
        self.asked = asked

        def begin(path: str, gpu: bool) -> str:
            self.begun.append(path)
            return path

        return lambda task: SimpleNamespace(remote=begin)

    def wait(self, flying: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        assert num_returns == len(flying)
        self.most = max(self.most, len(flying))
        if self.stops is not None and not self.cancelled:
            raise self.stops
        return (flying, []) if self.stops is not None else (flying[:1], flying[1:])

    def get(self, path: str) -> children.Ended:
        number = Path(path).name.partition("-")[0]
        if self.dies[number] > 0:
            self.dies[number] -= 1
            raise WorkerCrashedError("The worker died unexpectedly")
        code = cli._run(["resume", path])
        return children.Ended(["resume", path], code, "printed\n", "error: the words of its process\n" if code else "")

    def cancel(self, path: str, force: bool) -> None:
        assert not force, "a worker that is killed takes its process with it, unsaved"
        self.cancelled.append(path)

    def shutdown(self) -> None:
        self.closed += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    found = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", found)
    monkeypatch.setattr(ray, "find_spec", lambda name: found)
    return found


@pytest.fixture
def sweep(small: tuple[str, ...]) -> tuple[str, ...]:
    return ("train", "-m", *small, "sweep=ray", "stop.epochs=2", "run_dir=s")


@pytest.mark.slow
def test_a_job_whose_worker_is_lost_goes_on_again_so_often_as_asked(
    fake: FakeRay, sweep: tuple[str, ...], grow: Callable, tmp_path: Path
) -> None:
    fake.dies = Counter({"1": 3})
    before = signal.getsignal(signal.SIGTERM)
    left = grow(*sweep, "seed=0,1", "sweep.retries=1", "sweep.jobs=2", "sweep.address=head:6379")
    assert left.code == 1
    assert "joined the Ray cluster of 2 nodes" in left.out
    assert "2 jobs, 2 at a time" in left.out
    assert "seed=1: goes on again (its worker is lost: WorkerCrashedError)" in left.out
    assert "1 trained, 1 crashed" in left.out
    assert (fake.asked["max_retries"], fake.asked["num_cpus"], fake.how["address"]) == (0, 1.0, "head:6379")
    assert (tmp_path / "s").joinpath(next((tmp_path / "s").glob("0-*")).name, "log.txt").read_text() == "printed\n"
    assert signal.getsignal(signal.SIGTERM) is before
    again = grow(*sweep, "seed=0,1", "sweep.retries=1")
    assert (again.code, "1 trained, 1 finished already" in again.out) == (0, True), again.err
    assert fake.how["address"] == "local"
    assert fake.closed == 2


@pytest.mark.slow
def test_interrupted_it_cancels_the_jobs_that_are_under_way(
    fake: FakeRay, sweep: tuple[str, ...], grow: Callable
) -> None:
    fake.stops = KeyboardInterrupt()
    left = grow(*sweep, "seed=0,1", "sweep.jobs=1")
    assert left.code == 130
    assert "run the same command with run_dir=" in left.err
    assert fake.cancelled == fake.begun
    assert len(fake.begun) == 1
    assert fake.closed == 1


@pytest.mark.slow
def test_without_a_cluster_at_the_address_one_sentence_says_so(
    fake: FakeRay, sweep: tuple[str, ...], grow: Callable
) -> None:
    left = grow(*sweep, "seed=0,1", "sweep.address=nowhere:1")
    assert left.code == 2
    assert left.err.startswith("error: sweep.address=nowhere:1: no cluster can be joined there (Could not connect): ")


def test_a_job_asks_for_what_the_keys_say_and_the_cluster_has() -> None:
    assert ray.wanted(Sweep(), NODES, cuda=True) == {"CPU": 1.0, "GPU": 1.0}
    assert ray.wanted(Sweep(), NODES, cuda=False) == {"CPU": 1.0, "GPU": 0.0}
    assert ray.wanted(Sweep(), [{"CPU": 4.0}], cuda=True)["GPU"] == 0
    shared = ray.wanted(Sweep(slots_per_gpu=4, cpus=2), NODES, cuda=True)
    assert shared == {"CPU": 2.0, "GPU": 0.25}
    assert ray.wanted(Sweep(gpus=0, resources={"big": 1.0}), NODES, cuda=True) == {"CPU": 1.0, "GPU": 0.0, "big": 1.0}
    assert ray.wanted(Sweep(gpus=2), NODES, cuda=False)["GPU"] == 2
    with pytest.raises(UserError, match=r"sweep.gpus=2 and sweep.slots_per_gpu=2"):
        ray.wanted(Sweep(gpus=2, slots_per_gpu=2), NODES, cuda=True)


@pytest.mark.parametrize(
    ("wants", "room"),
    [
        ({"CPU": 1.0, "GPU": 0.0}, 6),
        ({"CPU": 1.0, "GPU": 1.0}, 2),
        ({"CPU": 1.0, "GPU": 0.1}, 4),
        ({"CPU": 3.0, "GPU": 0.0}, 1),
        ({"CPU": 1.0, "GPU": 0.0, "big": 1.0}, 1),
        ({"CPU": 1.0, "GPU": 4.0}, 0),
    ],
)
def test_there_is_room_for_as_many_jobs_as_fit_on_the_nodes(wants: dict[str, float], room: int) -> None:
    assert ray.room_for(wants, NODES) == room
