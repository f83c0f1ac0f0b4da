"""Patches, goals and their products against loops over samples, output pixels and offsets of the consumer's kernel."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grow_cli.errors import UserError
from grow_cli.models.modules.sites import WidthSite
from grow_cli.surgery.apply import apply
from grow_cli.surgery.patches import SitePatches, outer
from grow_cli.surgery.proposal import WidthProposal

UNITS, OUTPUTS, NEW = 3, 2, 4


@dataclass(frozen=True)
class Case:
    """A producer, a consumer and what lies in between; samples of the producer's inputs have this shape."""

    shape: tuple[int, ...]
    producer: dict[str, Any] = field(default_factory=dict)
    pools: tuple[nn.Module, ...] = ()
    consumer: dict[str, Any] | None = None
    """None: linear."""

    def build(self, *, linear: bool) -> tuple[nn.Sequential, WidthSite, Tensor]:
        """In float64. With `linear` the activation is the identity, and pooling the mean."""
        torch.manual_seed(5)
        x = torch.randn(3, *self.shape)
        if len(self.shape) == 3:
            producer: Any = nn.Conv2d(self.shape[0], UNITS, **self.producer)
        else:
            producer = nn.Linear(self.shape[-1], UNITS, **self.producer)
        activation = nn.Identity() if linear else nn.Tanh()
        pools = [mean_of(pool) if linear else pool for pool in self.pools]
        middle = nn.Sequential(producer, *pools)(x)
        if self.consumer is None:
            consumer: Any = nn.Linear(middle.shape[1 if len(self.shape) == 3 else -1], OUTPUTS)
        else:
            consumer = nn.Conv2d(UNITS, OUTPUTS, **self.consumer)
        columns = 1 if self.consumer is not None else consumer.in_features // UNITS
        between = (activation, *pools)
        model = nn.Sequential(producer, *between, consumer).double().eval()
        return model, WidthSite("hidden", producer, between, activation, consumer, columns), x.double()


def mean_of(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.MaxPool2d):
        return nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
    return nn.Sequential(*map(mean_of, module)) if isinstance(module, nn.Sequential) else module


def conv(kernel: Any, stride: Any = 1, padding: Any = 0, bias: bool = True) -> dict[str, Any]:
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "bias": bias}


