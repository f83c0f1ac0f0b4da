"""Which GPU `auto` takes, repeatable operations, and exact products, none of which needs a GPU to be checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from grow_cli.errors import TrainingFailed, UserError
from grow_cli.surgery.measure import exact_products
from grow_cli.training.device import deterministic, free_by_uuid, pick_gpu, set_precision, unused_gpu

GIB = 2**30


def test_the_only_gpu_is_taken_without_a_word_whatever_the_rank() -> None:
    assert pick_gpu([None], {"LOCAL_RANK": "3"}) == (0, "")


def test_a_rank_takes_its_own_gpu_however_full() -> None:
    assert pick_gpu([70 * GIB, GIB, 70 * GIB], {"LOCAL_RANK": "1"}) == (1, "LOCAL_RANK=1")


def test_a_rank_without_a_gpu_is_told_so() -> None:
    with pytest.raises(UserError, match="LOCAL_RANK=2, and this machine shows 2"):
        pick_gpu([GIB, GIB], {"LOCAL_RANK": "2"})


def test_else_the_gpu_with_the_most_free_memory_and_the_first_of_equals() -> None:
    assert pick_gpu([GIB, 3 * GIB, 3 * GIB, 2 * GIB], {}) == (1, "the most free memory: 3.0 GiB")


def test_where_nobody_knows_what_is_free_the_first_is_taken_and_it_is_said() -> None:
    index, why = pick_gpu([GIB, None], {})
    assert index == 0
    assert "nvidia-smi does not say" in why


def test_free_memory_is_read_by_uuid_and_what_has_no_number_is_left_out() -> None:
    told = "GPU-aa-1, 1024\nGPU-bb-2, 2\nGPU-cc-3, [N/A]\n"
    assert free_by_uuid(told) == {"aa-1": GIB, "bb-2": 2 * 2**20}


def test_a_driver_that_torch_does_not_see_is_warned_of_unless_it_is_hidden_on_purpose(tmp_path: Path) -> None:
    driver = tmp_path / "nvidia0"
    nowhere = {"PATH": str(tmp_path)}
    assert unused_gpu([driver], nowhere) == ""
    driver.touch()
    assert str(driver) in unused_gpu([driver], nowhere)
    assert unused_gpu([driver], nowhere | {"CUDA_VISIBLE_DEVICES": ""}) == ""
    assert unused_gpu([driver], nowhere | {"CUDA_VISIBLE_DEVICES": "-1"}) == ""
    driver.unlink()
    tool = tmp_path / "nvidia-smi"
    tool.touch(mode=0o755)
    assert str(tool) in unused_gpu([driver], nowhere)


def _flags() -> tuple[Any, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.fixture
def benchmark() -> Iterator[None]:
    """A caller who lets cuDNN choose by time."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    yield
    torch.backends.cudnn.benchmark = before


@pytest.mark.usefixtures("benchmark")
@pytest.mark.parametrize(("workspace", "inside"), [(None, ":4096:8"), (":16:8", ":16:8"), (":0:0", ":4096:8")])
def test_deterministic_sets_what_it_needs_and_puts_it_back(
    workspace: str | None, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if workspace is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
    before = _flags()
    with deterministic(False):
        assert _flags() == before
    with deterministic(True):
        assert _flags() == (True, False, False, inside)
    assert _flags() == before
    with pytest.raises(ValueError, match="mine"), deterministic(True):
        raise ValueError("mine")
    assert _flags() == before


def test_an_operation_without_a_deterministic_form_is_named_in_one_sentence() -> None:
    named = r"^deterministic=true: put_ has no deterministic implementation here: [^\n]*$"
    with pytest.raises(TrainingFailed, match=named), deterministic(True):
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_run_is_deterministic_from_its_data_to_its_summary(
    grow: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import grow_cli.run as run

    seen: list[bool] = []

    def watched(name: str) -> None:
        real = getattr(run, name)

        def call(*arguments: Any, **options: Any) -> Any:
            seen.append(torch.are_deterministic_algorithms_enabled())
            return real(*arguments, **options)

        monkeypatch.setattr(run, name, call)

    for name in ("load_data", "assemble", "measure_splits"):
        watched(name)
    done = grow("train", "deterministic=true", "method=static", "model=mlp_tiny", "subset=100", "stop.epochs=1")
    assert done.code == 0, done.err
    assert seen == [True, True, True]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.fixture
def tf32() -> Iterator[None]:
    """A run that trains in TF32."""
    set_precision("tf32")
    yield
    set_precision("fp32")


def _products() -> tuple[str, bool, bool]:
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.is_autocast_enabled("cpu"),
    )


@pytest.mark.usefixtures("tf32")
def test_exact_products_are_exact_inside_and_afterwards_what_they_were() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = _products()
        assert before == ("high", True, True)
        with exact_products(torch.device("cpu")):
            assert _products() == ("highest", False, False)
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert _products() == before
        with pytest.raises(ValueError, match="mine"), exact_products(torch.device("cpu")):
            raise ValueError("mine")
        assert _products() == before


@pytest.mark.usefixtures("tf32")
def test_growth_scores_and_evaluation_compute_in_exact_products_and_steps_as_asked(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from grow_cli.training import event

    loop = make("method=copy", "precision=tf32")
    session, exact = loop.session, ("highest", False, False)
    seen: dict[str, list[tuple[str, bool, bool]]] = {"forward": [], "add": [], "scored": []}
    for name in ("add", "scored"):
        monkeypatch.setattr(session.method, name, lambda *a, name=name: seen[name].append(_products()) or [])
    session.model.register_forward_hook(lambda *a: seen["forward"].append(_products()))
    event.grow(session)
    session.score_proposals(10)
    loop._evaluate()
    assert seen["add"] == seen["scored"] == [exact]
    assert seen["forward"]
    assert set(seen["forward"]) == {exact}
    seen["forward"].clear()
    loop._step(*session.batches.next())
    assert seen["forward"] == [("high", True, False)]
