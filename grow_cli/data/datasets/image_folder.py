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
    """The images under `train/<class>/` and `test/<class>/`; decoded once, then read from a cache.

    The result is (1, H, W) if every image is grey, else (3, H, W). Hidden files are ignored, and so is what lies
    beside the two folders.
    """

    path: str | None = key(None, role="data", path=True)
    """The folder that holds train/ and test/; null: data_dir itself."""
    size: int | None = key(None, at_least=1, unit="pixel", null="to leave the images as they are")
    """Scale and centre-crop every image to so many pixels a side; null: they are of one size already."""

    def load(self, data_dir: Path) -> RawData:
        from grow_cli.data.images import read_tree

        return read_tree(expanded(self.path) if self.path else data_dir, self.size)
