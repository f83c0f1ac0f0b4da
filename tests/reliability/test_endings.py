"""However a run ends, its work is kept, its folder says how it ended, and the next command goes on from there."""

from __future__ import annotations

import errno
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from grow_cli import files
from grow_cli.cli import main
from grow_cli.errors import Crashed, Interrupted, UserError
from grow_cli.records.folder import RunFolder
from grow_cli.signals import TERMINATING
from grow_cli.training import checkpoint, memory
from grow_cli.training.loop import Loop

SHORT = ("subset=60", "stop.steps=4", "evaluate.every=2", "evaluate.unit=steps", "progress=off", "threads=1")
RUN = ("train", *SHORT, "method=static")


def _status(folder: Path) -> str:
    return str(json.loads((folder / "summary.json").read_text())["status"])


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("sweep", [False, True], ids=["train", "sweep"])
def test_a_run_that_got_no_first_checkpoint_has_not_begun_and_is_begun_when_it_is_typed_again(
    sweep: bool, grow: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = (*RUN, *(("-m", "seed=1") if sweep else ()), "run_dir=run")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", _full)
        assert grow(*typed).code == 1
    done = grow(*typed)
    assert done.code == 0, done.err


def test_a_kill_while_the_first_checkpoint_is_written_leaves_a_folder_that_resumes(
    grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(path: Path, write: Callable[[Path], object]) -> None:
        if path.name == "last.pt":
            path.with_name(".last.pt.1.tmp").write_bytes(b"PK")
            raise Killed
        files_write(path, write)

    files_write = files.write_atomically
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_atomically", killed)
        with pytest.raises(Killed):
            grow(*RUN, "run_dir=run")
    assert (tmp_path / "run/checkpoints/.last.pt.1.tmp").exists()
    assert not RunFolder(tmp_path / "run").begun
    done = grow("resume", "run")
    assert done.code == 0, done.err
    assert not list((tmp_path / "run").rglob(".*.tmp"))


def test_a_disk_that_fills_up_crashes_the_run_which_then_goes_on(
    grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_metrics", _full)
        done = grow(*RUN, "run_dir=run")
    assert done.code == 1
    assert "No space left on device" in done.err
    assert "grow resume" in done.err
    assert _status(tmp_path / "run") == "crashed"
    assert grow("resume", "run").code == 0
    assert _status(tmp_path / "run") == "finished"


def test_a_crashed_job_of_a_sweep_is_tried_again_and_a_failed_one_is_not(
    grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = (*RUN, "-m", "seed=1", "run_dir=sweep")
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_metrics", _full)
        first = grow(*typed)
    assert first.code == 1
    assert "1 crashed" in first.out
    again = grow(*typed)
    assert again.code == 0, again.err
    assert "1 resumed and finished" in again.out


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("Storage size calculation overflowed with sizes=[4294967296, 4294967296]"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_way_of_running_out_of_memory_is_known(error: Exception) -> None:
    with (
        pytest.raises(Crashed, match="out of memory while it trained: do so"),
        memory.enough_memory("it trained", "do so"),
    ):
        raise error


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("grow_cli.run.load_data", "while the data were read"),
        ("grow_cli.run.assemble", "while the net was built"),
        ("grow_cli.training.loop.Loop.train", "while it trained"),
        ("grow_cli.run.measure_splits", "while the trained net was measured"),
    ],
)
def test_out_of_memory_is_one_sentence_that_names_what_was_being_done(
    place: str, words: str, grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(place, fail)
        done = grow(*RUN, "run_dir=run")
    assert done.code == 1
    assert done.err.count("error:") == 1
    assert f"out of memory {words}" in done.err
    if "measured" in words:  # the training is over and stays so
        assert _status(tmp_path / "run") == "crashed"
        rows = (tmp_path / "run" / "metrics.csv").read_text()
        assert grow("resume", "run", "evaluate.batch_size=7").code == 0
        assert (tmp_path / "run" / "metrics.csv").read_text() == rows
        assert _status(tmp_path / "run") == "finished"


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    for error in (RuntimeError("size mismatch"), ValueError("out of memory"), OSError(errno.EIO, "x")):
        assert not memory.out_of_memory(error)


def test_a_net_that_could_never_fit_is_refused_before_anything_is_allocated(grow: Callable, tmp_path: Path) -> None:
    done = grow("train", *SHORT, "method=static", "model=mlp", "model.hidden=[4000000,4000000]", "run_dir=run")
    assert done.code == 2
    assert "lower the model's size" in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "progress"),
    [(BrokenPipeError(), "lines"), (OSError(errno.EIO, "gone"), "live")],
)
def test_a_run_goes_on_and_is_finished_whatever_becomes_of_the_terminal(
    error: OSError, progress: str, grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        encoding, errors = "utf-8", "strict"

        def write(self, text: str) -> int:
            raise error

        def flush(self) -> None: ...

        def isatty(self) -> bool:
            return False

        def fileno(self) -> int:
            return os.open(os.devnull, os.O_WRONLY)

    monkeypatch.setattr(sys, "stdout", Gone())
    assert grow(*RUN, f"progress={progress}", "run_dir=run").code == 0
    assert _status(tmp_path / "run") == "finished"


@pytest.mark.slow
def test_a_sweep_whose_bookkeeping_cannot_be_written_still_trains_and_counts(
    grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grow_cli.commands.sweep.write_text", _full)
    done = grow(*RUN, "-m", "seed=1", "run_dir=sweep")
    assert done.code == 0
    assert "1 job: 1 trained" in done.out


@pytest.mark.parametrize("command", [("list",), ("--help",), ("train", "--cfg", "job")])
def test_a_full_disk_behind_the_output_is_said_once(command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "grow_cli", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(files.__file__).parent.parent)},
        )
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_working_directory_that_is_gone_is_one_sentence(grow: Callable, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    try:
        with pytest.raises(SystemExit) as left:
            main(["list"])
    finally:
        os.chdir(tmp_path)
    assert left.value.code == 2
    assert grow("list").code == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_every_signal_that_ends_a_run_saves_it_first(
    number: signal.Signals, grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until, calls = Loop._train_until, []

    def interrupted(self: Loop, end: int) -> None:
        calls.append(end)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        train_until(self, end)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_train_until", interrupted)
        done = grow(*RUN, "run_dir=run")
    assert done.code == 128 + number
    assert "grow resume" in done.err
    assert _status(tmp_path / "run") == "interrupted"
    assert checkpoint.load(tmp_path / "run/checkpoints/last.pt")["progress"]["step"] == 2
    assert grow("resume", "run").code == 0


def test_a_run_under_nohup_ignores_hangups(grow: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    train_until = Loop._train_until

    def hung_up(self: Loop, end: int) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        train_until(self, end)

    monkeypatch.setattr(Loop, "_train_until", hung_up)
    try:
        assert grow(*RUN, "run_dir=run").code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_before_training_leaves_no_folder(
    number: signal.Signals, grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert number in TERMINATING

    def slow(*_: object, **__: object) -> Any:
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr("grow_cli.run.load_data", slow)
    done = grow(*RUN, "run_dir=run")
    assert done.code == 128 + number
    assert "before training began" in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (Interrupted(signal.SIGTERM), 143)])
def test_an_error_that_hides_a_signal_is_not_told(
    raised: BaseException, code: int, grow: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare() -> None:
        try:
            try:
                raise raised
            finally:
                None.left_half_done  # type: ignore[attr-defined]  # noqa: B018
        except AttributeError as error:
            raise UserError(str(error)) from error

    monkeypatch.setattr("grow_cli.commands.train.prepare_hydra", prepare)
    ended = grow(*RUN)
    assert (ended.code, ended.err) == (code, "")


def test_a_user_without_a_home_can_train(grow: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unknown(_: object) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "GROW_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert files.cache_folder().is_absolute()
    assert grow(*RUN, "run_dir=run").code == 0
    assert grow("report", "run").code == 0
