"""A command in a fork of this process: what it printed, how it ended, and every file that it wrote outside its folder.

A fork costs a few hundredths of a second where a new interpreter costs seconds, and a case that hangs, dies by a signal or
leaves the process in disorder spoils no other.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import re
import resource
import signal
import sys
import tempfile
import time
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
_RAW = ("Traceback", "Warning", "Error executing job", "HYDRA_FULL_ERROR", "Error(", "[W", "Fatal Python error")


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
            last = next((line for line in reversed(self.err.splitlines()) if re.match(r"[\w.]+(Error|Exception)", line)), "")
            return f"traceback: {_innermost(self.err)}: {_plain(last)}"
        for raw in _RAW:
            if raw in self.err + self.out:
                line = next(line for line in (self.err + self.out).splitlines() if raw in line)
                return f"raw words: {_plain(line)}"
        if self.code not in (0, 1, 2):
            return f"exit code {self.code}"
        if self.err.count("error:") != (self.code != 0):
            return f"exit code {self.code} with {self.err.count('error:')} errors: {_plain(self.err[-200:])}"
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
    for name in ("torch._dynamo", "torch.onnx", "hydra.main", "matplotlib.pyplot", "scipy.stats", "PIL.Image", "pandas"):
        try:
            import_module(name)
        except ImportError:
            continue
    _compose_once()
    gc.freeze()  # a collection in a fork would copy every page


def _compose_once() -> None:
    """Have Hydra compose a command line once, not twice (first for the mode, then for the run), with one registration.

    Two thirds of what a refused command line costs.
    """
    from hydra._internal.hydra import Hydra
    from hydra.types import RunMode

    from grow_cli.commands import composition, train

    composition.prepare_hydra()
    Hydra.get_mode = lambda *_, **__: RunMode.RUN  # type: ignore[method-assign]
    train.prepare_hydra = lambda: None  # type: ignore[attr-defined]


def call(arguments: list[str], work: Path, base: Path, own: str) -> Ended:
    """`grow ARGUMENTS` in `work`, whose entry `own` is the run folder.

    What it prints, and a home and a temporary folder that are empty, lie in `base`.
    """
    out, err, written = (base / name for name in ("stdout", "stderr", "written"))
    (base / "home").mkdir(exist_ok=True)
    (base / "tmp").mkdir(exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            _prepare(out, err, written, work, base, own)
            code = _grow(arguments)
        finally:
            os._exit(code)
    code = _wait(child)
    texts = [path.read_text(errors="replace") if path.exists() else "" for path in (out, err, written)]
    return Ended(code, texts[0], texts[1], sorted(set(texts[2].splitlines())))


def _prepare(out: Path, err: Path, written: Path, work: Path, base: Path, own: str) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600), number)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.environ |= {"HOME": str(base / "home"), "TMPDIR": str(base / "tmp"), "GROW_DATA_DIR": str(base / "home")}
    for name in ("GROW_DEBUG", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)
    tempfile.tempdir = None
    warnings.resetwarnings()
    warnings.simplefilter("default")
    sys.argv = ["grow"]
    os.chdir(work)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="replace")
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="replace", buffering=1)
    _watch_writes(written, work / own, base / "tmp")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + _MEMORY, here + _MEMORY))
    faulthandler.enable(file=2, all_threads=False)
    faulthandler.register(signal.SIGXCPU, file=2, all_threads=False, chain=True)
    faulthandler.register(signal.SIGALRM, file=2, all_threads=False, chain=True)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))


def _watch_writes(log: Path, *allowed: Path) -> None:
    """Note every path outside `allowed` that this process opens for writing, makes, renames or removes, from now on."""
    note = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    inside = tuple(os.path.realpath(path) + "/" for path in allowed)
    changing = {"os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod"}

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)) if mode is None else bool(set(mode) & set("wax+"))
            paths = [path] if writes else []
        else:
            paths = [p for p in args[:2] if isinstance(p, str | bytes | os.PathLike)] if event in changing else []
        for path in paths:
            if isinstance(path, int):
                continue
            try:
                real = os.path.realpath(os.fsdecode(path))
            except (OSError, ValueError):
                continue
            if not (real + "/").startswith(inside) and not real.startswith("/dev/") and "__pycache__" not in real:
                os.write(note, f"{event} {real}\n".encode(errors="replace"))

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
        stream.flush()
    return int(code or 0)


def _wait(child: int) -> int:
    until, pause = time.monotonic() + _WALL, 0.002
    asked = False
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL if asked else signal.SIGALRM)
            asked, until = True, until + 5
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)
