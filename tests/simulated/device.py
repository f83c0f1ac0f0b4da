"""A GPU that is simulated on the CPU, for what can be known without one: faults of devices, waits, and operator calls.

    with simulated_gpu() as gpu:
        x = torch.ones(3, device="cuda")   # x.device is cuda:0; its numbers lie on the CPU, in x.on_cpu
        float(x.sum())                     # gpu.waits: one, with the line that asked for it

Tensors of two devices in one operation, a generator of the other device, and `.numpy()` raise as they do on a GPU. What
makes the host wait until the GPU has done its work is counted: values that are read, copies from memory that is not
pinned, shapes that depend on values (boolean indices, `nonzero`), and solvers that report whether they converged. How
fast a GPU is, and what its own kernels round, is not known from this.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter, tree_map

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
GIB = 2**30

# Operators whose result the host waits for on a GPU: a value, a shape that depends on values, or a solver's success.
_WAITING = {
    *("_local_scalar_dense", "is_nonzero", "equal", "allclose"),
    *("nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount", "histc"),
    *("_linalg_eigh", "linalg_eigh", "linalg_eigvalsh", "linalg_eig", "_linalg_svd", "linalg_svdvals", "linalg_lstsq"),
    *("_linalg_check_errors", "linalg_svd", "_linalg_eigvals", "linalg_pinv"),
}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_COPIES = {"copy_", "copy", "_to_copy", "_foreach_copy_"}


class DeviceFault(RuntimeError):
    """What torch would raise on a GPU."""


class _TensorKind(type(Tensor)):  # type: ignore[misc]
    """To code that asks for the type of another tensor, a GPU's are torch.Tensor like all."""

    def __instancecheck__(cls, made: object) -> bool:
        return isinstance(made, Tensor)


class GpuTensor(Tensor, metaclass=_TensorKind):
    """A tensor whose Python device is cuda:0, and whose values lie on the CPU."""

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> GpuTensor:
        made: GpuTensor = Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=CPU,  # as torch's own code sees it: autograd and autocast run as they do on the CPU
        )
        made.on_cpu = values
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    def get_device(self) -> int:
        return 0

    def is_pinned(self, *_: Any) -> bool:
        return False

    def data_ptr(self) -> int:
        return self.on_cpu.data_ptr()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"GpuTensor({self.on_cpu!r})"

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        _the_gpu().wait("tolist")
        return self.on_cpu.tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copied: Tensor = GpuTensor(self.on_cpu.clone())
            if isinstance(self, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied, requires_grad=self.requires_grad)
            memo[id(self)] = copied.requires_grad_(self.requires_grad)
        found: Tensor = memo[id(self)]
        return found

    def __reduce_ex__(self, protocol: Any) -> Any:
        _the_gpu().wait("saved to a file")
        return self.on_cpu.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(_the_gpu(), func, args, kwargs or {})


class GpuGenerator(torch.Generator):
    """A generator that calls itself the GPU's."""

    def __new__(cls) -> GpuGenerator:
        return super().__new__(cls, "cpu")  # type: ignore[call-arg]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA


class SimulatedGpu:
    """What the host did to the simulated GPU."""

    def __init__(self) -> None:
        self.phase = ""
        """The name under which calls and waits are counted."""
        self.calls: Counter[str] = Counter()
        """Phase → operator calls: a GPU launches a kernel or more for each."""
        self.waits: Counter[tuple[str, str, str]] = Counter()
        """(phase, what was waited for, lines of grow_cli that asked) → times."""
        self._random = torch.Generator().manual_seed(0).get_state()

    def wait(self, why: str) -> None:
        self.waits[self.phase, why, _asked_by()] += 1

    def waits_in(self, phase: str, *, but: str = "") -> int:
        """Without those for `but`."""
        return sum(n for (where, why, _), n in self.waits.items() if where == phase and why != but)

    def told(self, phase: str) -> str:
        """The waits of a phase, line by line: for a test that fails."""
        return "\n".join(f"{n:4} {why}: {line}" for (where, why, line), n in self.waits.most_common() if where == phase)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """The global random stream is the GPU's own."""
        before = torch.get_rng_state()
        torch.set_rng_state(self._random)
        try:
            yield
        finally:
            self._random = torch.get_rng_state()
            torch.set_rng_state(before)

    def get_rng_state(self, *_: Any) -> Tensor:
        return self._random.clone()

    def set_rng_state(self, state: Tensor, *_: Any) -> None:
        self._random = state.clone()

    def manual_seed(self, seed: int) -> None:
        self._random = torch.Generator().manual_seed(seed).get_state()


