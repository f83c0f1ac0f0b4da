"""A command in a fork of this process: what it printed, how it ended, and every file that it wrote outside its folder.

A fork costs a few hundredths of a second where a new interpreter costs seconds, and a case that hangs, dies by a signal or
leaves the process in disorder spoils no other.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import re
import resource
import select
import signal
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

SECONDS = 10  # of the processor's time: two steps of a small net take less than one
_WALL = 10 * SECONDS  # where other work goes on beside, or the command waits for what never comes
_MEMORY = 4 * 2**30  # beyond what the interpreter has: so that no case takes the machine's
_FILE = 2**29
_RAW = (
    "Traceback",
    "Warning",
    "Error executing job",
    "HYDRA_FULL_ERROR",
    "Error(",
    "full_key",
    "[W",
    "Fatal Python error",
)


@dataclass(frozen=True)
class Ended:
    """What became of a command."""

    code: int
    """Its exit code; below zero: the signal that killed it."""
    out: str
    err: str
    written: list[str] = field(default_factory=list)
    """Files outside the working directory that it opened for writing, made or removed."""

    def wrong(self, allowed: tuple[str, ...] = ()) -> str:
        """What kind of fault this is; empty if it is none. Two of one kind read alike, whatever their values."""
        if self.code == -signal.SIGXCPU or self.code == -signal.SIGALRM:
            return f"hangs: {_innermost(self.err, most_recent_first=True)}"
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}: {_innermost(self.err, most_recent_first=True)}"
        if "Traceback" in self.err + self.out:
            last = next(
                (line for line in reversed(self.err.splitlines()) if re.match(r"[\w.]+(Error|Exception)", line)), ""
            )
            return f"traceback: {_innermost(self.err)}: {_plain(last)}"
        for raw in _RAW:
            if raw in self.err + self.out:
                line = next(line for line in (self.err + self.out).splitlines() if raw in line)
                return f"raw words: {_plain(line)}"
        if self.code not in (0, 1, 2):
            return f"exit code {self.code}"
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        if len(errors) != (self.code != 0):
            return f"exit code {self.code} with {len(errors)} errors: {_plain(self.err[-200:])}"
        elsewhere = [line for line in self.written if not any(part in line for part in allowed)]
        return f"writes elsewhere: {_plain(', '.join(elsewhere))}" if elsewhere else ""


def _innermost(words: str, *, most_recent_first: bool = False) -> str:
    """The last line of grow's that a traceback names."""
    places = re.findall(r'File "[^"]*/(grow_cli/[^"]+)", line (\d+)', words)
    if not places:
        return words.strip().splitlines()[-1][:80] if words.strip() else "?"
    return ":".join(places[0 if most_recent_first else -1])


def _plain(line: str) -> str:
    """Without what differs from case to case."""
    line = re.sub(r"'[^']*'|\"[^\"]*\"|/[^\s,:]+", "'…'", line)
    return re.sub(r"-?\d[\d.,_]*(e[+-]?\d+)?", "#", line)[:160]


def warm() -> None:
    """Import what commands import: once, and not in every fork."""
    import grow_cli

    for module in walk_packages(grow_cli.__path__, "grow_cli."):
        if module.name != "grow_cli.__main__":
            import_module(module.name)
    for name in (
        "torch._dynamo",
        "torch.onnx",
        "hydra.main",
        "matplotlib.pyplot",
        "scipy.stats",
        "PIL.Image",
        "pandas",
    ):
        try:
            import_module(name)
        except ImportError:
            continue
    _compose_once()
    gc.freeze()  # a collection in a fork would copy every page


def _compose_once() -> None:
    """Have Hydra compose a command line once, not twice (first for the mode, then for the run).

    Two thirds of what a refused command line costs.
    """
    from hydra._internal.hydra import Hydra
    from hydra.types import RunMode

    from grow_cli.commands import composition

    composition.prepare_hydra()  # what it registers, each fork has
    Hydra.get_mode = lambda *_, **__: RunMode.RUN  # type: ignore[method-assign]


