"""Code that `grow export` copies into `model.py` to turn files into inputs: nothing here may need grow.

`_numbers_prepared` writes the constants into that file; those here are placeholders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

COLUMNS: list[dict[str, Any]] = []
SIZE = (0, 0)
CHANNELS = 3
BACKGROUND = 255
SPREAD, TARGET_MEAN = 1.0, 0.0


def encode(rows: list[dict[str, Any]]) -> Tensor:
    """Rows of the table, dicts from column to cell, as the dataset holds them: (n, numbers) float32. KeyError without one."""
    encoded = []
    for row in rows:
        numbers: list[float] = []
        for column in COLUMNS:
            cell = row[column["name"]]
            empty = cell is None or cell == "" or cell != cell
            if column["kind"] == "number":
                numbers.append(column["fill"] if empty else float(cell))
                numbers += [float(empty)] * column["missing"]
            else:
                whole = isinstance(cell, float) and not empty and cell.is_integer()
                text = "" if empty else str(int(cell)) if whole else str(cell).strip()
                numbers += [float(text == value) for value in column["values"]]
        encoded.append(numbers)
    return torch.tensor(encoded)


def read(path: str | Path) -> Tensor:
    """An image file as the dataset holds it, (1, channels, height, width) bytes; needs Pillow and numpy.

    EXIF orientation is applied, transparency composed on BACKGROUND, and the image scaled and cropped at its centre to SIZE.
    """
    import numpy as np
    from PIL import Image, ImageOps

    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
        grey = image.mode in ("1", "L", "LA", "La")
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            image = Image.new("RGB", image.size, (BACKGROUND,) * 3)
            image.paste(layer, mask=layer.getchannel("A"))
        image = ImageOps.fit(image.convert("L" if grey else "RGB"), SIZE, Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image.convert("L" if CHANNELS == 1 else "RGB")))
    return pixels[None, None] if CHANNELS == 1 else pixels.permute(2, 0, 1)[None]


def values(outputs: Tensor) -> Tensor:
    """The net's outputs in the unit of the table's target."""
    return outputs * SPREAD + TARGET_MEAN
