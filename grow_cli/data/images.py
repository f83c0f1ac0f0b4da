"""A folder of images as one uint8 tensor per split, decoded once and then cached. `trees` says which images it holds.

What is done to each image, in this order: EXIF orientation is applied, transparency is composed on a grey level, a grey
image stays grey and any other becomes RGB, and with `size` it is scaled and cropped. Of several frames the first is read.

The cache is one file per folder (absolute path and options) under `$XDG_CACHE_HOME/grow` or `~/.cache/grow`. It holds the
folder's fingerprint: names, sizes, inodes, and times of content and of change, so that any change makes it stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from grow_cli.data.base import RawData
from grow_cli.data.trees import Tree, list_tree
from grow_cli.errors import UserError
from grow_cli.files import cache_folder

if TYPE_CHECKING:
    from rich.progress import Progress

_log = logging.getLogger(__name__)
_FORMAT = "2"  # of the cache, a part of the fingerprint: raised whenever the same file gives other pixels
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Those that Pillow decodes by itself: EPS, say, would be handed to Ghostscript, which runs what is in the file."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what turns the image upright."""
_ORIENTATION = 0x0112
_CHUNK = 256  # images a thread decodes at a time: a small one takes less time than a task's bookkeeping
_BAR_AFTER_SECONDS = 2.0
_TICK_SECONDS = 0.02  # file systems tell no two changes apart that lie closer together
_stderr = threading.Lock()


@dataclass(frozen=True)
class Decoding:
    """How a file becomes pixels."""

    size: int | tuple[int, int] | None
    """Pixels a side, or width and height; None: images are left as they are."""
    background: int
    """The grey level behind transparent pixels, 0 to 255."""

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height, where there is a size."""
        assert self.size is not None
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def words(self, channels: int) -> dict[str, Any]:
        """`RawData.image`: for whoever must prepare images for the net without `grow`."""
        fitted = {
            "size": self.size,
            "fit": "the shorter side is scaled to the size, the longer one cropped equally at both ends (PIL.ImageOps.fit)",
            "filter": "bilinear (PIL.Image.Resampling.BILINEAR)",
        }
        return {
            "orientation": "EXIF applied",
            "background": self.background,
            "colour": "grey" if channels == 1 else "RGB",
            "frame": "the first",
            **(fitted if self.size is not None else {"size": None}),
        }


@dataclass(frozen=True)
class Held:
    """An image file that lies in memory."""

    name: str
    """How a sentence about it calls it."""
    content: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.name


def read_tree(root: Path, size: int | None, background: int = 255, test_seed: int = 0) -> RawData:
    """The images of the folder, scaled and centre-cropped to `size` pixels a side if that is given.

    :param background: the grey level behind transparent pixels
    :param test_seed: of the choice of the test part, where the folder has none
    """
    root, decoding = Path(os.path.abspath(root)), Decoding(size, background)
    tree = _settled(root, test_seed)
    cache = _cache_file(root, decoding)
    content = _read_cache(cache, tree.fingerprint)
    if content is None:
        x = decode([path for path, _ in tree.images], decoding)
        content = {"fingerprint": tree.fingerprint, "x": x, "y": torch.tensor([label for _, label in tree.images])}
        _write_cache(cache, content)
    x, y, n = content["x"], content["y"], tree.train
    image = decoding.words(x.shape[1])
    return RawData(x[:n], y[:n], x[n:], y[n:], classes=tree.classes, image=image, test_only=n == 0)


def read_images(paths: Sequence[str], decoding: Decoding, channels: int) -> Tensor:
    """(N, channels, H, W) uint8: a net's own number of channels, whatever the files have."""
    with _without_pillows_words():
        pixels = [_pixels(path, decoding) for path in paths]
    shapes = {image.shape[1:] for image in pixels}
    if len(shapes) > 1:
        height, width = sorted(shapes)[0]
        raise UserError(
            f"the images have several sizes ({width}×{height} among them): predict them one by one, or scale them to one"
        )
    return torch.stack([torch.from_numpy(_as_channels(image, channels)) for image in pixels])


