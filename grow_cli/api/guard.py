"""A run inside another program: process-wide settings are restored when it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grow_cli import console
from grow_cli.errors import Interrupted


@contextmanager
def composing() -> Iterator[None]:
    """While a configuration is composed: Hydra's instance and its environment variable are the caller's again afterwards."""
    from hydra.core.global_hydra import GlobalHydra

    name = "HYDRA_FULL_ERROR"
    before, own = os.environ.get(name), GlobalHydra.instance().hydra
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = own
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextmanager
def undisturbed() -> Iterator[None]:
    """While a run trains: torch's threads, precision, denormals and random streams are the caller's again afterwards."""
    import torch

    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    cudnn, flushed = torch.backends.cudnn.allow_tf32, bool(torch.tensor(1e-39) * 1.0 == 0)
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)
            torch.backends.cudnn.allow_tf32 = cudnn
            torch.set_flush_denormal(flushed)


@contextmanager
def interruptible(folder: Path, again: str = "") -> Iterator[None]:
    """Ctrl-C, or a notebook's stop button, raises KeyboardInterrupt, with a message on how to continue."""
    try:
        yield
    except Interrupted as error:
        if error.signal_number != signal.SIGINT:
            raise
        go_on = again or f"go on with grow.resume({str(folder)!r})"
        raise KeyboardInterrupt(f"interrupted: {go_on}") from None


@contextmanager
def silent(*, warnings: bool = False) -> Iterator[None]:
    """The tables at the end of a command are not shown, and, where asked for, warnings neither."""
    consoles = [console.out, console.err] if warnings else [console.out]
    before = [(shown, shown.quiet) for shown in consoles]
    for shown in consoles:
        shown.quiet = True
    try:
        yield
    finally:
        for shown, quiet in before:
            shown.quiet = quiet