_present: list[SimulatedGpu] = []


def _the_gpu() -> SimulatedGpu:
    return _present[-1]


def _asked_by() -> str:
    """The two innermost lines of grow_cli that are being executed."""
    frame, lines = sys._getframe(2), list[str]()
    while frame is not None and len(lines) < 2:
        _, inside, file = frame.f_code.co_filename.rpartition("grow_cli/")
        if inside and file not in ("hardware.py", "surgery/flops.py"):  # they pass on what others ask for
            lines.append(f"{file}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return " < ".join(lines)


def _run(gpu: SimulatedGpu, func: Any, args: Any, kwargs: Any) -> Any:
    """An operator, at least one of whose tensors is on the GPU."""
    name = func.__name__.partition(".")[0]
    flat = [t for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)]
    ours = {id(t.on_cpu): t for t in flat if type(t) is GpuTensor}
    gpu.calls[gpu.phase] += 1
    _check(gpu, func, name, args, kwargs, [t for t in flat if type(t) is not GpuTensor])
    inside = tree_map(lambda t: t.on_cpu if type(t) is GpuTensor else t, (args, kwargs))
    random, generator = torch.Tag.nondeterministic_seeded in func.tags, kwargs.get("generator")
    with gpu.drawing() if random and generator is None else ExitStack():
        out = func(*inside[0], **inside[1])
    if name == "copy_":
        return args[0]

    def ours_of(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return (
            ours[id(value)] if id(value) in ours else GpuTensor(value)
        )  # an operator in place returns what it was given

    return tree_map(ours_of, out)


def _check(gpu: SimulatedGpu, func: Any, name: str, args: Any, kwargs: Any, others: list[Tensor]) -> None:
    """Raise what a GPU would, and count what it would wait for. `others`: tensors that lie on the CPU."""
    generator = kwargs.get("generator")
    if generator is not None and not isinstance(generator, GpuGenerator):
        raise DeviceFault(f"Expected a 'cuda' device type for generator but found 'cpu' in {func}")
    if name in _COPIES:
        if others:
            gpu.wait("copied between devices")
        return
    if name in _INDEXING:
        indices = [i for i in args[1] if i is not None]
        if type(args[0]) is not GpuTensor:
            raise DeviceFault(f"indices should be on the same device as the indexed tensor (cpu): {func}")
        if any(type(i) is not GpuTensor and i.dim() for i in indices):
            gpu.wait("indices copied to the device")
        fills = len(args) > 2 and args[2].numel() == 1
        if any(i.dtype == torch.bool for i in indices) and not fills:
            gpu.wait("boolean index")
        return
    # a number that lies on the CPU is passed to a kernel as an argument; torch makes empty outputs where it thinks we are
    if any(t.numel() and (t.dim() or name in ("cat", "stack")) for t in others):
        raise DeviceFault(f"Expected all tensors to be on the same device, but found two, cuda:0 and cpu, in {func}")
    if name in _WAITING:
        gpu.wait(name)


class _Functions(TorchFunctionMode):
    """Makes tensors on the GPU where cuda is asked for, and moves them there and back."""

    def __init__(self, gpu: SimulatedGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "_parse_to":  # of nn.Module.to
            like = args[0] if args else None
            return (CUDA, like.dtype, False, None) if type(like) is GpuTensor else func(*args, **kwargs)
        if name in ("to", "cpu", "cuda", "pin_memory") and args and isinstance(args[0], Tensor):
            return self._moved(func, name, args[0], list(args[1:]), kwargs)
        if name == "new_tensor" and type(args[0]) is GpuTensor:
            return self._made(func, name, (args[0].on_cpu, *args[1:]), kwargs)
        if kwargs.get("device") is not None and _is_cuda(kwargs["device"]):
            return self._made(func, name, args, kwargs | {"device": CPU})
        tensors = [t for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)]
        if kwargs.get("device") is not None and any(type(t) is GpuTensor for t in tensors):
            args = tree_map(lambda t: t.on_cpu if type(t) is GpuTensor else t, args)  # zeros_like(x, device="cpu")
        if isinstance(kwargs.get("generator"), GpuGenerator) and not any(type(t) is GpuTensor for t in tensors):
            raise DeviceFault(f"Expected a 'cpu' device type for generator but found 'cuda' in {name}")
        if type(kwargs.get("out")) is GpuTensor and not kwargs["out"].numel():
            del kwargs["out"]  # a shape that another tensor's operator changes would not be seen here
        pinned = kwargs.pop("pin_memory", False)
        out = func(*args, **kwargs)
        if pinned:
            out.pinned = True
        return out

    def _made(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """A new tensor on the GPU."""
        generator = kwargs.get("generator")
        if generator is not None and not isinstance(generator, GpuGenerator):
            raise DeviceFault(f"Expected a 'cuda' device type for generator but found 'cpu' in {name}")
        if kwargs.pop("pin_memory", False):
            raise DeviceFault("Only dense CPU tensors can be pinned")
        if name in ("tensor", "as_tensor", "new_tensor"):
            self.gpu.wait("numbers copied to the device")
        self.gpu.calls[self.gpu.phase] += 1
        with self.gpu.drawing() if name.startswith("rand") and generator is None else ExitStack():
            out = func(*args, **kwargs)
        return tree_map(lambda t: GpuTensor(t) if type(t) is Tensor else t, out)

    def _moved(self, func: Any, name: str, tensor: Tensor, rest: list[Any], kwargs: dict[str, Any]) -> Tensor:
        """`to` in all its forms, `cpu`, `cuda`, `pin_memory`."""
        here = type(tensor) is GpuTensor
        if name == "pin_memory":
            if here:
                raise DeviceFault("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
            copied = tensor.clone()
            copied.pinned = True  # type: ignore[attr-defined]
            return copied
        target = {"cpu": CPU, "cuda": CUDA}.get(name) or kwargs.pop("device", None)
        other = kwargs.pop("other", None)
        if rest and isinstance(rest[0], torch.device | str | int) and not isinstance(rest[0], bool):
            target = rest.pop(0)
        elif rest and isinstance(rest[0], Tensor):
            other = rest.pop(0)
        if other is not None:
            target, rest = other.device, [other.dtype, *rest]
        flags = [value for value in rest if isinstance(value, bool)]
        asynchronous = kwargs.pop("non_blocking", flags[0] if flags else False)
        rest = [value for value in rest if isinstance(value, torch.dtype)]
        there = here if target is None else _is_cuda(target)
        if there == here:
            return func(tensor, *rest, **kwargs) if name == "to" else tensor
        if tensor.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError("a copy to another device that autograd follows: grow makes none")
        if not (asynchronous and getattr(tensor, "pinned", False) and there):
            self.gpu.wait("copied to the device" if there else "copied from the device")
        values = tensor.on_cpu if type(tensor) is GpuTensor else tensor
        copied = values.detach().clone()
        if rest or kwargs:
            copied = copied.to(*rest, **kwargs)
        return (GpuTensor(copied) if there else copied).requires_grad_(tensor.requires_grad)


def _is_cuda(device: Any) -> bool:
    return isinstance(device, int) or torch.device(device).type == "cuda"


_Generator = torch.Generator


class _GeneratorKind(type):
    def __instancecheck__(cls, made: object) -> bool:
        return isinstance(made, _Generator)


class _GeneratorOfEither(metaclass=_GeneratorKind):
    """In place of torch.Generator."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return GpuGenerator() if _is_cuda(device) else _Generator(device)


class _AutocastOnTheCpu(torch.autocast):
    """In place of torch.autocast."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu", *args, **kwargs)


def _replaced(gpu: SimulatedGpu) -> dict[tuple[Any, str], Any]:
    """What stands in the place of torch's own while the GPU is simulated."""
    cuda: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: "simulated",
        "get_device_properties": lambda *_: SimpleNamespace(total_memory=80 * GIB, name="simulated", uuid="0"),
        "mem_get_info": lambda *_: (64 * GIB, 80 * GIB),
        "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "synchronize": lambda *_: gpu.wait("synchronize"),
        "get_rng_state": gpu.get_rng_state,
        "set_rng_state": gpu.set_rng_state,
        "manual_seed_all": gpu.manual_seed,
    }
    return {(torch.cuda, name): value for name, value in cuda.items()} | {
        (torch, "Generator"): _GeneratorOfEither,
        (torch, "autocast"): _AutocastOnTheCpu,
        (torch.optim.Optimizer, "_accelerator_graph_capture_health_check"): lambda *_: None,
        (torch.optim.Optimizer, "_cuda_graph_capture_health_check"): lambda *_: None,
    }


@contextmanager
def simulated_gpu() -> Iterator[SimulatedGpu]:
    """cuda:0 is there, and simulated; afterwards everything is as it was."""
    gpu = SimulatedGpu()
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        for (owner, name), value in _replaced(gpu).items():
            stack.enter_context(patch.object(owner, name, value, create=True))
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # a moved parameter is another object
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        _present.append(gpu)
        stack.callback(_present.pop)
        stack.enter_context(_Functions(gpu))
        yield gpu
