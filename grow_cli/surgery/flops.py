"""FLOPs, counted operator by operator from the shapes of inputs and outputs.

Counted are matrix products, convolutions, attention and decompositions, regardless of what calls them; a multiply-add
counts as two. Elementwise work, sums, sorting and copying are not. A symmetric product costs half only if only half of
it is computed. Products and convolutions have the formulas of `torch.utils.flop_counter`, both sides of their backward
passes included; decompositions those of Golub and Van Loan (Matrix Computations, 4th edition) for the algorithms that
LAPACK has, whatever the device's library does: an estimate in the third digit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from grow_cli.surgery.measure import evaluation_mode

if TYPE_CHECKING:
    from grow_cli.models.modules.sites import WidthSite


def flops_per_sample(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Forward FLOPs of one sample. A training step is taken to be three of these, by definition: the first layer's gradient by
    the inputs, which no step computes, is in it.

    Counted on tensors without memory and with the plain formula for attention: quick, and the same whatever device the net is on.
    """
    with evaluation_mode(model), _counted_on_ghosts() as counter:
        _ghost_of(model, input_shape, ())
    return int(counter.get_total_flops())


def flops_per_unit(model: nn.Module, input_shape: tuple[int, ...], site: WidthSite) -> int:
    """Forward FLOPs of one sample that one more unit at a width site costs: exactly, for they grow in proportion to the units."""
    places: dict[nn.Module, int] = {}  # map → times that a sample passes it: once, or once a token or pixel

    def seen(module: Any, _: Any, out: Tensor) -> None:
        places[module] = out.numel() // module.weight.shape[0]

    with evaluation_mode(model), site.producer.register_forward_hook(seen), site.consumer.register_forward_hook(seen):
        _ghost_of(model, input_shape, ())
    written = site.producer.weight[0].numel() * places[site.producer]
    read = site.consumer.weight[:, 0].numel() * site.columns_per_unit * places[site.consumer]
    return 2 * (written + read)


def step_flops_per_sample(model: nn.Module, input_shape: tuple[int, ...], trained: Collection[nn.Parameter]) -> int:
    """Forward and backward FLOPs of one sample in a step that trains these parameters only, as they are computed."""
    with evaluation_mode(model), torch.enable_grad(), _counted_on_ghosts() as counter:
        outputs = _ghost_of(model, input_shape, trained)
        torch.autograd.backward(outputs, torch.empty_like(outputs))
    return int(counter.get_total_flops())


@contextmanager
def _counted_on_ghosts() -> Iterator[FlopCounterMode]:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def _ghost_of(model: nn.Module, input_shape: tuple[int, ...], trained: Collection[nn.Parameter]) -> Tensor:
    """The outputs for one sample, on tensors without memory."""
    wanted = {id(parameter) for parameter in trained}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    ghosts = {name: torch.empty_like(t, device="meta", requires_grad=id(t) in wanted) for name, t in tensors.items()}
    x = torch.empty(1, *input_shape, device="meta", dtype=next(model.parameters()).dtype)
    return functional_call(model, ghosts, (x,))


