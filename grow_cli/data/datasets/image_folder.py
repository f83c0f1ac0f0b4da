"""Any folder of images, a folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grow_cli.data.base import DatasetOption, RawData
from grow_cli.files import expanded
from grow_cli.keys import key
from grow_cli.registry import option


@option("dataset", "image_folder")
@dataclass
class ImageFolder(DatasetOption):
    """The images under `train/<class>/` and `test/<class>/` (or `val/`), or under `<class>/` alone; decoded once, then cached.

    In a folder with only classes a fifth of each class is the test part. EXIF orientation is applied, transparency is
    composed on `background`. The result is (1, H, W) if every image is grey, else (3, H, W). Hidden files and files
    of file managers (Thumbs.db, desktop.ini, __MACOSX) are ignored.
    """

    photographs = True

    path: str | None = key(None, role="data", path=True)
    """The folder with train/ and test/, or with the classes; null: data_dir itself."""
    size: int | None = key(None, at_least=1, unit="pixel", null="to leave the images as they are")
    """Scale and centre-crop every image to this many pixels a side; null: all images have one size already."""
    background: int = key(255, at_least=0, at_most=255)
    """Grey level behind transparent pixels, from 0 (black) to 255 (white)."""
    test_seed: int = key(0, at_least=0, at_most=2**63 - 1, role="split")
    """Seed for choosing the test part if the folder has none; independent of all other seeds."""
    storage: str = key("auto", one_of=("auto", "memory", "mapped"), role="speed")
    """Where the decoded images lie during a run: all in memory, or in their file, of which each batch is read; auto: in the file
    where they would take more than half of the memory that is free. Results are the same."""

    def load(self, data_dir: Path) -> RawData:
        from grow_cli.data.folders import read_tree

        root = expanded(self.path) if self.path else data_dir
        return read_tree(root, self.size, self.background, self.test_seed, self.storage)
