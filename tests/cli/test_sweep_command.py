"""`grow sweep`: what a sweep is at can be asked from anywhere, and nothing is written by asking."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from grow_cli import console
from grow_cli.analysis.sweeps import STATES, expected_end, head, status, used
from grow_cli.commands import board
from grow_cli.commands.completion import candidates
from grow_cli.commands.jobs import Plan, forget, identifying, register
from grow_cli.commands.sweep import Job, Tally
from grow_cli.commands.train import compose
from grow_cli.errors import UserError
from grow_cli.records.folder import RunFolder
from grow_cli.records.jobs import Entry, Jobs, read_jobs, write_jobs


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Six jobs, one in each state that a folder can show, and one that a living process holds."""
    folder = tmp_path / "s"
    entries = [Entry(f"{i}-seed={i}", (f"seed={i}",), f"seed={i}") for i in range(6)]
    entries[5] = Entry("5-seed=5", ("seed=5",), "seed=5", "failed", "subset=1000000: there are 1,797 samples")
    for number, summary in enumerate(
        (
            {"status": "finished", "val_accuracy": 0.5},
            None,
            {"status": "interrupted"},
            {"status": "crashed", "error": "disk"},
        )
    ):
        run = RunFolder(folder / f"{number}-seed={number}")
        run.create({"config": {"stop": {"epochs": 4}}, "overrides": [f"seed={number}"]})
        run.close()
        if summary is None:
            run.metrics.write_text("step,epoch,val_accuracy\n10,1.0,0.25\n")
        else:
            run.write_summary(summary)
    write_jobs(folder, Jobs(tuple(entries), (("seed=0,1,2,3,4,5",),)))
    return folder


def test_every_state_is_counted_and_named_with_its_reason(sweep: Path, grow: Callable) -> None:
    running = RunFolder(sweep / "1-seed=1")
    running.open()
    out = grow("sweep", "status", sweep).out
    running.close()
    assert "6 jobs: 1 queued, 1 running, 1 finished, 1 interrupted, 1 crashed, 1 failed\n" in out
    assert "running      seed=1: epoch 1.0, val_accuracy 0.25\n" in out
    assert "crashed      seed=3: disk\n" in out
    assert "failed       seed=5: subset=1000000: there are 1,797 samples\n" in out
    assert "queued       seed=4\n" in out
    assert "seed=0" not in out.partition("no process")[0], "a finished job has no line"
    assert f"grow train -m seed=0,1,2,3,4,5 run_dir={sweep}\n" in out
    killed = {job.told: (job.state, job.reason) for job in status(sweep).jobs}["seed=1"]
    assert killed == ("crashed", "its process was ended, and had no time to say why")


def test_json_holds_every_job(sweep: Path, grow: Callable) -> None:
    found = json.loads(grow("sweep", "status", sweep, "--json").out)
    assert found["counts"] == dict(zip(STATES, (1, 0, 1, 1, 2, 1), strict=True))
    assert found["jobs"][0]["state"] == "finished"
    assert [job["fraction"] for job in found["jobs"]] == [1.0, 0.25, 0.0, 0.0, 0.0, 0.0]
    assert found["expected_end"] is None


