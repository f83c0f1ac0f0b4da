"""scikit-learn's digits: real images that need no download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grow_cli.data.base import DatasetOption, RawData
from grow_cli.registry import option


@option("dataset", "digits")
@dataclass
class Digits(DatasetOption):
    """1,797 handwritten digits, (1, 8, 8) with bytes from 0 to 16 (`sklearn.datasets.load_digits`).

    The set has no test part: a stratified fifth (360) is split off, always the same one.
    """

    def at_hand(self, data_dir: Path) -> bool:
        return True

    def load(self, data_dir: Path) -> RawData:
        import torch
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        x = torch.from_numpy(digits.images).to(torch.uint8).unsqueeze(1)
        y = torch.from_numpy(digits.target).to(torch.int64)
        train, test = train_test_split(range(len(y)), test_size=0.2, stratify=digits.target, random_state=0)
        classes = tuple(str(digit) for digit in digits.target_names)
        return RawData(x[train], y[train], x[test], y[test], classes=classes, white=16)
