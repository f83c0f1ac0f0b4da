"""What files of a user's own share: whether they are classes or quantities, and which samples are the test part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grow_cli.data.base import DatasetOption
from grow_cli.errors import UserError
from grow_cli.files import expanded
from grow_cli.keys import key

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_LEAST = 5  # samples


@dataclass
class OwnFile(DatasetOption):
    """A file with samples and targets."""

    path: str | None = key(None, role="data", path=True)
    """The file."""
    task: str = key("auto", one_of=("auto", "classification", "regression"))
    """auto: what the targets are."""
    test: float = key(0.2, above=0, below=1, role="split")
    """Fraction of the samples that are the test part, where no other is given; each class in the same proportion."""
    test_seed: int = key(0, at_least=0, at_most=2**63 - 1, role="split")
    """Seed of that choice; independent of all others."""

    def at_hand(self, data_dir: Path) -> bool:
        return self.path is not None and expanded(self.path).is_file()

    def cut_test(self, labels: Tensor, path: Path, samples: str) -> tuple[Tensor, Tensor]:
        """Indices of the training and of the test part, by the classes (N,), all 0 in a regression."""
        from grow_cli.data import splits

        if len(labels) < _LEAST:
            raise UserError(
                f"{path} has {len(labels)} {samples}: too few to train on and to test on; {_LEAST} are the least"
            )
        return splits.cut(labels, self.test, self.test_seed)