def test_a_sweep_that_cannot_be_written_is_read_and_nothing_changes(sweep: Path, grow: Callable) -> None:
    def files() -> dict[Path, tuple[int, int]]:
        return {path: (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in [sweep, *sweep.rglob("*")]}

    for path in [sweep, *sweep.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    before = files()
    assert grow("sweep", "status", sweep).code == 0
    assert files() == before
    for path in [sweep, *sweep.rglob("*")]:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


def test_looking_at_a_job_does_not_keep_a_process_from_it(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looking = os.open(sweep / "2-seed=2" / ".lock", os.O_RDONLY)
    import fcntl

    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr("grow_cli.records.folder.time.sleep", lambda _: os.close(looking))
    run = RunFolder(sweep / "2-seed=2")
    run.open()
    run.close()


def test_the_expected_end_is_told_by_the_pace_of_those_who_are_at_it(sweep: Path) -> None:
    tally = Tally()
    tally.begin(sweep)
    begun = (tally._spool() / ".lock").stat().st_mtime
    os.utime(sweep / "0-seed=0" / "summary.json", (begun + 1, begun + 1))
    tally.note("5-seed=5", "failed", "no data", 5)
    now = status(sweep, begun + 10)
    assert now.processes == 1
    assert now.expected_end == begun + 10 + 40, (
        "one took ten seconds; four are left, and the failed one is none of them"
    )
    tally.collect()
    assert status(sweep).expected_end is None
    assert read_jobs(sweep).named["5-seed=5"].sentence == "subset=1000000: there are 1,797 samples"


def test_the_pace_counts_parts_of_jobs() -> None:
    assert expected_end(0, 30, 1.5, 3) == 90
    assert expected_end(0, 30, 0, 3) is None
    assert used({"epoch": "1.0", "step": "30"}, {"stop.epochs": 4, "stop.steps": 40}) == 0.75
    assert used({}, {"stop.epochs": 4}) == used({"epoch": "x"}, {"stop.epochs": 4}) == 0
    assert head({"queued": 1, "failed": 0}, 7200.0, 0.0).endswith("(in 2.0 h)")


def _plan(*seeds: int, swept: str = "seed") -> Plan:
    return Plan([["model=mlp", f"{swept}={seed}"] for seed in seeds], (f"{swept}={seeds}",), frozenset({swept}))


def test_a_job_keeps_its_folder_whatever_its_number_becomes(tmp_path: Path) -> None:
    first, new = register(tmp_path, _plan(1, 2))
    assert list(first.values()) == new == ["0-model=mlp_seed=1", "1-model=mlp_seed=2"]
    again, new = register(tmp_path, _plan(0, 1, 2))
    assert list(again.values()) == ["0-model=mlp_seed=0", *first.values()]
    assert new == ["0-model=mlp_seed=0"]
    before = (tmp_path / "jobs.json").stat().st_mtime_ns
    register(tmp_path, _plan(1, 2))
    assert (tmp_path / "jobs.json").stat().st_mtime_ns == before, "it is written once"
    assert len(read_jobs(tmp_path).lines) == 2


def test_a_job_that_was_begun_before_there_was_such_a_file_is_found(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "7-model=mlp_seed=1")
    run.create({"config": {}, "overrides": ["model=mlp", "seed=1"]})
    run.close()
    place, _ = register(tmp_path, _plan(0, 1))
    assert place[tuple(identifying(["model=mlp", "seed=1"]))] == "7-model=mlp_seed=1"


def test_jobs_whose_names_are_alike_have_folders_of_their_own(tmp_path: Path) -> None:
    register(tmp_path, _plan(1, 2, swept="threads"))
    place, _ = register(tmp_path, _plan(2, 3, swept="threads"))
    assert list(place.values()) == ["1-model=mlp", "2-model=mlp"]


def test_a_line_that_is_refused_leaves_no_jobs(tmp_path: Path, grow: Callable) -> None:
    register(tmp_path, _plan(1))
    _, new = register(tmp_path, _plan(1, 2))
    forget(tmp_path, new, _plan(1, 2).line)
    assert read_jobs(tmp_path) == Jobs(
        (Entry("0-model=mlp_seed=1", ("model=mlp", "seed=1"), "seed=1"),), (_plan(1).line,)
    )
    assert grow("train", "-m", "seed=0,x", "run_dir=t").code == 2
    assert not (tmp_path / "t" / "jobs.json").exists()


def test_a_file_of_jobs_leads_nowhere_else(tmp_path: Path) -> None:
    for jobs in (
        '{"jobs": [], "lines": 1}',
        '{"jobs": [{"folder": "../x"}], "lines": []}',
        '{"jobs": [1], "lines": []}',
    ):
        (tmp_path / "jobs.json").write_text(jobs)
        with pytest.raises(UserError, match=r"jobs\.json is damaged"):
            read_jobs(tmp_path)


def test_the_old_name_is_answered_with_the_new_one(grow: Callable, tmp_path: Path) -> None:
    left = grow("retry", "outputs/my sweep", "-j", 2)
    assert left.code == 2
    assert left.err == (
        "error: `grow retry` is `grow sweep retry` now: type `grow sweep retry 'outputs/my sweep' -j 2`\n"
    )
    assert candidates("grow sweep ") == ["status", "retry"]
    assert "nowhere does not exist" in grow("sweep", "status", "nowhere").err
    (tmp_path / "empty").mkdir()
    assert "empty holds no jobs of a sweep" in grow("sweep", "status", "empty").err
    assert grow("sweep", "status", ".", "-j", 2).code == grow("sweep", "retry", ".", "--json").code == 2


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Console:
    terminal = Console(force_terminal=True, width=80, height=6, highlight=False, color_system=None)
    monkeypatch.setattr(console, "out", terminal)
    return terminal


def _text(terminal: Console, renderable: Any) -> list[str]:
    with terminal.capture() as got:
        terminal.print(renderable, markup=False)
    return [line.rstrip() for line in got.get().splitlines()]


def test_the_table_is_no_higher_than_the_terminal_and_begins_with_what_runs(shown: Console, tmp_path: Path) -> None:
    config = compose(["stop.epochs=4"])
    jobs = [Job(i, RunFolder(tmp_path / str(i)), config, False, f"seed={i}") for i in range(12)]
    table = board.Board(jobs, 2)
    for number, summary in (
        (3, {"status": "finished", "val_accuracy": 0.75, "parameters": 7, "widths": "4"}),
        (5, None),
    ):
        jobs[number].folder.path.mkdir()
        table.begins(str(jobs[number].folder.path))
        if summary:
            jobs[number].folder.write_summary(summary)
            table.ended(jobs[number], "trained", "")
        else:
            jobs[number].folder.metrics.write_text("step,epoch,val_accuracy\n10,2.0,0.25\n")
    table.ended(jobs[7], "crashed", "its process was ended by SIGKILL")
    with table, shown.capture() as got:
        table.ended(jobs[8], "again", "its process was ended by SIGTERM")
        time.sleep(0.6)  # it is refreshed by itself
    assert "job 2 of 12: seed=8: goes on again (its process was ended by SIGTERM)" in got.get(), (
        "no table hides a reason"
    )
    lines = _text(shown, table.table())
    assert len(lines) == shown.height - 1, "the cursor stands in the last"
    assert lines[-1] == "and 9 more"
    assert "12 jobs: 9 queued, 1 running, 1 finished, 1 crashed; expected end" in lines[0]
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["running", "seed=5"],
        ["crashed", "seed=7"],
        ["finished", "seed=3"],
    ]
