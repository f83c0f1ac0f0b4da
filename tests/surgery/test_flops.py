"""What is counted of what is computed: products, decompositions and their shapes; and that looking changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from growing_nets import NETS
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from grow_cli.surgery.flops import FlopCounter, alike, counted_before, elementwise, step_flops_per_sample
from grow_cli.surgery.patches import outer
from grow_cli.theory.bottleneck import largest_singular_value, spurious
from grow_cli.theory.expansion import metric_root


def flops_of(compute: Callable[[], Any]) -> int:
    with FlopCounter() as counter:
        compute()
    return counter.flops


def symmetric(n: int) -> Tensor:
    a = torch.randn(n, n, dtype=torch.float64)
    return a @ a.T + torch.eye(n, dtype=torch.float64)


A, S, B = torch.randn(40, 12, dtype=torch.float64), symmetric(12), torch.randn(12, 5, dtype=torch.float64)
ROOT = torch.linalg.cholesky(S)
BY_HAND: dict[str, tuple[Callable[[], Any], float]] = {
    "matrix by matrix": (lambda: A @ B, 2 * 40 * 12 * 5),
    "matrix by vector": (lambda: A @ B[:, 0], 2 * 40 * 12),
    "vector by vector": (lambda: B[:, 0] @ B[:, 1], 2 * 12),
    "batches": (lambda: torch.stack([A, A]) @ torch.stack([B, B]), 2 * 2 * 40 * 12 * 5),
    "eigenvectors": (lambda: torch.linalg.eigh(S), 9 * 12**3),
    "eigenvalues": (lambda: torch.linalg.eigvalsh(S, out=S.new_empty(0)), 4 / 3 * 12**3),
    "singular vectors of a tall one": (lambda: torch.linalg.svd(A, full_matrices=False), 6 * 40 * 12**2 + 20 * 12**3),
    "singular vectors of a square one": (lambda: torch.linalg.svd(S), 22 * 12**3),
    "singular values": (lambda: largest_singular_value(A.T), 2 * 40 * 12**2 + 2 * 12**3),
    "QR": (lambda: torch.linalg.qr(A), 2 * (2 * 40 * 12**2 - 2 / 3 * 12**3)),
    "Cholesky": (lambda: torch.linalg.cholesky_ex(S), 12**3 / 3),
    "triangular solution": (lambda: torch.linalg.solve_triangular(ROOT, B, upper=False), 12**2 * 5),
    "solution by Cholesky": (lambda: torch.cholesky_solve(B, ROOT), 2 * 12**2 * 5),
    "solution": (lambda: torch.linalg.solve(S, B), 2 / 3 * 12**3 + 2 * 12**2 * 5),
    "inverse": (lambda: torch.linalg.inv(S), 2 * 12**3),
    "determinant": (lambda: torch.linalg.slogdet(S), 2 / 3 * 12**3),
    "elementwise": (lambda: (A * A).exp().sum(0).sort(), 0),
    "shapes only": (lambda: A.to("meta") @ B.to("meta"), 0),
}


@pytest.mark.parametrize("what", BY_HAND)
def test_an_operator_costs_what_the_textbook_says(what: str) -> None:
    compute, by_hand = BY_HAND[what]
    assert flops_of(compute) == pytest.approx(by_hand, abs=1)


@pytest.mark.parametrize("side", [3, 40, 150])
def test_looking_changes_no_bit_of_a_decomposition(side: int) -> None:
    def computed() -> list[Any]:
        torch.manual_seed(side)
        a, s = torch.randn(side, side // 2 + 1, dtype=torch.float64), symmetric(side)
        drawn = spurious(side, s, 100, torch.Generator().manual_seed(1))
        return [largest_singular_value(a), drawn, metric_root(s), torch.linalg.pinv(a)]

    plain = computed()
    with FlopCounter():
        looked = computed()
    assert largest_singular_value(A) == float(torch.linalg.matrix_norm(A, 2))
    for a, b in zip(plain, looked, strict=True):
        assert (a == b) if isinstance(a, float) else torch.equal(a, b)


def test_the_eigendecomposition_of_all_of_mnist_is_not_free() -> None:
    assert 4e9 < 9 * 785**3 < 5e9
    assert flops_of(lambda: torch.linalg.eigh(symmetric(100))) >= 9 * 100**3


@pytest.mark.parametrize("side", [40, 301])
def test_a_symmetric_product_costs_the_blocks_that_are_multiplied(side: int) -> None:
    quarters = [side * i // 4 for i in range(5)]
    blocks = sum(2 * (b - a) * (side - a) * 7 for a, b in pairwise(quarters))
    assert flops_of(lambda: outer(torch.randn(side, 7))) == (2 * side**2 * 7 if side < 256 else blocks)


def test_a_backward_pass_is_counted_as_far_as_it_goes() -> None:
    weights = [torch.randn(6, 6, requires_grad=True) for _ in range(3)]

    def passed(first: int) -> None:
        x = torch.randn(4, 6)
        for i, w in enumerate(weights):
            x = x @ (w if i >= first else w.detach())
        x.sum().backward()

    product = 2 * 4 * 6 * 6
    assert [flops_of(lambda i=first: passed(i)) / product for first in range(3)] == [8, 6, 4]


def test_what_is_alike_is_looked_at_once_and_charged_each_time() -> None:
    looked: list[int] = []

    def compute(n: int, key: object) -> None:
        with alike(key, n):
            looked.append(FlopCounter._active is not None and FlopCounter._active._looking)
            torch.randn(n, n) @ torch.randn(n, n)

    key, other = object(), object()
    spent = flops_of(lambda: [compute(n, k) for n, k in ((3, key), (3, key), (4, key), (3, other), (3, key))])
    assert spent == 2 * (4 * 3**3 + 4**3)
    assert looked == [True, False, True, True, False]
    compute(3, key)  # without a counter
    assert looked[-1] is False


def test_elementwise_parts_cost_what_is_alike_in_them_and_what_was_counted_before_costs_nothing() -> None:
    def product() -> None:
        with alike("product"):
            _ = A @ B

    def within(part: Callable[[], Any]) -> None:
        with part():
            _ = A @ B
            product()

    once = 2 * 40 * 12 * 5
    assert flops_of(lambda: (within(elementwise), product())) == 2 * once
    assert flops_of(lambda: (within(counted_before), product())) == once
    within(elementwise)
    within(counted_before)


def test_a_failure_inside_leaves_no_counter_behind() -> None:
    for part in (lambda: alike(object()), elementwise, counted_before):
        with pytest.raises(ZeroDivisionError), FlopCounter(), part():
            raise ZeroDivisionError
        assert FlopCounter._active is None
        with FlopCounter() as counter:
            _ = A @ B
        assert counter.flops == 2 * 40 * 12 * 5


@pytest.mark.parametrize("name", [n for n in NETS if "rational_raw" not in n])
def test_a_step_that_trains_some_parameters_costs_what_its_backward_pass_computes(name: str) -> None:
    model, x = NETS[name].build(batch=5)
    parameters = list(model.parameters())
    for trained in (parameters, parameters[len(parameters) // 2 :], parameters[-1:]):
        for parameter in parameters:
            parameter.requires_grad_(any(parameter is t for t in trained))
        with sdpa_kernel(SDPBackend.MATH):  # a fused backward pass computes some of it twice
            computed = flops_of(lambda: model(x).sum().backward())
        said = 5 * step_flops_per_sample(model, model.input_shape, trained)
        assert said == pytest.approx(computed, rel=0.03)
