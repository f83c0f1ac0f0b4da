"""Texts as bytes: files read in the order of their paths, cut into parts, and seen through windows.

A sample is a window of `context` bytes, its target the same window one byte further on. Windows follow each other
without overlap, so that an epoch predicts each byte once; both are views of one stream of bytes, so that a split needs
one byte of memory per byte of text.

| files | training, validation and test part |
| --- | --- |
| `BY_PATH` or more | whole files, by a hash of the file's path |
| fewer | each file is cut by position: its end is test, the part before that validation |
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grow_cli.data.splits import bits_of
from grow_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from grow_cli.data.base import RawData

BY_PATH = 100
"""Files from which on whole files are drawn: with fewer, a part of a twentieth could easily get none."""


@dataclass(frozen=True)
class File:
    """One text."""

    name: str
    """Its path below the corpus' folder, with `/`."""
    content: bytes


def python_files(root: Path) -> list[File]:
    """The Python sources of a standard library: no tests, nothing that was installed, nothing that is made on a machine."""
    left_out = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
    sources = [path for path in _below(root, left_out) if path.suffix == ".py"]
    # _sysconfigdata…: how this interpreter was built, on whose machine
    return _read(root, [path for path in sources if not path.name.startswith("_sysconfigdata")])


def text_files(root: Path, pattern: str) -> list[File]:
    """One file, or those below a folder whose name fits the pattern, hidden ones left out; UserError where there is none."""
    if root.is_file():
        return _read(root.parent, [Path(root.name)])
    if not root.is_dir():
        raise UserError(f"dataset.root={root}: there is no such file or folder: name a text, or a folder of texts")
    found = [path for path in _below(root) if fnmatch.fnmatchcase(path.name, pattern)]
    if not found:
        raise UserError(
            f"dataset.root={root}: no file in it matches dataset.pattern={pattern!r}: give another pattern or another folder"
        )
    return _read(root, found)


def _below(root: Path, left_out: frozenset[str] = frozenset()) -> list[Path]:
    """Files at any depth, relative, in the order of their paths, but for hidden ones; links to folders are not followed."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in left_out]
        found += [(Path(folder) / name).relative_to(root) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: path.as_posix())


def _read(root: Path, paths: list[Path]) -> list[File]:
    try:
        return [File(path.as_posix(), (root / path).read_bytes()) for path in paths]
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): check the folder of the texts") from error


def digest(files: list[File]) -> dict[str, Any]:
    """What tells a corpus from every other: SHA-256 over names, lengths and contents, and how much there is of it."""
    of_all = hashlib.sha256()
    for file in files:
        of_all.update(f"{file.name}\0{len(file.content)}\n".encode(errors="surrogateescape"))
        of_all.update(file.content)
    return {"sha256": of_all.hexdigest(), "files": len(files), "bytes": sum(len(file.content) for file in files)}


def cut(files: list[File], validation: float, test: float, seed: int) -> dict[str, bytes]:
    """The bytes of `train`, `val` and `test`; `validation` is a fraction of what is not test, `seed` chooses it."""
    parts: dict[str, list[bytes]] = {"train": [], "val": [], "test": []}
    for file in files:
        if len(files) >= BY_PATH:
            parts[_part_of(file.name, validation, test, seed)].append(file.content)
            continue
        tested = round(len(file.content) * (1 - test))
        trained = round(tested * (1 - validation))
        for part, start, end in (("train", 0, trained), ("val", trained, tested), ("test", tested, None)):
            parts[part].append(file.content[start:end])
    return {part: b"".join(pieces) for part, pieces in parts.items()}


def _part_of(name: str, validation: float, test: float, seed: int) -> str:
    if _uniform(f"test/{name}") < test:  # whatever the seed: the test part stays the same
        return "test"
    return "val" if _uniform(f"validation/{seed}/{name}") < validation else "train"


def _uniform(text: str) -> float:
    """A number from 0 to 1 that depends on the text alone."""
    return bits_of(text) / 2**56


def raw_text(parts: dict[str, bytes], context: int, corpus: dict[str, Any]) -> RawData:
    """Windows over each part; UserError where one is too short for a window."""
    import torch

    from grow_cli.data.base import RawData

    found: dict[str, tuple[Tensor, Tensor]] = {}
    for part, content in parts.items():
        if not content and part == "val":  # dataset.validation=0
            continue
        if len(content) <= context:
            name = {"val": "validation"}.get(part, part)
            raise UserError(
                f"dataset.context={context}: the {name} part has {len(content):,} of the corpus' {corpus['bytes']:,} bytes, "
                f"and a window with the byte after it needs {context + 1:,}: lower dataset.context, or give more text"
            )
        found[part] = windows(torch.from_numpy(np.frombuffer(content, np.uint8).copy()), context)
    return RawData(*found["train"], *found["test"], task="language", held_out=found.get("val"), corpus=corpus)


def windows(stream: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Views (N, context) of a stream of bytes and of the same, one byte on; what is left over at the end is not seen."""
    n = (len(stream) - 1) // context
    return stream[: n * context].view(n, context), stream[1 : n * context + 1].view(n, context)


def moved(x: Tensor, device: Any) -> tuple[Tensor, Tensor]:
    """The windows and targets on a device, as views of one stream there; `x` is the first of what `windows` made."""
    return windows(x.as_strided((x.numel() + 1,), (1,)).to(device), x.shape[1])