GAP = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
CASES = {
    "1 to 1": Case((2, 3, 4), conv(1), (), conv(1)),
    "1 to 1, padded": Case((2, 3, 4), conv(1), (), conv(1, 1, 2)),
    "1 to 1, strided": Case((2, 5, 4), conv(1, 2), (), conv(1, 2)),
    "3 to 3 same": Case((2, 5, 4), conv(3, 1, 1), (), conv(3, 1, 1)),
    "3 to 3 without bias": Case((2, 5, 4), conv(3, 1, 1, False), (), conv(3, 1, 1, False)),
    "3 to 3 unpadded": Case((1, 7, 6), conv(3), (), conv(3)),
    "3 to 3 wide margin": Case((1, 4, 3), conv(3, 1, 2), (), conv(3, 1, 2)),
    "3 to 2 beyond its kernel": Case((1, 4, 3), conv(3, 1, 1), (), conv(2, 1, 2)),
    "2 to 2": Case((2, 4, 5), conv(2), (), conv(2, 1, 1)),
    "5 to 5": Case((1, 6, 5), conv(5, 1, 2), (), conv(5, 1, 2)),
    "5 to 5 small margin": Case((1, 7, 8), conv(5, 1, 1), (), conv(5, 1, 1)),
    "stride 2 to 3": Case((2, 7, 6), conv(3, 2, 1), (), conv(3, 1, 1)),
    "3 to stride 2": Case((2, 7, 6), conv(3, 1, 1), (), conv(3, 2, 1)),
    "3 to stride 2, rows left over": Case((1, 6, 8), conv(3, 1, 1), (), conv(3, 2)),
    "3 to stride 3, gaps": Case((1, 7, 8), conv(3, 1, 1), (), conv(2, 3)),
    "stride 2 to stride 2": Case((2, 9, 8), conv(3, 2, 1), (), conv(5, 2, 2)),
    "1 to stride 2 with margin": Case((1, 5, 4), conv(1), (), conv(1, 2, 1)),
    "oblong": Case((2, 6, 7), conv((1, 3), (2, 1), (0, 1)), (), conv((3, 2), (1, 2), (2, 0))),
    "max pool to 3": Case((1, 6, 7), conv(3, 1, 1), (nn.MaxPool2d(2),), conv(3, 1, 1)),
    "avg pool to 3": Case((2, 7, 6), conv(3, 1, 1), (nn.AvgPool2d(2),), conv(3, 2, 1)),
    "two pools, dropout": Case((1, 9, 8), conv(1), (nn.AvgPool2d(2), nn.Dropout(0.5), nn.MaxPool2d(2)), conv(2)),
    "overlapping pool": Case((1, 7, 6), conv(3, 1, 1), (nn.MaxPool2d(3, 2),), conv(3, 1, 1)),
    "padded pool": Case((1, 7, 6), conv(3, 1, 1), (nn.MaxPool2d(3, 2, 1),), conv(3, 1, 1)),
    "flatten": Case((2, 3, 2), conv(3, 1, 1), (nn.Flatten(),)),
    "pool, flatten": Case((1, 5, 6), conv(3, 1, 1), (nn.MaxPool2d(2), nn.Flatten())),
    "gap": Case((2, 3, 4), conv(3, 2, 1), (GAP,)),
    "pool, gap without bias": Case((1, 4, 6), conv(2, 1, 0, False), (nn.AvgPool2d(2), GAP)),
    "linear": Case((5,)),
    "linear without bias": Case((5,), {"bias": False}),
    "tokens": Case((4, 5)),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def literal_patches(x: Tensor, linear: Any) -> dict[tuple[int, ...], Tensor]:
    """(sample, output position) → what the map reads there, a 1 for its bias last."""
    ones = [1.0] if linear.bias is not None else []
    if isinstance(linear, nn.Linear):
        found = {index: x[index].tolist() for index in product(*map(range, x.shape[:-1]))}
    else:
        (kh, kw), (sh, sw), (ph, pw) = linear.kernel_size, linear.stride, linear.padding
        n, channels, height, width = x.shape
        found = {}
        rows, columns = (height + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1
        for s, i, j in product(range(n), range(rows), range(columns)):
            found[s, i, j] = []
            for c, a, b in product(range(channels), range(kh), range(kw)):
                row, column = i * sh + a - ph, j * sw + b - pw
                inside = 0 <= row < height and 0 <= column < width
                found[s, i, j].append(float(x[s, c, row, column]) if inside else 0.0)
    return {index: torch.tensor(values + ones, dtype=torch.float64) for index, values in found.items()}


def literal_means(patches: dict[tuple[int, ...], Tensor], module: nn.Module) -> dict[tuple[int, ...], Tensor]:
    """Of the patches in each window of a pooling."""
    if isinstance(module, nn.Sequential):
        for part in module:
            patches = literal_means(patches, part)
    if not isinstance(module, nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
        return patches
    n, height, width = (max(index[d] for index in patches) + 1 for d in range(3))
    if isinstance(module, nn.AdaptiveAvgPool2d):
        (kh, kw), (sh, sw), pad = (height, width), (1, 1), 0
    else:
        (kh, kw), (sh, sw), pad = pair(module.kernel_size), pair(module.stride), int(module.padding)
    found = {}
    for s, i, j in product(range(n), range((height + 2 * pad - kh) // sh + 1), range((width + 2 * pad - kw) // sw + 1)):
        window = [(s, i * sh + a - pad, j * sw + b - pad) for a in range(kh) for b in range(kw)]
        found[s, i, j] = sum(patches[place] for place in window if place in patches) / (kh * kw)
    return found


def literal_middle(site: WidthSite, x: Tensor) -> dict[tuple[int, ...], Tensor]:
    """(sample, middle position) → what a new unit sees there."""
    patches = literal_patches(x, site.producer)
    for module in site.between:
        patches = literal_means(patches, module)
    return patches


def readings(site: WidthSite, middle: dict[tuple[int, ...], Any], goal: Tensor) -> list[tuple[Any, int, Any]]:
    """(output position, offset, middle position): which output reads which position with which weight."""
    places = sorted({index[1:] for index in middle})
    if isinstance(site.consumer, nn.Linear):
        flat = goal.dim() == 2 and len(places[0]) == 2
        return [((), d, place) for d, place in enumerate(places)] if flat else [(place, 0, place) for place in places]
    (kh, kw), (sh, sw), (ph, pw) = site.consumer.kernel_size, site.consumer.stride, site.consumer.padding
    found = []
    for i, j, a, b in product(*map(range, goal.shape[2:]), range(kh), range(kw)):
        place = (i * sh + a - ph, j * sw + b - pw)
        if place in places:
            found.append(((i, j), a * kw + b, place))
    return found


def goal_at(site: WidthSite, goal: Tensor, sample: int, position: Any) -> Tensor:
    """(m,)"""
    return goal[(sample, slice(None), *position)] if isinstance(site.consumer, nn.Conv2d) else goal[(sample, *position)]


def columns_of(found: dict[tuple[int, ...], Tensor]) -> Tensor:
    return torch.stack([found[index] for index in sorted(found)], 1)


def new_units(patches: SitePatches) -> tuple[Tensor, Tensor]:
    """α (k, p), ω (m · offsets, k)."""
    alpha = torch.randn(NEW, patches.fan_in, dtype=torch.float64)
    return alpha, torch.randn(patches.fan_out, NEW, dtype=torch.float64)


def added_by_surgery(model: nn.Sequential, site: WidthSite, x: Tensor, alpha: Tensor, outgoing: Tensor) -> Tensor:
    """How the outputs of the real layers change."""
    before = model(x)
    weight = site.producer.weight
    incoming = alpha[:, : weight[0].numel()].reshape(-1, *weight.shape[1:])
    bias = alpha[:, -1] if site.producer.bias is not None else None
    apply(WidthProposal(site, incoming, bias, outgoing), model, None)
    return model(x) - before


@every_case
def test_columns_are_what_the_layers_read(case: Case) -> None:
    model, site, x = case.build(linear=True)
    patches = SitePatches(site)
    middle, goal = model[:-1](x).detach(), torch.randn_like(model(x))
    torch.testing.assert_close(patches.fan_in_columns(x).flatten(1), columns_of(literal_middle(site, x)))
    read = literal_patches(middle, site.consumer)
    torch.testing.assert_close(patches.consumer_columns(middle), columns_of(read), rtol=0, atol=0)
    goals = {index: goal_at(site, goal, index[0], index[1:]) for index in read}
    torch.testing.assert_close(patches.goal_columns(goal), columns_of(goals), rtol=0, atol=0)
    assert patches.fan_in == len(columns_of(literal_middle(site, x)))
    assert patches.fan_out == OUTPUTS * patches.offsets


@every_case
def test_products_are_sums_over_samples_outputs_and_offsets(case: Case) -> None:
    model, site, x = case.build(linear=True)
    patches = SitePatches(site)
    goal = torch.randn_like(model(x))
    seen = literal_middle(site, x)
    p = patches.fan_in
    gram, cross = torch.zeros(p, p).double(), torch.zeros(p, OUTPUTS, patches.offsets).double()
    for output, offset, place in readings(site, seen, goal):
        for s in range(len(x)):
            patch = seen[(s, *place)]
            gram += torch.outer(patch, patch)
            cross[:, :, offset] += torch.outer(patch, goal_at(site, goal, s, output))
    for _ in range(2):  # how often a position is read is counted once
        torch.testing.assert_close(patches.gram(patches.fan_in_columns(x)), gram)
    torch.testing.assert_close(patches.cross(patches.fan_in_columns(x), goal), cross.flatten(1))


@every_case
def test_a_goal_times_the_effect_of_real_new_units_is_alpha_n_omega(case: Case) -> None:
    model, site, x = case.build(linear=True)
    patches = SitePatches(site)
    goal = torch.randn_like(model(x))
    alpha, omega = new_units(patches)
    cross = patches.cross(patches.fan_in_columns(x), goal)
    change = added_by_surgery(model, site, x, alpha, patches.fan_out_weights(omega))
    torch.testing.assert_close((goal * change).sum(), sum(alpha[k] @ cross @ omega[:, k] for k in range(NEW)))


@every_case
@pytest.mark.parametrize("linear", [True, False])
def test_effects_are_what_real_new_units_add(case: Case, linear: bool) -> None:
    model, site, x = case.build(linear=linear)
    patches = SitePatches(site)
    alpha, omega = new_units(patches)
    outgoing = patches.fan_out_weights(omega)
    producer = deepcopy(site.producer)
    change = added_by_surgery(model, site, x, alpha, outgoing)
    weight = alpha[:, : producer.weight[0].numel()].reshape(-1, *producer.weight.shape[1:])
    bias = alpha[:, -1] if producer.bias is not None else None
    if isinstance(producer, nn.Conv2d):
        z = F.conv2d(x, weight, bias, producer.stride, producer.padding)
    else:
        z = F.linear(x, weight, bias)
    torch.testing.assert_close(patches.effect(z, outgoing), change)
    if linear:
        torch.testing.assert_close(patches.linear_effect(z, outgoing), change)


def test_a_large_gram_matrix_is_that_of_all_its_blocks() -> None:
    columns = torch.randn(301, 7, dtype=torch.float64)
    torch.testing.assert_close(outer(columns), columns @ columns.T)
    weights = torch.rand(7, dtype=torch.float64)
    torch.testing.assert_close(outer(columns, weights), columns @ weights.diag() @ columns.T)


def site_of(producer: Any, consumer: Any, *between: nn.Module) -> WidthSite:
    activation = nn.SELU()
    return WidthSite("stage 1 conv 2", producer, (activation, *between), activation, consumer)


@pytest.mark.parametrize("place", ["producer", "consumer"])
@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"groups": 2}, "groups=2, but new channels can be computed only for groups=1"),
        ({"dilation": 2}, r"dilation=\(2, 2\)"),
        ({"padding": 1, "padding_mode": "circular"}, "padding_mode=circular"),
        ({"padding": "same"}, "padding='same': give it as a number of pixels"),
    ],
)
def test_convolutions_that_patches_do_not_describe_are_refused(place: str, keys: dict[str, Any], sentence: str) -> None:
    usual, other = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3, **keys)
    pair_of = (other, usual) if place == "producer" else (usual, other)
    with pytest.raises(UserError, match=f"'stage 1 conv 2' has {sentence}"):
        SitePatches(site_of(*pair_of))


@pytest.mark.parametrize("module", [nn.LayerNorm(4), nn.Softmax(1), nn.Sequential(nn.AdaptiveMaxPool2d(1)), nn.Tanh()])
def test_modules_that_cannot_be_followed_are_refused(module: nn.Module) -> None:
    name = type(module[0] if isinstance(module, nn.Sequential) else module).__name__
    with pytest.raises(UserError, match=f"units at 'stage 1 conv 2' pass a {name}, through which"):
        SitePatches(site_of(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3), module))


def test_a_max_pooling_with_dilation_is_refused() -> None:
    with pytest.raises(UserError, match="MaxPool2d"):
        SitePatches(site_of(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3), nn.MaxPool2d(2, dilation=2)))
