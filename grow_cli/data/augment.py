"""Random crop and horizontal flip of a whole batch by index arithmetic, on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """Each image is padded by `crop` pixels, cropped back to its size at random and mirrored with probability ½.

    The padding is 0 *after* normalisation, as is common practice: the mean colour, not black (but black where inputs
    are not normalised).
    """

    crop: int
    flip: bool

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """(n, C, H, W) normalised images in, as many of the same shape out; `generator` is on the same device."""
        n, channels, height, width = x.shape
        pad = self.crop
        rows = torch.arange(height, device=x.device).expand(n, height)
        columns = torch.arange(width, device=x.device).expand(n, width)
        if self.flip:
            mirrored = torch.rand(n, 1, device=x.device, generator=generator) < 0.5
            columns = torch.where(mirrored, width - 1 - columns, columns)
        if pad:
            offsets = torch.randint(2 * pad + 1, (2, n, 1), device=x.device, generator=generator)
            rows, columns = rows + offsets[0], columns + offsets[1]
            x = F.pad(x, (pad, pad, pad, pad))
        pixels = rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]  # (n, H, W) into the padded image
        index = pixels.view(n, 1, -1).expand(n, channels, -1)
        return x.flatten(2).gather(2, index).view(n, channels, height, width)
