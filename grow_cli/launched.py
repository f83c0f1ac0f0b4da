"""Whether this process is one of several that train one run (`torchrun`), by what is in the environment. No torch here."""

from __future__ import annotations

import os

from grow_cli.errors import UserError


def world() -> int:
    """How many processes train together; 1 without a launcher. A WORLD_SIZE alone, as some clusters set it, is no launch."""
    return _number("WORLD_SIZE", 1) if "RANK" in os.environ else 1


def rank() -> int:
    """Which of them this is; rank 0 alone writes, and speaks."""
    return _number("RANK", 0) if world() > 1 else 0


def refuse_no_address() -> None:
    """UserError if several processes were started without an address to meet at."""
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if world() > 1 and missing:
        raise UserError(
            f"{world()} processes were begun and {' and '.join(missing)} is not set, so that they cannot meet: begin them with "
            "`torchrun --nproc-per-node N -m grow_cli train ...`"
        )


def _number(name: str, otherwise: int) -> int:
    value = os.environ.get(name) or str(otherwise)
    if not value.isdecimal():
        raise UserError(f"{name}={value}: must be a whole number: let torchrun set it, or unset it")
    return int(value)
