"""A tree `train/<class>/*`, `test/<class>/*` of images as one uint8 tensor per split, decoded once and then cached.

The cache is one file per tree (absolute path and options) under `$XDG_CACHE_HOME/grow` or `~/.cache/grow`. It holds
the tree's fingerprint: names, sizes and modification times of all files, so that any change makes it stale.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from grow_cli.data.base import RawData
from grow_cli.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

_log = logging.getLogger(__name__)
_FORMAT = "1"  # of the cache; counts as part of the fingerprint
_CHUNK = 256  # images a thread decodes at a time: a small one takes less time than a task's bookkeeping
_BAR_AFTER_SECONDS = 2.0


@dataclass(frozen=True)
class _Tree:
    classes: tuple[str, ...]
    images: list[tuple[str, int]]
    """Path and class of each, those of train/ first, in the order of class and file name."""
    train: int
    """How many of them are in train/."""
    fingerprint: str


def read_tree(root: Path, size: int | None) -> RawData:
    """The images of the tree, scaled and centre-cropped to `size` pixels a side if that is given."""
    root = Path(os.path.abspath(root))
    tree = _list(root)
    cache = _cache_file(root, size)
    content = _read_cache(cache, tree.fingerprint)
    if content is None:
        x = _decode([path for path, _ in tree.images], size)
        content = {"fingerprint": tree.fingerprint, "x": x, "y": torch.tensor([label for _, label in tree.images])}
        _write_cache(cache, content)
    x, y, n = content["x"], content["y"], tree.train
    return RawData(x[:n], y[:n], x[n:], y[n:], classes=tree.classes)


def _list(root: Path) -> _Tree:
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise UserError(
                f"{root} has no folder {split}/: put the images into {root}/train/<class>/ and {root}/test/<class>/, "
                "or set dataset.path to the folder that holds train/ and test/"
            )
    try:
        classes = _entries(root / "train", folders=True)
        test_classes = _entries(root / "test", folders=True)
        odd = sorted({entry.name for entry in classes} ^ {entry.name for entry in test_classes})
        if odd:
            raise UserError(
                f"{root}: the class folder {odd[0]} is in only one of train/ and test/: both must have the same classes"
            )
        if len(classes) < 2:
            raise UserError(f"{root}/train holds {len(classes)} class folders: there must be 2 or more")
        digest = hashlib.sha256(_FORMAT.encode())
        found: list[tuple[str, int]] = []
        train = 0
        for folders in (classes, test_classes):
            train = len(found)
            for label, folder in enumerate(folders):
                images = _entries(folder.path, folders=False)
                if not images:
                    raise UserError(f"{folder.path} holds no image: add some or remove the class from train/ and test/")
                for image in images:
                    status = image.stat()
                    line = f"{image.path}\0{status.st_size}\0{status.st_mtime_ns}\n"
                    digest.update(line.encode(errors="surrogateescape"))
                    found.append((image.path, label))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): check the folder") from error
    return _Tree(tuple(entry.name for entry in classes), found, train, digest.hexdigest())


def _entries(folder: str | Path, folders: bool) -> list[os.DirEntry[str]]:
    # sorted and not hidden; all must be folders, or all files
    entries = sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in entries:
        if entry.is_dir() != folders:
            raise UserError(
                f"{entry.path} is a {'file, not a class folder' if folders else 'folder, not an image'}: "
                "images must lie at train/<class>/<file> and test/<class>/<file>"
            )
    return entries


def _decode(paths: Sequence[str], size: int | None) -> Tensor:
    """(N, C, H, W) uint8; C is 1 if every image is grey, else 3."""
    first = _pixels(paths[0], size)
    pixels = _fill(paths, size, first.shape)
    if pixels is None:
        pixels = _fill(paths, size, (3, *first.shape[1:]))
    assert pixels is not None
    return pixels


def _fill(paths: Sequence[str], size: int | None, shape: tuple[int, ...]) -> Tensor | None:
    # None as soon as an image turns out to have colours that `shape` has no room for
    out = torch.empty((len(paths), *shape), dtype=torch.uint8)
    rows = out.numpy()

    def decode_from(start: int) -> bool:
        for i in range(start, min(start + _CHUNK, len(paths))):
            pixels = _pixels(paths[i], size)
            if pixels.shape[1:] != shape[1:]:
                height, width = pixels.shape[1:]
                raise UserError(
                    f"the images have several sizes ({paths[0]} has {shape[2]}×{shape[1]} pixels, {paths[i]} "
                    f"{width}×{height}): scale them to one with dataset.size=<pixels a side>"
                )
            if len(pixels) > shape[0]:
                return False
            rows[i] = pixels
        return True

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        chunks = [pool.submit(decode_from, start) for start in range(0, len(paths), _CHUNK)]
        return out if all(_with_progress(chunks, len(paths))) else None
    finally:
        pool.shutdown(cancel_futures=True)


def _pixels(path: str, size: int | None) -> np.ndarray:
    """(1, H, W) uint8 of a grey image, (3, H, W) of any other."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise UserError(f"{path} has more than 8 bits per pixel: save it with 8")
            mode = "L" if image.mode in ("1", "L") else "RGB"
            flat = image if image.mode == mode else image.convert(mode)
            if size is not None:
                flat = ImageOps.fit(flat, (size, size), Image.Resampling.BILINEAR)
            pixels = np.asarray(flat)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image: remove it (hidden files are ignored)") from error
    except Exception as error:  # every format's decoder has exceptions of its own
        raise UserError(f"{path} cannot be read as an image ({error}): replace or remove it") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _with_progress(chunks: list[Future[bool]], total: int) -> Iterator[bool]:
    # results in order; a bar on a terminal once this has taken so long that a person wonders
    start = time.monotonic()
    bar: Progress | None = None
    try:
        for i, chunk in enumerate(chunks):
            yield chunk.result()
            if bar is None and sys.stderr.isatty() and time.monotonic() - start > _BAR_AFTER_SECONDS:
                from rich.console import Console
                from rich.progress import MofNCompleteColumn, Progress

                columns = (*Progress.get_default_columns(), MofNCompleteColumn())
                bar = Progress(*columns, console=Console(stderr=True), transient=True)
                bar.add_task("decoding images", total=total)
                bar.start()
            if bar is not None:
                bar.update(bar.task_ids[0], completed=min((i + 1) * _CHUNK, total))
    finally:
        if bar is not None:
            bar.stop()


def _cache_file(root: Path, size: int | None) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    key = hashlib.sha256(f"{root}\0size={size}".encode(errors="surrogateescape")).hexdigest()[:32]
    return base / "grow" / "image_folder" / f"{key}.pt"


def _read_cache(path: Path, fingerprint: str) -> dict[str, Any] | None:
    try:
        content = torch.load(path, weights_only=True)
        return content if content["fingerprint"] == fingerprint else None
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever is wrong with it, the images are still there
        _log.warning("the cache %s cannot be read (%s): decoding the images again", path, error)
        return None


def _write_cache(path: Path, content: dict[str, Any]) -> None:
    # renamed into place when it is whole and on the disk: a kill leaves the old cache, or none
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
    except (OSError, RuntimeError) as error:
        _log.warning("no cache written (%s): the images will be decoded again next time", error)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
