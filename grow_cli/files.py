"""Writing so that nothing half-written is ever read as whole: temporary file, fsync, rename."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file beside `path`, sync it, and rename it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
    finally:
        if temporary.exists():
            temporary.unlink()
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """A whole text file at once, or none."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def expanded(path: str | Path) -> Path:
    """From the root on, ~ and ~user replaced where they stand for something (in a container, a user may have no home)."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def cache_folder() -> Path:
    """Where what can be made again is kept; without a home, a folder of the user's in the system's temporary one."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    home = os.path.expanduser("~")
    own = Path(tempfile.gettempdir()) / f"grow-{os.getuid()}" if home == "~" else Path(home) / ".cache"
    return Path(chosen) if chosen else own


def sync(path: Path) -> None:
    """fsync a file, or a folder (so that a rename in it survives a power cut)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
