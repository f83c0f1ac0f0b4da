"""Random crop and flip against a loop over the images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from grow_cli.data.augment import Augment


def literal(x: Tensor, crop: int, mirrored: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """One image at a time: pad with zeros, cut out, mirror."""
    out = []
    for image, mirror, i, j in zip(x, mirrored.tolist(), top.tolist(), left.tolist(), strict=True):
        channels, height, width = image.shape
        padded = torch.zeros(channels, height + 2 * crop, width + 2 * crop)
        padded[:, crop : crop + height, crop : crop + width] = image
        cut = padded[:, i : i + height, j : j + width]
        out.append(cut.flip(-1) if mirror else cut)
    return torch.stack(out)


@pytest.mark.parametrize("crop", [0, 1, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_every_image_is_padded_cropped_and_mirrored_as_by_a_loop(crop: int, flip: bool) -> None:
    x = torch.rand(40, 3, 6, 5, generator=torch.Generator().manual_seed(1)) + 1
    result = Augment(crop, flip)(x, torch.Generator().manual_seed(2))

    generator = torch.Generator().manual_seed(2)  # the same numbers, in the order in which they are drawn
    mirrored = torch.rand(40, 1, generator=generator)[:, 0] < 0.5 if flip else torch.zeros(40, dtype=torch.bool)
    offsets = torch.randint(2 * crop + 1, (2, 40, 1), generator=generator)[..., 0]
    assert torch.equal(result, literal(x, crop, mirrored, *offsets))


def test_all_offsets_and_both_orientations_are_equally_likely() -> None:
    crop, n = 1, 9000
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 1] = 1.0  # off the middle, so that mirroring shows
    result = Augment(crop, True)(image.expand(n, -1, -1, -1), torch.Generator().manual_seed(0))
    rows, columns = result[:, 0].flatten(1).argmax(1).div(5, rounding_mode="floor"), result.flatten(1).argmax(1) % 5
    assert torch.allclose(rows.bincount(minlength=5)[1:4] / n, torch.tensor(1 / 3), atol=0.02)
    # columns 0, 1, 2 unmirrored and 4, 3, 2 mirrored: the middle one is reached from both
    expected = torch.tensor([1, 1, 2, 1, 1]) / 6
    assert torch.allclose(columns.bincount(minlength=5) / n, expected, atol=0.02)


def test_the_input_is_left_as_it_was() -> None:
    x = torch.rand(4, 1, 3, 3)
    before = x.clone()
    Augment(1, True)(x, torch.Generator().manual_seed(0))
    assert torch.equal(x, before)
