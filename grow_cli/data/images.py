"""Image files as uint8 tensors.

What is done to each image, in this order: EXIF orientation is applied, transparency is composed on a grey level, a grey
image stays grey and any other becomes RGB, and with `size` it is scaled and cropped. Of several frames the first is read.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from grow_cli.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

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


def decode(paths: Sequence[str | Held], decoding: Decoding) -> Tensor:
    """(N, C, H, W) uint8; C is 1 if every image is grey, else 3."""
    for shape in shapes(paths, decoding):
        out = torch.empty(shape, dtype=torch.uint8)
        with contextlib.suppress(Coloured):
            fill(paths, decoding, shape, out.numpy().__setitem__)
            break
    return out


def shapes(paths: Sequence[str | Held], decoding: Decoding) -> Iterator[tuple[int, int, int, int]]:
    """(N, C, H, W) by the first image; then, where that one is grey, with room for colours."""
    with _without_pillows_words():
        channels, height, width = _pixels(paths[0], decoding).shape
    for c in range(channels, 4, 2):
        yield len(paths), c, height, width


@contextlib.contextmanager
def _without_pillows_words() -> Iterator[None]:
    """Silences Pillow's warnings and log in all threads; `grow` reports unreadable pixels itself."""
    log = logging.getLogger("PIL")
    level = log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            log.setLevel(level)


class Coloured(Exception):
    """An image has colours where there is room for grey alone."""


def fill(
    paths: Sequence[str | Held],
    decoding: Decoding,
    shape: tuple[int, int, int, int],
    put: Callable[[int, np.ndarray], object],
) -> None:
    """Hand each image and its place on, in any order and from several threads; Coloured where `shape` (N, C, H, W) is grey's."""
    _, room, rows, columns = shape

    def decode_from(start: int) -> None:
        for i in range(start, min(start + _CHUNK, len(paths))):
            pixels = _pixels(paths[i], decoding)
            if pixels.shape[1:] != (rows, columns):
                height, width = pixels.shape[1:]
                raise UserError(
                    f"the images have several sizes ({paths[0]} has {columns}×{rows} pixels, {paths[i]} "
                    f"{width}×{height}): scale them to one with dataset.size=<pixels a side>"
                )
            if len(pixels) > room:
                raise Coloured
            put(i, pixels)

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    with _without_pillows_words():
        try:
            chunks = [pool.submit(decode_from, start) for start in range(0, len(paths), _CHUNK)]
            _wait_for(chunks, len(paths))
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
    """Silences what libtiff writes directly to the process's stderr: `grow` reports the consequence itself."""
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


def _wait_for(chunks: list[Future[None]], total: int) -> None:
    # in order; with a bar on a terminal once this has taken so long that a person wonders
    start = time.monotonic()
    bar: Progress | None = None
    try:
        for i, chunk in enumerate(chunks):
            chunk.result()
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
