"""The simulated GPU refuses what a GPU refuses and counts what it waits for; grow's own ways to it wait once, or not at all."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator

import pytest
import torch
from simulated.device import DeviceFault, GpuTensor, SimulatedGpu, simulated_gpu

from grow_cli import hardware


@pytest.fixture
def gpu() -> Iterator[SimulatedGpu]:
    with simulated_gpu() as made:
        yield made


def _there(*numbers: float) -> torch.Tensor:
    return torch.zeros(len(numbers), device="cuda") + torch.tensor(numbers).pin_memory().to("cuda", non_blocking=True)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "fault",
    [
        lambda: _there(1, 2) + torch.ones(2),
        lambda: torch.cat([_there(1), torch.ones(1)]),
        lambda: torch.ones(2)[_there(1, 0).long()],
        lambda: _there(1, 2).normal_(generator=torch.Generator()),
        lambda: torch.randn(2, generator=torch.Generator("cuda")),
        lambda: torch.nn.Linear(2, 1)(_there(1, 2)),
        lambda: _there(1).pin_memory(),
    ],
)
def test_what_mixes_devices_is_a_fault(fault: Callable[[], object]) -> None:
    with pytest.raises(DeviceFault):
        fault()


@pytest.mark.usefixtures("gpu")
def test_numpy_is_not_given_what_lies_on_the_gpu() -> None:
    with pytest.raises(TypeError, match="cuda:0"):
        _there(1).numpy()


@pytest.mark.parametrize(
    ("waited", "operation"),
    [
        (1, lambda x: float(x.sum())),
        (1, lambda x: bool((x > 0).all())),
        (1, lambda x: x.tolist()),
        (1, lambda x: x.cpu()),
        (1, lambda x: x[x > 0]),
        (1, lambda x: x.nonzero()),
        (1, lambda x: torch.tensor([1.0], device="cuda")),
        (1, lambda x: torch.ones(3).to("cuda", non_blocking=True)),
        (1, lambda x: torch.linalg.eigh(x[:, None] * x)),
        (1, lambda x: torch.linalg.svd(x[:, None])),
        (0, lambda x: torch.linalg.cholesky_ex(x[:, None] * x)),
        (0, lambda x: x * 2 + torch.tensor(3.0)),
        (0, lambda x: torch.where(x > 0, x, 0.0)),
        (0, lambda x: torch.ones(3).pin_memory().to("cuda", non_blocking=True)),
        (0, lambda x: copy.deepcopy(x)),
    ],
)
def test_a_wait_is_counted_with_the_operation_that_makes_it(
    waited: int, operation: Callable[[torch.Tensor], object], gpu: SimulatedGpu
) -> None:
    x = _there(1.0, 0.0, 2.0)
    before = gpu.waits_in("")
    operation(x)
    assert gpu.waits_in("") - before == waited


def test_numbers_are_those_of_the_cpu_and_so_are_gradients(gpu: SimulatedGpu) -> None:
    net, x = torch.nn.Linear(3, 2), torch.randn(4, 3)
    other = copy.deepcopy(net).to("cuda")
    net(x).square().sum().backward()
    other(x.to("cuda")).square().sum().backward()
    gradient, there = net.weight.grad, other.weight.grad
    assert type(there) is GpuTensor
    assert gradient is not None
    assert there is not None
    assert torch.equal(there.cpu(), gradient)


def test_its_random_numbers_are_its_own(gpu: SimulatedGpu) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = torch.randn(3, device="cuda").tolist()
    torch.zeros(3, device="cuda").bernoulli_(0.5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.randn(3, device="cuda").tolist() == first


def test_what_is_saved_is_loaded_on_the_cpu(gpu: SimulatedGpu) -> None:
    file = io.BytesIO()
    torch.save({"x": _there(1, 2)}, file)
    file.seek(0)
    assert torch.load(file, map_location="cpu", weights_only=True)["x"].tolist() == [1, 2]


def test_afterwards_there_is_no_gpu() -> None:
    before = torch.Generator, torch.autocast, torch.cuda.is_available
    with simulated_gpu():
        assert torch.cuda.is_available()
    assert (torch.Generator, torch.autocast, torch.cuda.is_available) == before


def test_tensors_of_any_shape_and_dtype_are_fetched_with_one_wait(gpu: SimulatedGpu) -> None:
    here = [
        torch.randn(2, 3),
        torch.tensor(True),
        torch.tensor([7]),
        torch.randn((), dtype=torch.float64),
        torch.ones(0),
    ]
    there = [hardware.sent(t, torch.device("cuda")) for t in here]
    assert gpu.waits_in("") == 0
    found = hardware.fetched(there)
    assert gpu.waits_in("") == 1
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(here, found, strict=True))


def test_readings_are_read_together_when_one_is_asked_for(gpu: SimulatedGpu) -> None:
    readings = hardware.Readings()
    first, second = readings.later(_there(1.5)), readings.later(_there(1, 2).sum())
    assert gpu.waits_in("") == 0
    assert (second(), first(), second()) == (3, [1.5], 3)
    assert gpu.waits_in("") == 1
    assert readings.later(_there(4).sum())() == 4


def test_pieces_are_larger_on_a_gpu_as_far_as_its_memory_goes(
    gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = torch.device("cuda")
    assert hardware.piece(1000, torch.device("cpu")) == 1000
    assert hardware.piece(1000, cuda) == 64_000
    for free, expected in ((128 * 5000, 5000), (0, 1000)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_, free=free: (free, 2**36))
        assert hardware.piece(1000, cuda) == expected
