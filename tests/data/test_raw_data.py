"""A dataset of a stranger's is checked where it comes in: shapes, dtypes, labels, and the names of its classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from grow_cli.data.base import RawData
from grow_cli.errors import UserError

X, Y = torch.zeros(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])


def test_classes_that_have_no_names_are_counted() -> None:
    assert RawData(X, Y, X, Y).classes == ("0", "1", "2")
    assert RawData(X, Y, X, Y, classes=("a", "b", "c", "d")).classes == ("a", "b", "c", "d")
    assert RawData(X, Y[:, None].float(), X, Y[:, None].float(), task="regression").classes == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_y": Y[:5]}, "6 samples and train_y 5"),
        ({"train_x": X[:0], "train_y": Y[:0]}, "no sample"),
        ({"test_x": torch.zeros(6, 4)}, "test_x has samples of shape"),
        ({"train_x": X.half()}, "torch.float64 is needed"),
        ({"train_x": torch.zeros(6, 1, 4, 4).double(), "test_x": X}, "torch.uint8 or torch.float32 is needed"),
        ({"train_x": torch.zeros(6), "test_x": torch.zeros(6)}, r"\(N, C, H, W\) or \(N, d\)"),
        ({"train_x": X / 0}, "not finite"),
        ({"train_y": Y.int()}, "torch.int64 is needed"),
        ({"train_y": Y[:, None]}, r"\(N,\) is needed for classes"),
        ({"train_y": Y - 1}, "the label -1"),
        ({"test_y": Y, "classes": ("a", "b")}, "the label 2, but there are only 2 classes"),
        ({"task": "regression"}, r"\(N, k\) is needed for a regression"),
        ({"task": "ranking"}, "must be one of classification, regression"),
    ],
)
def test_what_is_wrong_with_a_dataset_is_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        RawData(**({"train_x": X, "train_y": Y, "test_x": X, "test_y": Y} | changes))


def test_a_regression_is_tested_on_two_samples_or_more() -> None:
    y = Y[:, None].float()
    with pytest.raises(UserError, match="test_y holds one target"):
        RawData(X, y, X[:1], y[:1], task="regression")
