"""Where new blocks go in a stack, and which block each is made of: plain arithmetic on places.

Sources: `stack` repeats the whole stack (G_stack, Du et al. 2024, arXiv:2405.15319), `middle` the middle block (MIDAS, Saunshi et
al. 2024, arXiv:2409.19044), `interleave` each block beside itself (what G_stack's authors call interpolation), and
`before_frontier` is Alether's Algorithm 2, which leaves the frontier itself open.
"""

from __future__ import annotations

from typing import NamedTuple

PATTERNS = ("before_frontier", "stack", "interleave", "middle", "top", "bottom")


class Addition(NamedTuple):
    """One new block."""

    place: int
    """In the stack as it is before the event; those at one place come in the order in which they are listed."""
    source: int | None
    """The block that it is shaped like, and copied from where blocks are copied; None in an empty stack."""


def additions(pattern: str, present: int, new: int, frontier: int) -> list[Addition]:
    """`new` blocks for a stack of `present`, in ascending order of their places.

    - `before_frontier`: all directly below the frontier block, made of it;
    - `stack`: on top, made of the blocks from the bottom up, again and again;
    - `interleave`: each directly above the block that it is made of; of a remainder the upper ones get one more;
    - `middle`: directly above the middle block, the lower of two, made of it;
    - `top`, `bottom`: at that end, made of the block there.
    """
    if present == 0:
        return [Addition(0, None)] * new
    top, middle = present - 1, (present - 1) // 2
    if pattern == "stack":
        return [Addition(present, i % present) for i in range(new)]
    if pattern == "interleave":
        each, more = divmod(new, present)
        return [Addition(i + 1, i) for i in range(present) for _ in range(each + (i >= present - more))]
    places = {
        "before_frontier": Addition(frontier, frontier),
        "middle": Addition(middle + 1, middle),
        "top": Addition(present, top),
        "bottom": Addition(0, 0),
    }
    return [places[pattern]] * new
