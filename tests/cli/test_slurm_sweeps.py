"""`sweep=slurm`, with stand-ins for Slurm's programs: what the batch script does at each end, and what the submitter makes of it.

tests/engines/test_slurm.py has the same with a real Slurm.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from grow_cli.commands import slurm, slurm_queue, slurm_script
from grow_cli.commands.slurm_queue import GONE, Task, read_task
from grow_cli.config import Sweep
from grow_cli.records.folder import RunFolder

RUNNING = "JobState=RUNNING PreemptTime=None"
ENDING = "JobState=COMPLETING PreemptTime=None"
PREEMPTED = "JobState=COMPLETING PreemptTime=2026-11-27T02:35:50"


def _program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


class Batch:
    """The batch script on a job's folder; `grow` is a few lines of bash, of which $3 is the folder."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.programs = tmp_path / "a 'job'", tmp_path / "programs"
        (self.folder / "checkpoints").mkdir(parents=True)
        self.last = self.folder / "checkpoints/last.pt"
        self.last.touch()
        self.said = tmp_path / "said"
        monkeypatch.setattr(sys, "executable", str(self.programs / "py thon"))

    def begin(self, grow: str, state: str = RUNNING, how: Sweep | None = None, **more: str) -> subprocess.Popen[bytes]:
        # $3: python -m grow_cli resume FOLDER
        _program(self.programs / "py thon", f'folder=$4; [ "$3" = resume ] || exit 99\n{grow}')
        _program(self.programs / "scontrol", f'[ "$1" = requeue ] && echo "$2" >>{self.said} || echo "{state}"')
        self.folder.joinpath("log.txt").unlink(missing_ok=True)
        path = self.folder.with_name("script.sh")
        path.write_text(slurm_script.script([Path("/nowhere"), self.folder], how or Sweep()))
        variables = {
            "SLURM_ARRAY_JOB_ID": "7",
            "SLURM_ARRAY_TASK_ID": "1",
            "PATH": f"{self.programs}:{os.environ['PATH']}",
        }
        return subprocess.Popen(["bash", str(path)], env=os.environ | variables | more)

    def run(self, grow: str, state: str = RUNNING, how: Sweep | None = None, **more: str) -> int:
        return self.begin(grow, state, how, **more).wait(timeout=20)

    def signalled(self, number: signal.Signals, state: str, grow: str, how: Sweep | None = None) -> int:
        """The batch shell alone hears it, once the job trains."""
        begun = self.begin(grow, state, how)
        end = time.monotonic() + 20
        while "begun" not in self.log and time.monotonic() < end:
            time.sleep(0.01)
        begun.send_signal(number)
        return begun.wait(timeout=20)

    @property
    def log(self) -> str:
        path = self.folder / "log.txt"
        return path.read_text() if path.exists() else ""

    @property
    def requeued(self) -> list[str]:
        return self.said.read_text().split() if self.said.exists() else []


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    return Batch(tmp_path, monkeypatch)


def _status(status: str) -> str:
    """A job that ends with this status, as `write_summary` writes it."""
    return f"""printf '{{\\n "status": "{status}",\\n "seed": 0\\n}}\\n' >"$folder/summary.json"\n"""


# it saves when it is asked, as `grow resume` does, and ends with 128 + 12 or 15
SAVES = """
end() { echo saved >>"$folder/checkpoints/last.pt"; exit $1; }
trap 'end 140' USR2; trap 'end 143' TERM
echo begun
while :; do sleep 0.02; done
"""


def test_a_summary_is_read_by_the_script_as_it_is_written(batch: Batch) -> None:
    RunFolder(batch.folder).write_summary({"status": "failed", "error": '"status": "finished"', "seed": 0})
    assert batch.run("exit 1") == 1
    RunFolder(batch.folder).write_summary({"status": "finished"})
    assert batch.run("exit 99") == 0, "it is not begun again"


