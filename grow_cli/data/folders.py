"""A folder of images as one split each for training and testing, decoded once. `trees` says which images it holds.

The decoded images are one file per folder (absolute path and options) under `$XDG_CACHE_HOME/grow` or `~/.cache/grow`,
which all jobs share (`decoded`). It holds the folder's fingerprint: names, sizes, inodes, and times of content and of
change, so that any change makes it stale.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from grow_cli.data.base import RawData
from grow_cli.data.decoded import Decoded, Shape, alone, open_decoded, size_of, write_decoded
from grow_cli.data.images import Coloured, Decoding, decode, fill, shapes
from grow_cli.data.mapped import fits
from grow_cli.data.trees import Tree, list_tree
from grow_cli.errors import UserError
from grow_cli.files import cache_folder

_log = logging.getLogger(__name__)
_FORMAT = "2"  # of the cache, a part of the fingerprint: raised whenever the same file gives other pixels
_TICK_SECONDS = 0.02  # file systems tell no two changes apart that lie closer together


def read_tree(
    root: Path, size: int | None, background: int = 255, test_seed: int = 0, storage: str = "auto"
) -> RawData:
    """The images of the folder, scaled and centre-cropped to `size` pixels a side if that is given.

    :param background: the grey level behind transparent pixels
    :param test_seed: of the choice of the test part, where the folder has none
    :param storage: `mapped`: there must be a file
    """
    root, decoding = Path(os.path.abspath(root)), Decoding(size, background)
    tree = _settled(root, test_seed)
    kept = _kept(_file(root, decoding), tree, decoding, storage)
    x = decode(tree.paths, decoding) if kept is None else kept.pixels
    y, n = torch.tensor([label for _, label in tree.images]), tree.train
    image = decoding.words(x.shape[1])
    return RawData(x[:n], y[:n], x[n:], y[n:], classes=tree.classes, image=image, test_only=n == 0, decoded=kept)


def _settled(root: Path, test_seed: int) -> Tree:
    """The tree, listed when its last change is so long ago that a later one will have another time."""
    tree = list_tree(root, test_seed, _FORMAT)
    if abs(time.time_ns() - tree.changed) < _TICK_SECONDS * 1e9:
        time.sleep(_TICK_SECONDS)
        tree = list_tree(root, test_seed, _FORMAT)
    return tree


def _file(root: Path, decoding: Decoding) -> Path:
    key = hashlib.sha256(f"{root}\0{decoding}".encode(errors="surrogateescape")).hexdigest()[:32]
    return cache_folder() / "grow" / "image_folder" / f"{key}.images"


def _kept(path: Path, tree: Tree, decoding: Decoding, storage: str) -> Decoded | None:
    """The file, decoded now if need be; None where none can be written and memory has room for the images."""
    found = _opened(path, tree)
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path):
            found = _opened(path, tree)  # of a job that was first
            if found is None:
                _write(path, tree, decoding)
                found = _opened(path, tree)
    except OSError as error:
        _check_memory(path, tree, decoding, storage, error)
        _log.warning("no cache written (%s): the images will be decoded again next time", error)
    return found


def _opened(path: Path, tree: Tree) -> Decoded | None:
    try:
        return open_decoded(path, tree.fingerprint)
    except (OSError, ValueError) as error:  # whatever is wrong with it, the images are still there
        _log.warning("the cache %s cannot be read (%s): decoding the images again", path, error)
        return None


def _write(path: Path, tree: Tree, decoding: Decoding) -> None:
    for shape in shapes(tree.paths, decoding):
        with suppress(Coloured):
            write_decoded(path, tree.fingerprint, shape, partial(fill, tree.paths, decoding, shape))
            break
    path.with_suffix(".pt").unlink(missing_ok=True)  # what older versions kept


def _check_memory(path: Path, tree: Tree, decoding: Decoding, storage: str, error: OSError) -> None:
    """UserError where the images cannot be held in memory instead of a file."""
    shape: Shape = next(iter(shapes(tree.paths, decoding)))
    need = size_of(shape)
    if storage == "mapped" or not fits(need, need, torch.device("cpu")):
        raise UserError(
            f"the decoded images take {need / 1e9:.1f} GB and cannot be kept in {path.parent} ({error.strerror or error}): make "
            "room there, set XDG_CACHE_HOME to a folder that has it, or scale the images down with dataset.size"
        ) from error
