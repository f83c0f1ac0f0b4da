"""Every method on the simulated GPU: no fault of devices, no wait in a step, and few in a growth event.

Each run trains, grows, is ended between two events and goes on to the same bits, is measured, and exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from simulated.runs import Watched, watched_gpu
from test_contract import PROBLEMS

from grow_cli import testing

_SHORT = ("device=cuda", "graph=never", "subset=96", "stop.epochs=3", "evaluate.unit=epochs")
_DIGITS = ("dataset=digits",)
_EVERY = ("trigger=every", "trigger.every=1")
_WIDTH = PROBLEMS["method=gradmax"]
_BLOCKS = ("model=residual_mlp", "model.width=8", "model.hidden=[6,6]")
_OWN: dict[str, tuple[str, ...]] = {
    "alether_table1": PROBLEMS["method=alether"],
    "midas": _BLOCKS,
    "random_width": _WIDTH,
    "replay": ("trigger.steps=[3,6]", *(o for o in PROBLEMS["method=replay"] if not o.startswith("trigger."))),
    "stack": _BLOCKS,
    "zero_blocks": _BLOCKS,
    # a line search reads the loss as often as it needs to: the method is tried with an optimizer that has none
    "stages": ("dataset=functions", "dataset.samples=120", "model.hidden=[[4,4]]", "optimizer=adam"),
}
"""What a method needs where it is not an option of its own, or other than `PROBLEMS` has it."""
METHODS = sorted(file.stem for file in (Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))
PRECISIONS = ("fp32", "bf16", "tf32")
_EACH_TIME = {"tf32": ("tiny",), "bf16": ("senn", "tiny"), "fp64": ("stages", "tiny")}
"""Methods that are tried in a precision each time, the others by `make test-slow`: of tf32, which the simulated GPU computes
as fp32, what is tried is the switch, and that growth's statistics turn it off."""
_ALIKE = ("alether_table1", "copy", "midas", "random", "stack", "zero_blocks")
"""Methods that are `alether` or `deepen` with other keys or another source: by `make test-slow`."""
_EXACT = ("net2net", "prune", "stages", "static", "tiny")
"""Methods that are tried in fp64, too, which is for regression."""
MOST_WAITS = {"senn": 60}
"""Waits of a growth event; 20 where nothing is said."""


def problem(method: str) -> tuple[str, ...]:
    """The overrides of a small run in which a method grows."""
    own = _OWN.get(method) or PROBLEMS.get(f"method={method}", ())
    data = () if any(o.startswith("dataset=") for o in own) else _DIGITS
    trigger = () if any(o.startswith("trigger=") for o in own) else _EVERY
    given = {o.partition("=")[0] for o in own}
    return (f"method={method}", *data, *trigger, *(o for o in _SHORT if o.partition("=")[0] not in given), *own)


def _check_waits(watched: Watched, method: str) -> None:
    gpu = watched.gpu
    # before the clock is read, at an evaluation, the host waits for what was trained
    assert gpu.waits_in("steps", but="synchronize") == 0, gpu.told("steps")
    for event, waits in zip(watched.events, watched.waits(), strict=True):
        assert waits <= MOST_WAITS.get(method, 20), gpu.told(event)


def cases() -> Iterator[Any]:
    """Method and precision of each test."""
    for method in METHODS:
        for precision in (*PRECISIONS, *(("fp64",) if method in _EXACT else ())):
            slow = method in _ALIKE or method not in _EACH_TIME.get(precision, (method,))
            yield pytest.param(method, precision, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(("method", "precision"), list(cases()))
def test_every_method_trains_grows_resumes_is_measured_and_exported(
    method: str, precision: str, tmp_path: Path
) -> None:
    exact = ("dataset=functions",) if precision == "fp64" and method != "stages" else ()
    with watched_gpu() as watched:
        testing._check_run(tmp_path, [*problem(method), *exact, f"precision={precision}"])
    assert watched.steps
    assert bool(watched.events) == (method != "static")
    _check_waits(watched, method)