def test_what_crashes_goes_on_again_so_often_and_what_fails_of_itself_does_not(batch: Batch) -> None:
    tries = '"$folder"/tries'
    count = f"echo >>{tries}; [ $(wc -l <{tries}) -gt 2 ] && {{ {_status('finished')} exit 0; }}\n"
    assert batch.run(f"{count} {_status('crashed')} exit 1", how=Sweep(retries=1)) == 1
    assert "goes on again (1 of 1)" in batch.log
    assert batch.run(f"{count} kill -9 $$", how=Sweep(retries=1)) == 0
    (batch.folder / "summary.json").unlink()
    assert batch.run(f"{_status('failed')} echo ran; exit 1") == 1
    assert batch.log.count("ran") == 1
    assert batch.run("echo 'error: no such data'; exit 2") == 2
    assert batch.log.count("no such data") == 1
    assert batch.requeued == []


def test_near_its_time_limit_a_job_saves_and_is_queued_again(batch: Batch) -> None:
    assert batch.signalled(signal.SIGUSR2, RUNNING, SAVES) == 140
    assert batch.last.read_text() == "saved\n"
    assert batch.requeued == ["7_1"]


@pytest.mark.parametrize(("state", "again"), [(RUNNING, True), (PREEMPTED, True), (ENDING, False)])
def test_a_preempted_job_is_queued_again_and_a_cancelled_one_is_not(batch: Batch, state: str, again: bool) -> None:
    assert batch.signalled(signal.SIGTERM, state, SAVES) == 140
    assert batch.last.read_text() == "saved\n"
    assert batch.requeued == ["7_1"] * again


def test_a_signal_outdoes_the_error_that_came_of_it_but_no_finished_run(batch: Batch) -> None:
    assert batch.signalled(signal.SIGUSR2, RUNNING, SAVES.replace("exit $1", _status("crashed") + "exit 1")) == 1
    assert batch.requeued == ["7_1"]
    assert batch.signalled(signal.SIGUSR2, RUNNING, SAVES.replace("exit $1", _status("finished") + "exit 0")) == 0
    assert batch.requeued == ["7_1"]


def test_a_job_that_gets_nowhere_in_its_time_is_not_queued_for_ever(batch: Batch) -> None:
    stuck = SAVES.replace('echo saved >>"$folder/checkpoints/last.pt";', "")
    # limit - lead - 60 is 0 here: the whole time is over
    assert batch.signalled(signal.SIGUSR2, RUNNING, stuck, Sweep(minutes=2, lead_seconds=60)) == 140
    assert batch.requeued == []
    assert "error: no checkpoint was written within the time limit of 2 min: give more by sweep.minutes" in batch.log
    assert batch.signalled(signal.SIGUSR2, RUNNING, SAVES, Sweep(minutes=2, lead_seconds=60)) == 140
    assert batch.requeued == ["7_1"]


def test_a_job_whose_former_process_lives_on_waits_for_it(batch: Batch) -> None:
    batch.folder.joinpath(".lock").touch()
    first = "flock -n -s \"$folder/.lock\" true || { echo 'error: another process'; exit 2; }\n" + _status("finished")
    held = subprocess.Popen(["flock", str(batch.folder / ".lock"), "sleep", "1"])
    time.sleep(0.2)
    assert batch.run(first) == 2, "another sweep's"
    waiting = batch.begin(first, SLURM_RESTART_COUNT="1")
    assert held.wait(timeout=20) == 0
    assert waiting.poll() is None
    waiting.terminate()
    waiting.wait(timeout=20)
    assert batch.requeued == ["7_1"], "preempted while it waits, it is queued again"