def _as_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    if len(pixels) == channels:
        return np.array(pixels)
    if channels == 3:
        return np.repeat(pixels, 3, axis=0)
    return np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))[None].copy()


def _settled(root: Path, test_seed: int) -> Tree:
    """The tree, listed when its last change is so long ago that a later one will have another time."""
    tree = list_tree(root, test_seed, _FORMAT)
    if abs(time.time_ns() - tree.changed) < _TICK_SECONDS * 1e9:
        time.sleep(_TICK_SECONDS)
        tree = list_tree(root, test_seed, _FORMAT)
    return tree


def decode(paths: Sequence[str | Held], decoding: Decoding) -> Tensor:
    """(N, C, H, W) uint8; C is 1 if every image is grey, else 3."""
    with _without_pillows_words():
        first = _pixels(paths[0], decoding)
        pixels = _fill(paths, decoding, first.shape)
        if pixels is None:
            pixels = _fill(paths, decoding, (3, *first.shape[1:]))
    assert pixels is not None
    return pixels


@contextlib.contextmanager
def _without_pillows_words() -> Iterator[None]:
    """Its warnings and log are about side information; whether the pixels can be read is said by us. In all threads."""
    log = logging.getLogger("PIL")
    level = log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            log.setLevel(level)


def _fill(paths: Sequence[str | Held], decoding: Decoding, shape: tuple[int, ...]) -> Tensor | None:
    # None as soon as an image turns out to have colours that `shape` has no room for
    out = torch.empty((len(paths), *shape), dtype=torch.uint8)
    rows = out.numpy()

    def decode_from(start: int) -> bool:
        for i in range(start, min(start + _CHUNK, len(paths))):
            pixels = _pixels(paths[i], decoding)
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


def _pixels(path: str | Held, decoding: Decoding) -> np.ndarray:
    """(1, H, W) uint8 of a grey image, (3, H, W) of any other."""
    try:
        with Image.open(io.BytesIO(path.content) if isinstance(path, Held) else path, formats=_FORMATS) as image:
            if image.mode.startswith(("I", "F")):
                raise UserError(f"{path} has more than 8 bits per pixel: save it with 8")
            flat = _flat(_upright(image), decoding.background)
            if decoding.size is not None:
                flat = ImageOps.fit(flat, decoding.pixels, Image.Resampling.BILINEAR)
            pixels = np.asarray(flat)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path} is not an image in a format that grow reads ({', '.join(_FORMATS)}): convert or remove it "
            "(hidden files are ignored)"
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path} has (or claims to have) more than the {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels that grow reads: "
            "scale it down or remove it"
        ) from error
    except Exception as error:  # every format's decoder has exceptions of its own
        raise UserError(f"{path} cannot be read as an image ({error}): replace or remove it") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _upright(image: Image.Image) -> Image.Image:
    """As its camera was held."""
    with _quiet() if image.format == "TIFF" else contextlib.nullcontext():
        image.load()  # some formats turn it themselves, and then no longer say that it must be
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged side information: the pixels are there
        turn = None
    return image if turn is None else image.transpose(turn)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what libtiff writes to the process's stderr by itself: what it leads to is said by us."""
    with _stderr:
        try:
            kept = os.dup(2)
        except OSError:  # closed
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(null)


def _flat(image: Image.Image, background: int) -> Image.Image:
    """Grey or RGB, without transparency."""
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", image.size, (background,) * 3)
        image.paste(layer, mask=layer.getchannel("A"))
    return image if image.mode == mode else image.convert(mode)


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


def _cache_file(root: Path, decoding: Decoding) -> Path:
    key = hashlib.sha256(f"{root}\0{decoding}".encode(errors="surrogateescape")).hexdigest()[:32]
    return cache_folder() / "grow" / "image_folder" / f"{key}.pt"


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
