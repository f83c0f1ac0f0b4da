"""Which samples are trained on: the validation split, class-balanced subsets, and their random streams.

Everything here follows `dataset.split_seed`: runs of several seeds share their splits, unless it is the word `seed`.
Labels are class indices (N,); regression counts as a single class.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from grow_cli.errors import UserError
from grow_cli.words import counted


def bits_of(text: str) -> int:
    """A number below 2^56 that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:7], "big")


def stream(seed: int, purpose: str) -> torch.Generator:
    """A generator on the CPU; streams of different purposes are independent of each other."""
    return torch.Generator().manual_seed(bits_of(f"{purpose}/{seed}"))


def cut(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the training and of the validation split, ascending, each class in the same proportion in both.

    The validation split has round(fraction·N) samples, fewer only where it would take a class's last one.
    """
    counts = labels.bincount().tolist()
    n = len(labels)
    quotas = _proportional(counts, max(round(fraction * n), 1))
    quotas = [min(quota, max(count - 1, 0)) for quota, count in zip(quotas, counts, strict=True)]
    if sum(quotas) == 0:
        raise UserError(
            f"dataset.validation={fraction}: the training part has {counted(n, 'sample')} in "
            f"{counted(len(counts), 'class', 'classes')}, too few to hold out any: add samples"
        )
    validation = _draw(labels, quotas, stream(seed, "validation"))
    rest = torch.ones(n, dtype=torch.bool)
    rest[validation] = False
    return rest.nonzero().flatten(), validation


def subset(labels: Tensor, size: int | float, seed: int) -> Tensor:
    """Indices, ascending, of `size` samples (an int) or that fraction of them, as equally many per class as there are.

    A smaller subset is part of a larger one.
    """
    n = len(labels)
    counts = labels.bincount().tolist()
    classes = sum(count > 0 for count in counts)
    total = round(size * n) if isinstance(size, float) else size
    if total > n:
        raise UserError(
            f"subset={size}: the training split has {counted(n, 'sample')}: ask for no more, or for null, which takes all"
        )
    if total < classes:
        raise UserError(
            f"subset={size}: that is {total} of {counted(n, 'training sample')}, but one per class takes {classes}: "
            "ask for more"
            if classes > 1
            else f"subset={size}: that is none of {counted(n, 'training sample')}: ask for 1 or more"
        )
    return _draw(labels, _equal(counts, total), stream(seed, "subset"))


def _proportional(counts: list[int], total: int) -> list[int]:
    # the largest remainders are rounded up
    n = sum(counts)
    quotas = [count * total // n for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda c: -(counts[c] * total % n))
    for c in by_remainder[: total - sum(quotas)]:
        quotas[c] += 1
    return quotas


def _equal(counts: list[int], total: int) -> list[int]:
    # from the smallest class to the largest: an equal share of what is left, or all there is
    quotas = [0] * len(counts)
    for done, c in enumerate(sorted(range(len(counts)), key=lambda c: counts[c])):
        quotas[c] = min(counts[c], total // (len(counts) - done))
        total -= quotas[c]
    return quotas


def _draw(labels: Tensor, quotas: list[int], generator: torch.Generator) -> Tensor:
    # the first quotas[c] samples of each class c in a random order
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[labels[order].argsort(stable=True)].split(labels.bincount().tolist())
    return torch.cat([members[:quota] for members, quota in zip(by_class, quotas, strict=True)]).sort().values
