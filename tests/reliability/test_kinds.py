"""Faults that the fuzzer has found: a small test of each kind."""

from __future__ import annotations

from typing import Any

import pytest

from grow_cli.commands.train import compose
from grow_cli.data.identity import check_plain
from grow_cli.errors import UserError

SHORT = ("subset=60", "stop.steps=2", "evaluate.every=1", "evaluate.unit=steps", "progress=off", "method=static")


@pytest.mark.parametrize("key", ["clip_norm", "optimizer.lr", "dataset.validation", "stop.epochs", "model.activation"])
def test_an_interpolation_that_leads_nowhere_is_one_line_that_names_the_key(key: str) -> None:
    with pytest.raises(UserError) as refused:
        compose([*SHORT, "model=mlp_tiny", f"{key}=${{nothing}}"])
    assert str(refused.value) == f"{key}: Interpolation key 'nothing' not found"


@pytest.mark.parametrize(
    "data",
    [3, "x", [1], {"hash": 3}, {"counts": 3}, {"counts": {"train": "x"}}, {"classes": [None]}, {"input_shape": "ab"}],
)
def test_what_a_checkpoint_says_of_its_data_is_read_as_such_or_refused(data: Any) -> None:
    with pytest.raises(TypeError, match=r"^data"):
        check_plain(data)
    check_plain({})