@dataclass(frozen=True)
class Command:
    """`grow ARGUMENTS` in `base/work`, whose entry `own` is the run folder.

    What it prints, and a home and a temporary folder that are empty, lie in `base`.
    """

    arguments: list[str]
    base: Path
    own: str

    @property
    def work(self) -> Path:
        return self.base / "work"

    def ended(self, code: int) -> Ended:
        """From what it left in `base`."""
        out, err, written = (self._text(name) for name in ("stdout", "stderr", "written"))
        return Ended(code, out, err, sorted(set(written.splitlines())))

    def _text(self, name: str) -> str:
        path = self.base / name
        return path.read_text(errors="replace") if path.exists() else ""


def call(commands: list[Command]) -> list[Ended]:
    """How the commands end, one after another in one fork; after one that takes its process along, the rest in another."""
    ended: list[Ended] = []
    while len(ended) < len(commands):
        ended += _call_until_one_dies(commands[len(ended) :])
    return ended


def _call_until_one_dies(commands: list[Command]) -> list[Ended]:
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _prepare_process()
            for command in commands:
                _prepare(command)
                os.write(writing, bytes([_grow(command.arguments) & 255]))
        finally:
            os._exit(70)
    os.close(writing)
    codes: list[int] = []
    while len(codes) < len(commands):
        if not select.select([reading], [], [], _WALL)[0]:
            os.kill(child, signal.SIGALRM)
            select.select([reading], [], [], 5)  # until it has said where it is
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            codes.append(-signal.SIGALRM)
            break
        told = os.read(reading, 1)
        if not told:
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            break
        codes.append(told[0])
    else:
        os.waitpid(child, 0)
    os.close(reading)
    return [command.ended(code) for command, code in zip(commands, codes, strict=False)]


def _prepare_process() -> None:
    warnings.resetwarnings()
    warnings.simplefilter("default")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for name in ("GROW_DEBUG", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)
    _watch_writes()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + _MEMORY, here + _MEMORY))


def _prepare(command: Command) -> None:
    base, work = command.base, command.work
    _watched.update(log=-1)
    for name in ("home", "tmp"):
        (base / name).mkdir(exist_ok=True)
    for number, name in ((1, "stdout"), (2, "stderr")):
        opened = os.open(base / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ |= {"HOME": str(base / "home"), "TMPDIR": str(base / "tmp"), "GROW_DATA_DIR": str(base / "home")}
    tempfile.tempdir = None
    warnings.simplefilter("default")  # a module's memory of what it has warned of would hide it from later cases
    sys.argv = ["grow"]
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="replace", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)
    faulthandler.enable(file=2, all_threads=False)
    for number in (signal.SIGXCPU, signal.SIGALRM):
        faulthandler.register(number, file=2, all_threads=False, chain=True)
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + SECONDS, resource.RLIM_INFINITY))
    os.chdir(work)
    log = os.open(base / "written", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    _watched.update(log=log, inside=tuple(os.path.realpath(path) + "/" for path in (work / command.own, base / "tmp")))


_watched: dict[str, Any] = {"log": -1, "inside": ()}


def _watch_writes() -> None:
    """From now on, note every path outside `inside` that this process opens for writing, makes, renames or removes."""
    changing = {"os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod"}

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if _watched["log"] < 0 or not (event == "open" or event in changing):
            return
        if event == "open":
            path, mode, flags = args
            by_flags = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
            paths = [path] if (flags & by_flags if mode is None else set(mode) & set("wax+")) else []
        else:
            paths = [path for path in args[:2] if isinstance(path, str | bytes | os.PathLike)]
        for path in paths:
            if isinstance(path, int):
                continue
            try:
                real = os.path.realpath(os.fsdecode(path))
            except (OSError, ValueError):
                continue
            if not (real + "/").startswith((*_watched["inside"], "/dev/")) and "__pycache__" not in real:
                os.write(_watched["log"], f"{event} {real}\n".encode(errors="replace"))

    sys.addaudithook(hook)


def _grow(arguments: list[str]) -> int:
    import traceback

    from grow_cli import cli

    try:
        cli.main(arguments)
    except SystemExit as left:
        code = left.code
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return int(code or 0)
