"""A thousand jobs of a tenth of a second each: what a sweep does around them stays under a twentieth of the time.

GROW_JOBS=100 sweeps over fewer. Hydra composes each job twice, which takes longer than all else: GROW_COMPOSED=once has it
compose the first job only, and gives the others a copy with their seed. The figures that are printed (`pytest -s`) stand in
docs/results/sweeps.md.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engines.composed_once import copies

from grow_cli import cli, run
from grow_cli.analysis.sweeps import status
from grow_cli.commands import jobs as placing
from grow_cli.commands import sweep, train
from grow_cli.records.folder import RunFolder

pytestmark = pytest.mark.slow

JOBS = int(os.environ.get("GROW_JOBS", "1000"))
STATUS_EVERY = max(1, JOBS // 20)  # jobs after which the status is asked for
COMPOSED_ONCE = os.environ.get("GROW_COMPOSED") == "once"
SMALL = (
    *("method=static", "model=mlp", "model.hidden=[8]", "subset=100", "batch_size=10", "stop.epochs=null", "stop.steps=20"),
    *("evaluate.every=20", "evaluate.unit=steps", "threads=1", "device=cpu", "progress=off"),
)  # fmt: skip


class Clock:
    """Seconds spent in functions, by what they are for; what one of them calls inside another counts for itself only."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.seconds: Counter[str] = Counter()
        self._inner = [0.0]

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        begun = self.now()
        self._inner.append(0.0)
        try:
            yield
        finally:
            took = self.now() - begun
            self.seconds[what] += took - self._inner.pop()
            self._inner[-1] += took

    def wrap(self, patch: pytest.MonkeyPatch, owner: Any, name: str, what: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            with self.timed(what):
                return inner(*args, **options)

        patch.setattr(owner, name, timed)


@contextlib.contextmanager
def _locked(clock: Clock, inner: Callable[..., Any], folder: Path) -> Iterator[None]:
    """A claim is everything that is done under the sweep's lock, waiting for it included."""
    with clock.timed("claims"), inner(folder):
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    found = Clock()
    inner = sweep.one_at_a_time
    for module in (sweep, train):
        monkeypatch.setattr(module, "one_at_a_time", lambda folder: _locked(found, inner, folder))
    found.wrap(monkeypatch, RunFolder, "create", "files of the run")  # as of a single run
    if COMPOSED_ONCE:
        monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", copies(ConfigLoaderImpl.load_sweep_config))
    found.wrap(monkeypatch, ConfigLoaderImpl, "load_configuration", "composing")
    found.wrap(monkeypatch, ConfigLoaderImpl, "load_sweep_config", "composing")
    found.wrap(monkeypatch, train, "checked", "checking")
    found.wrap(monkeypatch, run, "train", "training")
    found.wrap(monkeypatch, sweep.Tally, "note", "tally")
    found.wrap(monkeypatch, sweep.Tally, "collect", "tally")
    found.wrap(monkeypatch, sweep.Tally, "begin", "tally")
    found.wrap(monkeypatch, sweep, "show_ranking", "ranking")
    return found


def test_claims_tally_and_status_of_a_thousand_jobs_are_a_twentieth_of_the_time(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = run.train
    jobs = 0

    def and_look(*args: Any, **options: Any) -> Any:
        nonlocal jobs
        summary = trained(*args, **options)
        jobs += 1
        if jobs % STATUS_EVERY == 0:
            with clock.timed("status"):
                now = status(tmp_path / "s")
            assert sum(now.counts.values()) == JOBS
            assert now.counts["finished"] >= jobs - 1
        return summary

    monkeypatch.setattr(run, "train", and_look)
    begun = time.perf_counter()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli._run(["train", "-m", *SMALL, f"seed=range({JOBS})", "run_dir=s"]) == 0
    whole = time.perf_counter() - begun
    assert f"{JOBS:,} jobs: {JOBS} trained" in out.getvalue()
    seconds = clock.seconds
    ours = seconds["claims"] + seconds["tally"] + seconds["status"]
    share = ours / seconds["training"]
    seconds["the rest"] = whole - sum(seconds.values())
    told = {name: round(value, 2) for name, value in seconds.items()} | {"whole": round(whole, 1), "jobs": JOBS}
    print(f"\n{json.dumps(told)}\nclaims, tally and status: {share:.2%} of training, {ours / whole:.2%} of the whole")
    assert share < 0.05


def _around(folder: Path, jobs: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Milliseconds of processor time per job that a sweep spends besides training, of jobs that are finished at once."""
    rows = [["method=static", f"seed={seed}"] for seed in range(jobs)]
    composed = SimpleNamespace(overrides=SimpleNamespace(task=rows[0]))
    monkeypatch.setattr(placing, "HydraConfig", SimpleNamespace(get=lambda: composed))
    clock = Clock(time.process_time)
    tally = sweep.Tally()
    tally.swept = frozenset({"seed"})
    with clock.timed("tally"):
        tally.begin(folder)
    with clock.timed("claims"), sweep.one_at_a_time(folder):
        tally.place, _ = placing.register(folder, placing.Plan(rows, ("seed",), tally.swept))
    for number, row in enumerate(rows):
        composed.overrides.task = row
        own = folder / f"{number}-{placing.slug(row)}"
        with clock.timed("claims"), sweep.one_at_a_time(folder):
            run = tally.folder_of(own)
        run.hydra.mkdir(parents=True)
        for name, text in (("config", "seed: 0"), ("overrides", json.dumps(row))):
            (run.hydra / f"{name}.yaml").write_text(text)
        (run.path / "summary.json").write_text('{"status": "finished", "val_accuracy": 0.5}')
        with clock.timed("tally"):
            tally.note(run.path.name, "trained", number=number)
    with clock.timed("status"):
        assert status(folder).counts["finished"] == jobs
    with clock.timed("tally"):
        assert len(tally.collect()) == jobs
    return {name: 1000 * seconds / jobs for name, seconds in clock.seconds.items()}


def test_what_a_sweep_does_around_a_job_takes_no_longer_when_there_are_a_thousand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _around(tmp_path / "warm", 10, monkeypatch)
    few, many = (_around(tmp_path / str(jobs), jobs, monkeypatch) for jobs in (JOBS // 10, JOBS))
    print(f"\n{JOBS // 10} jobs, ms each: {few}\n{JOBS} jobs, ms each: {many}")
    assert sum(many.values()) < 5, "a twentieth of a tenth of a second"
    assert sum(many.values()) < 2 * sum(few.values())


def test_two_submitters_at_once_train_every_job_once(
    spawn: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if COMPOSED_ONCE:
        tests = Path(__file__).resolve().parents[1]
        (tmp_path / "site").mkdir()
        (tmp_path / "site/sitecustomize.py").write_text(
            f"import sys\nsys.path.append({str(tests)!r})\nfrom engines.composed_once import in_this_process\nin_this_process()\n"
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    typed = ("train", "-m", *SMALL, f"seed=range({JOBS})", "run_dir=s")
    both = [spawn(*typed) for _ in range(2)]
    lines = [process.communicate(timeout=7200) for process in both]
    assert [process.returncode for process in both] == [0, 0], lines
    counts = [int(number) for out, _ in lines for number in _counted(out, "trained")]
    assert sum(counts) == JOBS, "each was trained by one of the two"
    print(f"\ntrained by each: {counts}")
    assert status(tmp_path / "s").counts["finished"] == JOBS
    for path in (tmp_path / "s").glob("*/metrics.csv"):
        steps = [line.split(",")[0] for line in path.read_text().splitlines()[1:]]
        assert steps == sorted(set(steps), key=int), f"{path} holds a step twice"
    assert len(list((tmp_path / "s").glob("*/summary.json"))) == JOBS
    assert all(RunFolder(path.parent).begun for path in (tmp_path / "s").glob("*/summary.json"))


def _counted(out: str, word: str) -> list[str]:
    """The numbers before a word in the sweep's closing line."""
    closing = next(line for line in out.splitlines() if line.endswith("; the sweep is in"))
    return [part.split()[0] for part in closing.partition(":")[2].split(",") if part.split()[1:2] == [word]]
