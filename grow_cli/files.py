"""File operations of a run: written whole or not at all, and never through a symbolic link that somebody else may have placed."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

_LINK = "it is a link, and links in a run folder are not followed"
_NO_FILE = "it is no ordinary file"
_TOO_LARGE = "it is larger than any that grow writes"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file beside `path`, sync it, and rename it to `path`.

    A link at `path` is replaced, not followed.
    """
    _replace(path, write, synced=True)
    sync(path.parent)


def write_text(path: Path, text: str, *, lasting: bool = True) -> None:
    """A whole text file at once, or none.

    :param lasting: it must outlive the machine, for which a disk takes some milliseconds; False where it must only be whole
    """
    if lasting:
        write_texts(path.parent, {path.name: text})
    else:
        _replace(path, _writing(text), synced=False)


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Text files of one folder, each whole or not at all; the folder is synced once."""
    for name, text in texts.items():
        _replace(folder / name, _writing(text), synced=True)
    sync(folder)


def _writing(text: str) -> Callable[[Path], object]:
    return lambda temporary: temporary.write_text(text, encoding="utf-8")


def _replace(path: Path, write: Callable[[Path], object], *, synced: bool) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        make_anew(temporary)
        write(temporary)
        if synced:
            sync(temporary)
        os.replace(temporary, path)
    finally:
        if temporary.exists():
            temporary.unlink()


def expanded(path: str | Path) -> Path:
    """From the root on, ~ and ~user replaced where they stand for something (in a container, a user may have no home)."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def address_from_root(address: str) -> str:
    """The address of a server, database or folder: a path on this machine becomes absolute, anything else stays as it is."""
    if address.startswith("sqlite:///") and not address.endswith(":memory:"):
        return f"sqlite:///{expanded(address.removeprefix('sqlite:///'))}"
    elsewhere = re.match(r"[A-Za-z][\w+.-]*:", address) or address in ("databricks", "databricks-uc", "uc")
    return address if elsewhere else str(expanded(address))


def cache_folder() -> Path:
    """Where what can be made again is kept; without a home, a folder of the user's in the system's temporary one."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    home = os.path.expanduser("~")
    own = Path(tempfile.gettempdir()) / f"grow-{os.getuid()}" if home == "~" else Path(home) / ".cache"
    return Path(chosen) if chosen else own


def append_text(path: Path, text: str) -> None:
    """Text at the end of a file, on the disk when this returns; OSError where the path is a link."""
    with os.fdopen(open_plainly(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "wb") as file:
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def make_anew(path: Path) -> None:
    """An empty file where nothing is, or what a kill has left: whoever opens it by name then writes into no other."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))


def make_folder(path: Path) -> Path:
    """The same path, which is a folder afterwards; OSError where a link, or something else, stands there."""
    path.mkdir(exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, _LINK, str(path))
    return path


def open_plainly(path: Path, flags: int) -> int:
    """The descriptor of an ordinary file that is no link; nothing is truncated. OSError otherwise."""
    try:
        # without O_NONBLOCK a pipe would wait for its other end
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, _LINK, str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, _NO_FILE, str(path))
    return descriptor


def open_lock(path: Path) -> int:
    """The descriptor of a lock's file, whose content stays as it is."""
    return open_plainly(path, os.O_RDWR | os.O_CREAT)


def read_bytes(path: Path, most: int, root: Path | None = None) -> bytes:
    """A whole ordinary file, as `open_to_read` opens it; OSError for one of more than `most` bytes."""
    with open_to_read(path, root) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, _TOO_LARGE, str(path))
        return file.read()


def open_to_read(path: Path, root: Path | None = None) -> BinaryIO:
    """An ordinary file, as bytes; OSError for anything else.

    :param root: no folder on the way from there to the file may be a link, either
    """
    for part in path.parents if root is not None else ():
        if part == root:
            break
        if part.is_symlink():
            raise OSError(errno.ELOOP, _LINK, str(part))
    return os.fdopen(open_plainly(path, os.O_RDONLY), "rb")


def is_plain(path: Path) -> bool:
    """Whether an ordinary file is there that is no link."""
    return os.path.isfile(path) and not os.path.islink(path)


def is_there(path: Path) -> bool:
    """Whether anything has this name, be it a link to nowhere."""
    return os.path.lexists(path)


def sync(path: Path) -> None:
    """fsync a file, or a folder (so that a rename in it survives a power cut)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shortest(path: Path) -> Path:
    """As it is typed from here: relative where it is below the working directory."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