def test_all_that_is_asked_for_stands_on_sbatchs_line() -> None:
    how = Sweep(
        jobs=4, partition="long", account="me", qos="low", minutes=90, lead_seconds=30, cpus=8, memory_gb=32, gpus=1,
        options=["--constraint=a100|h100", "--exclusive"],
    )  # fmt: skip
    line = slurm_script.submission(Path("/s/x.sh"), Path("/s/100%.txt"), 12, "mine", how)
    assert line[:2] == ["sbatch", "--parsable"]
    assert set(line[2:-1]) == {
        *(
            "--job-name=grow-mine",
            "--array=0-11%4",
            "--nodes=1",
            "--ntasks=1",
            "--time=90",
            "--signal=B:USR2@30",
            "--requeue",
        ),
        *("--output=/s/100%%.txt", "--open-mode=append", "--partition=long", "--account=me", "--qos=low"),
        *("--cpus-per-task=8", "--mem=32G", "--gpus-per-node=1", "--constraint=a100|h100", "--exclusive"),
    }
    plain = slurm_script.submission(Path("/s/x.sh"), Path("/s/x.txt"), 1, "mine", Sweep())
    assert not [word for word in plain if word.startswith(("--gpus", "--mem", "--cpus", "--partition"))]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"options": ["-p x"]}, "as --NAME or --NAME=VALUE"),
        ({"options": ["--constraint=a\nrm"]}, "as --NAME or --NAME=VALUE"),
        ({"options": ["--time=5"]}, "give sweep.minutes instead"),
        ({"options": ["--no-requeue"]}, "leave it out"),
        ({"partition": "a b"}, "sweep.partition='a b': must be a name"),
        ({"account": "--wrap=x"}, "sweep.account"),
        ({"minutes": 2, "lead_seconds": 120}, "sweep.lead_seconds=120: must be below the time limit"),
        ({"gpus": -1}, "sweep.gpus=-1"),
    ],
)
def test_what_sbatch_would_misread_is_refused(keys: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        Sweep(**keys)


def test_squeues_lines_are_read_as_old_and_new_versions_write_them() -> None:
    assert read_task("3   FAILED    512   NonZeroExitCode   ") == (3, Task("FAILED", 2, "NonZeroExitCode"))
    assert read_task("11  RUNNING   0     None") == (11, Task("RUNNING", 0, "None"))
    assert read_task("0   CANCELLED 9     None")[1].code == -9
    assert read_task("0   FAILED    1:0   NonZeroExitCode")[1].code == 1
    assert read_task("0   PENDING   0     (launch failed requeued held)")[1].reason == "(launch failed requeued held)"
    assert not read_task("0 COMPLETING 0 None")[1].over
    assert read_task("0 NODE_FAIL 0 None")[1].over


@pytest.mark.parametrize(
    ("status", "task", "became"),
    [
        ("finished", Task("CANCELLED"), "trained"),
        ("finished", GONE, "trained"),
        ("interrupted", Task("CANCELLED", -9), "interrupted"),
        (None, Task("CANCELLED"), "interrupted"),
        ("interrupted", Task("FAILED", 140), "interrupted"),
        ("interrupted", Task("FAILED", 137), "crashed"),
        ("interrupted", Task("OUT_OF_MEMORY", -9), "crashed"),
        ("crashed", Task("FAILED", 1), "crashed"),
        ("failed", Task("FAILED", 1), "failed"),
        (None, Task("FAILED", 2), "failed"),
        ("interrupted", GONE, "interrupted"),
        ("failed", GONE, "failed"),
        ("crashed", GONE, "crashed"),
    ],
)
def test_what_became_of_a_job_is_said_by_its_folder_and_by_slurm(
    status: str | None, task: Task, became: str, tmp_path: Path
) -> None:
    if status:
        RunFolder(tmp_path).write_summary({"status": status})
    (tmp_path / "log.txt").write_text("error: the words of its process\n")
    found = slurm.outcome(RunFolder(tmp_path), task, resumed=False)
    assert found[0] == became
    if became == "failed":
        assert found[1] == "the words of its process"


class Slurm:
    """sbatch runs the script at once, in which grow finishes every job; squeue shows what stands in `shown`."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs, self.lines, self.shown = tmp_path / "bin", tmp_path / "lines", tmp_path / "shown"
        finishes = 'mkdir -p "$4/checkpoints"; touch "$4/checkpoints/last.pt"\n' + _status("finished").replace(
            "$folder", "$4"
        )
        _program(self.programs / "python", finishes)
        refuses = f'[ -e {tmp_path}/refuses ] && {{ echo "sbatch: error: Invalid partition" >&2; exit 1; }}'
        runs = 'for i in 0 1; do SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$i bash "${@: -1}"; done'
        _program(
            self.programs / "sbatch",
            f'echo "$@" >>{self.lines}\n{refuses}\n[ -e {tmp_path}/idle ] || {runs}\necho 7',
        )
        _program(self.programs / "squeue", f"cat {self.shown}")
        _program(self.programs / "scontrol", "echo")
        self.shown.write_text("0 COMPLETED 0 None\n1 COMPLETED 0 None\n")
        self.idle, self.refuses = tmp_path / "idle", tmp_path / "refuses"
        monkeypatch.setattr(sys, "executable", str(self.programs / "python"))
        monkeypatch.setenv("PATH", f"{self.programs}:{os.environ['PATH']}")

    @property
    def submitted(self) -> int:
        return len(self.lines.read_text().splitlines()) if self.lines.exists() else 0


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    return Slurm(tmp_path, monkeypatch)


TYPED = ("train", "-m", "seed=0,1", "subset=60", "stop.steps=4", "sweep=slurm", "run_dir=s")
ONE = tuple(word.replace("0,1", "0") for word in TYPED)


def test_a_sweep_is_one_array_and_says_its_id_its_ends_and_its_count(
    engine: Slurm, grow: Callable, tmp_path: Path
) -> None:
    left = grow(*TYPED, "sweep.partition=long", 'sweep.options=["--constraint=a100"]')
    assert left.code == 0, left.err
    assert "2 jobs given to Slurm: `squeue -j 7` shows what waits and runs, `scancel 7` ends it" in left.out
    assert "job 2 of 2: seed=1: trained" in left.out
    assert "2 jobs: 2 trained" in left.out
    line = engine.lines.read_text()
    assert engine.submitted == 1
    assert "--array=0-1 " in line
    assert "--partition=long --constraint=a100 " in line
    assert not (tmp_path / "s/.slurm").exists(), "nothing of what is over is left"


@pytest.mark.slow
def test_a_submitter_that_leaves_or_is_stopped_says_what_runs_on_and_the_same_line_waits_for_it(
    engine: Slurm, grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.idle.touch()
    engine.shown.write_text("0 RUNNING 0 None\n")
    left = grow(*ONE, "sweep.wait=false")
    assert (left.code, "1 job: 1 left in Slurm's queue" in left.out) == (0, True), left.err
    (record,) = (tmp_path / "s/.slurm").glob("*.json")
    assert json.loads(record.read_text())["id"] == "7"

    def stopped(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(slurm.time, "sleep", stopped)
        left = grow(*ONE)
    assert left.code == 130
    assert "1 job left to Slurm: `squeue -j 7` shows what waits and runs, `scancel 7` ends it" in left.out
    assert "run the same command with run_dir=" in left.err

    def ends(seconds: float) -> None:
        engine.shown.write_text("")  # Slurm has forgotten it already
        (folder,) = (tmp_path / "s").glob("0-*")
        RunFolder(folder).write_summary({"status": "finished"})

    monkeypatch.setattr(slurm.time, "sleep", ends)
    again = grow(*ONE)
    assert "1 job in Slurm's queue already" in again.out
    assert "1 job: 1 trained" in again.out, again.err
    assert engine.submitted == 1


@pytest.mark.slow
def test_what_sbatch_refuses_and_a_machine_without_it_are_a_sentence_and_leave_no_folder(
    engine: Slurm, grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.refuses.touch()
    left = grow(*ONE)
    assert (left.code, "sbatch did not take 1 job (Invalid partition): change sweep.*" in left.err) == (2, True), (
        left.err
    )
    monkeypatch.setattr(slurm.shutil, "which", lambda program: None)
    left = grow(*ONE)
    assert left.code == 2
    assert left.err == (
        "error: sweep=slurm needs sbatch and squeue, which this machine does not have: type it on a login node of a cluster with "
        "Slurm, or use sweep=local\n"
    )
    assert not list((tmp_path / "s").glob("[01]-*"))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("hydra.launcher.timeout_min=60", "type sweep.minutes=60"),
        ("+hydra.launcher.gpus_per_node=null", "type sweep.gpus=null"),
        ("hydra.launcher.max_num_timeout=3", "leave it out"),
        ("hydra.launcher.additional_parameters.x=1", 'sweep.options=["--NAME=VALUE"]'),
        ("hydra/launcher=submitit_slurm", "no launcher of Hydra's any more"),
    ],
)
def test_keys_of_hydras_launcher_are_refused_with_ours(key: str, words: str, grow: Callable) -> None:
    left = grow("train", "-m", "sweep=slurm", key)
    assert (left.code, words in left.err) == (2, True), left.err


def test_a_damaged_record_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".slurm").mkdir()
    for text in ("{", '{"id": "--help", "jobs": []}', '{"id": "7", "jobs": [1]}', "[]"):
        (tmp_path / ".slurm/x.json").write_text(text)
        with pytest.raises(slurm_queue.UserError, match="is damaged"):
            slurm_queue.queued(tmp_path, ())
