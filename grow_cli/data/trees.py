"""The images in a folder: accepted layouts, what is left out, and the test part of a flat folder.

| in the folder | training part | test part |
| --- | --- | --- |
| `train/<class>/*`, `test/<class>/*` | train/ | test/ |
| `train/<class>/*` and `val/`, `valid/` or `validation/` | train/ | that one |
| `<class>/*` and none of these names | the rest | a fifth of each class, chosen by the file names and a seed |
| `test/<class>/*` alone | none: a net can be measured, not trained | test/ |
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from grow_cli.console import warn
from grow_cli.errors import UserError

_TESTS = ("test", "val", "valid", "validation")
"""Names of a test part; the first that is there is it."""
_JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "@eadir", "lost+found", "icon\r"}
"""What file managers and archives leave behind, in lower case; hidden files (.DS_Store) are ignored, too."""
_TEST_PART = 5  # a flat folder: one of so many images of each class
_ACCEPTED = "images must be at train/<class>/<file> and test/<class>/<file> (or val/ instead of test/), or only at <class>/<file>"


@dataclass(frozen=True)
class Tree:
    """The images of a folder."""

    classes: tuple[str, ...]
    images: list[tuple[str, int]]
    """Path and class of each, the training part first, in the order of class and file name."""
    train: int
    """How many of them are in the training part."""
    fingerprint: str
    """Of the files' names, sizes, times and inodes: it changes whenever a file does."""
    changed: int
    """When the last of them changed, in nanoseconds (`st_ctime_ns`)."""

    @property
    def paths(self) -> list[str]:
        """The paths of the images."""
        return [path for path, _ in self.images]


def list_tree(root: Path, test_seed: int, cache_format: str) -> Tree:
    """The images of a folder; UserError where it has none of the layouts.

    :param test_seed: of the choice of a flat folder's test part
    :param cache_format: counts as part of the fingerprint
    """
    try:
        classes, parts = _parts(root, test_seed)
        digest, changed = hashlib.sha256(cache_format.encode()), 0
        found: list[tuple[str, int]] = []
        for part in parts:
            for label, images in enumerate(part):
                for image in images:
                    s = image.stat()
                    changed = max(changed, s.st_ctime_ns)
                    line = f"{image.path}\0{s.st_size}\0{s.st_mtime_ns}\0{s.st_ctime_ns}\0{s.st_ino}\n"
                    digest.update(line.encode(errors="surrogateescape"))
                    found.append((image.path, label))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): check the folder") from error
    return Tree(tuple(classes), found, sum(map(len, parts[0])), digest.hexdigest(), changed)


_Part = list[list[os.DirEntry[str]]]
"""Images by class."""


def _parts(root: Path, test_seed: int) -> tuple[list[str], tuple[_Part, _Part]]:
    """The names of the classes, the training part and the test part."""
    tests = [name for name in _TESTS if (root / name).is_dir()]
    trains = (root / "train").is_dir()
    if not trains and not tests:
        return _flat(root, test_seed)
    if not tests:
        raise UserError(
            f"{root} has no folder test/: put the images into {root}/train/<class>/ and {root}/test/<class>/ (or val/), "
            "or set dataset.path to the folder that holds train/ and test/"
        )
    if tests[0] != "test":
        warn(f"{root} has no test/: {tests[0]}/ is used as the test part, and validation is cut from train/")
    elif trains and tests[1:]:
        warn(f"{root}/{tests[1]} is not read: validation is cut from train/")
    by_class = {name: _by_class(root / name) for name in (*(["train"] if trains else []), tests[0])}
    first, last = by_class[tests[0]], by_class.get("train", by_class[tests[0]])
    odd = sorted(first.keys() ^ last.keys())
    if odd:
        raise UserError(
            f"{root}: the class folder {odd[0]} is in only one of train/ and {tests[0]}/: both must have the same classes"
        )
    return list(first), (list(last.values()) if trains else [], list(first.values()))


def _flat(root: Path, test_seed: int) -> tuple[list[str], tuple[_Part, _Part]]:
    """A folder of class folders: the images whose names hash lowest are the test part, so that few move when one is added."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: set dataset.path to a folder of images; {_ACCEPTED}")
    by_class = _by_class(root, files=True)
    train: _Part = []
    test: _Part = []
    for name, images in by_class.items():
        if len(images) < 2:
            raise UserError(f"{root / name} holds 1 image, but each class needs 2 or more, one of them to test on")

        def rank(image: os.DirEntry[str], name: str = name) -> bytes:
            return hashlib.sha256(f"{test_seed}/{name}/{image.name}".encode(errors="surrogateescape")).digest()

        n = max(1, round(len(images) / _TEST_PART))
        chosen = {image.name for image in sorted(images, key=rank)[:n]}
        train.append([image for image in images if image.name not in chosen])
        test.append([image for image in images if image.name in chosen])
    n = sum(map(len, test))
    warn(
        f"{root} has no train/ and test/: {n:,} of {n + sum(map(len, train)):,} images, a fifth of each class, become the "
        f"test part (dataset.test_seed={test_seed})"
    )
    return list(by_class), (train, test)


def _by_class(folder: Path, *, files: bool = False) -> dict[str, list[os.DirEntry[str]]]:
    """Class → its images, both sorted. `files`: those beside the class folders are left out, and not refused."""
    classes = _entries(folder, folders=True, others=files)
    if len(classes) < 2:
        raise UserError(f"{folder} holds {len(classes)} class folders: there must be 2 or more; {_ACCEPTED}")
    found = {}
    for entry in classes:
        found[entry.name] = _entries(entry.path, folders=False)
        if not found[entry.name]:
            raise UserError(f"{entry.path} holds no images: add some, or remove the class from every part")
    return found


def _entries(folder: str | Path, folders: bool, *, others: bool = False) -> list[os.DirEntry[str]]:
    # sorted, without what no user put there; all must be folders, or all files
    entries = sorted(
        (e for e in os.scandir(folder) if not e.name.startswith(".") and e.name.lower() not in _JUNK),
        key=lambda e: e.name,
    )
    for entry in entries:
        if entry.is_dir() != folders and not others:
            raise UserError(
                f"{entry.path} is a {'file, not a class folder' if folders else 'folder, not an image'}: {_ACCEPTED}"
            )
    return [entry for entry in entries if entry.is_dir() == folders]