class FlopCounter(TorchDispatchMode):
    """`with FlopCounter() as counter:` adds up in `counter.flops` the FLOPs computed inside; results do not change.

    Looking at every operator takes time. What is computed again and again on tensors of the same shapes says so by `alike`,
    and is looked at once.
    """

    _active: ClassVar[FlopCounter | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self._known: dict[Hashable, int] = {}
        self._looking = False

    def __enter__(self) -> Self:
        FlopCounter._active = self
        self._look(True)
        return self

    def __exit__(self, *error: Any) -> None:
        self._look(False)
        FlopCounter._active = None

    def _look(self, now: bool) -> None:
        if now != self._looking:
            super().__enter__() if now else super().__exit__(None, None, None)
            self._looking = now

    @contextmanager
    def _while(self, looking: bool) -> Iterator[None]:
        before = self._looking
        self._look(looking)
        try:
            yield
        finally:
            self._look(before)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = _FORMULAS.get(func)
        if formula is not None and not args[0].is_meta:  # those only ask for shapes
            self.flops += int(formula(*args, **(kwargs or {}), out_val=out))
        return out


@contextmanager
def alike(*key: Hashable) -> Iterator[None]:
    """What is computed inside costs the same whenever the key is the same: within a counter it is looked at once.

    The key must hold a fresh `object()` of whoever asks, and every shape that the cost depends on.
    """
    counter = FlopCounter._active
    if counter is None:
        yield
        return
    known, before = counter._known.get(key), counter.flops
    with counter._while(looking=known is None):
        yield
    if known is None:
        counter._known[key] = counter.flops - before
    else:
        counter.flops += known


@contextmanager
def elementwise() -> Iterator[None]:
    """What is computed inside costs nothing, but for what stands in `alike`."""
    counter = FlopCounter._active
    with nullcontext() if counter is None else counter._while(looking=False):
        yield


@contextmanager
def counted_before() -> Iterator[None]:
    """Computations inside are not counted: a resumed run repeats what was lost with its process."""
    counter = FlopCounter._active
    with elementwise():
        FlopCounter._active = None
        try:
            yield
        finally:
            FlopCounter._active = counter


def _batches(a: Tensor) -> int:
    return a.shape[:-2].numel()


def _eigh(a: Tensor, uplo: str = "L", compute_v: bool = True, **_: Any) -> float:
    """Section 8.3: 9n³ with vectors, 4n³/3 without."""
    n = a.shape[-1]
    return _batches(a) * n**3 * (9 if compute_v else 4 / 3)


def _svd(a: Tensor, full_matrices: bool = False, compute_uv: bool = True, **_: Any) -> float:
    """Figure 8.6.1, of m ≥ n: that of the triangular factor where it is cheaper (LAPACK's gesdd does the same)."""
    m, n = max(a.shape[-2:]), min(a.shape[-2:])
    if compute_uv:
        return _batches(a) * min(14 * m * n**2 + 8 * n**3, 6 * m * n**2 + 20 * n**3)
    return _batches(a) * min(4 * m * n**2 - 4 * n**3 / 3, 2 * m * n**2 + 2 * n**3)


def _pinv(a: Tensor, *, hermitian: bool = False, **_: Any) -> float:
    """One of both decompositions, and the product of its factors."""
    m, n = a.shape[-2:]
    return (_eigh(a) if hermitian else _svd(a)) + _batches(a) * 2 * m * n * min(m, n)


def _qr(a: Tensor, mode: str = "reduced", **_: Any) -> float:
    """Section 5.2: the factor, and as much again for an orthogonal basis."""
    m, n = a.shape[-2:]
    k = min(m, n)
    factor = 4 * m * n * k - 2 * (m + n) * k**2 + 4 * k**3 / 3
    basis = 0.0 if mode == "r" else 2 * m * k**2 - 2 * k**3 / 3
    return _batches(a) * (factor + basis)


def _cubes(of: float) -> Callable[..., float]:
    """A multiple of n³, n the side of the first matrix: sections 3.2 (LU) and 4.2 (Cholesky)."""
    return lambda a, *_, **__: _batches(a) * of * a.shape[-1] ** 3


def _solves(times: int, *, system: int, first: float = 0.0) -> Callable[..., float]:
    """n² for each triangle and column of the solution (section 3.1), and n³ `first` times for a factor.

    `system`: the place of the triangle among the arguments.
    """

    def flops(*args: Any, out_val: Any, **_: Any) -> float:
        n = args[system].shape[-1]
        solution = out_val[0] if isinstance(out_val, tuple) else out_val
        return times * n * solution.numel() + first * n**3 * _batches(args[system])

    return flops


def _product(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return 2 * a.numel()


def _product_added(_: Tensor, a: Tensor, b: Tensor, *__: Any, **___: Any) -> int:
    return 2 * a.numel()


_aten = torch.ops.aten
_BY_NAME: dict[Any, Callable[..., float]] = {
    **flop_registry,
    # the CPU's own
    _aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[_aten._scaled_dot_product_flash_attention],
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _aten._scaled_dot_product_flash_attention_backward
    ],
    **dict.fromkeys((_aten.mv, _aten.dot, _aten.vdot), _product),
    _aten.addmv: _product_added,
    _aten._linalg_eigh: _eigh,
    _aten._linalg_svd: _svd,
    _aten.linalg_pinv: _pinv,
    _aten.linalg_qr: _qr,
    _aten.linalg_cholesky_ex: _cubes(1 / 3),
    _aten.linalg_inv_ex: _cubes(2),
    _aten._linalg_slogdet: _cubes(2 / 3),
    _aten._linalg_det: _cubes(2 / 3),
    _aten.linalg_lu_factor_ex: _cubes(2 / 3),
    _aten.linalg_solve_triangular: _solves(1, system=0),
    _aten.linalg_lu_solve: _solves(2, system=0),
    _aten.cholesky_solve: _solves(2, system=1),
    _aten._linalg_solve_ex: _solves(2, system=0, first=2 / 3),
}
_FORMULAS = {
    getattr(packet, overload): formula
    for packet, formula in _BY_NAME.items()
    if isinstance(packet, torch._ops.OpOverloadPacket)
    for overload in packet.overloads()
}
