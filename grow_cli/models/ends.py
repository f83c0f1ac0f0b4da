"""Input and output of a net, which data and task determine."""

from __future__ import annotations

from typing import Protocol

OWN = "module"
"""The name of a net that a Python program brought: no option, for only that program can make it."""


class Ends(Protocol):
    """What a net must fit at both ends; `DataSpec` does."""

    @property
    def task(self) -> str:
        """`classification`, `regression` or `language`."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width), (numbers,), or (context,) of text."""

    @property
    def outputs(self) -> int:
        """Logits, or regressed numbers."""
