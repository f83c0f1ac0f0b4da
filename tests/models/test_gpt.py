"""model=gpt against a literal decoder in float64, and where it can grow."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from grow_cli.data.base import DataSpec
from grow_cli.models.base import rebuild
from grow_cli.models.gpt import GPTOption
from grow_cli.models.modules.layers import angles
from grow_cli.models.modules.network import GrowableModel
from grow_cli.surgery.flops import flops_per_sample

CONTEXT = 11


def net(**keys: Any) -> Any:
    torch.manual_seed(0)
    built = GPTOption(**({"dim": 12, "heads": 3, "mlp": [20, 7]} | keys)).build(
        DataSpec("text", "language", (CONTEXT,), 256)
    )
    with torch.no_grad():  # norms that are not at their start, so that a forgotten one shows
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built.eval().requires_grad_(False)


def norm(x: list[float], weight: Tensor, bias: Tensor) -> list[float]:
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / len(x)
    return [
        (v - mean) / math.sqrt(variance + 1e-5) * float(w) + float(b) for v, w, b in zip(x, weight, bias, strict=True)
    ]


def linear(layer: Any, x: list[float]) -> list[float]:
    bias = layer.bias if layer.bias is not None else torch.zeros(len(layer.weight))
    return [
        sum(float(w) * v for w, v in zip(row, x, strict=True)) + float(b)
        for row, b in zip(layer.weight, bias, strict=True)
    ]


def gelu(v: float) -> float:
    return v * 0.5 * (1 + math.erf(v / math.sqrt(2)))


def literal(model: Any, tokens: list[int]) -> list[list[float]]:
    """The decoder with loops over numbers, as a textbook has it."""
    stream = [[float(v) for v in model.embedding[token]] for token in tokens]
    if model.positions is not None:
        stream = [[v + float(p) for v, p in zip(x, model.positions[t], strict=True)] for t, x in enumerate(stream)]
    for block in model.blocks:
        read = [norm(x, block.attention_norm.weight, block.attention_norm.bias) for x in stream]
        q, k, v = ([linear(layer, x) for x in read] for layer in (block.query, block.key, block.value))
        d = len(q[0]) // block.heads
        if block.rotary:
            q, k = ([turned(x, t, block.heads, d) for t, x in enumerate(of)] for of in (q, k))
        for t in range(len(stream)):
            mixed: list[float] = []
            for head in range(block.heads):
                at = slice(head * d, (head + 1) * d)
                scores = [
                    sum(a * b for a, b in zip(q[t][at], k[s][at], strict=True)) / math.sqrt(d) for s in range(t + 1)
                ]
                weights = [math.exp(score - max(scores)) for score in scores]
                for i in range(d):
                    mixed.append(sum(w * v[s][at][i] for s, w in enumerate(weights)) / sum(weights))
            stream[t] = [a + b for a, b in zip(stream[t], linear(block.out, mixed), strict=True)]
        for t, x in enumerate(stream):
            hidden = [gelu(h) for h in linear(block.producer, norm(x, block.mlp_norm.weight, block.mlp_norm.bias))]
            stream[t] = [a + b for a, b in zip(x, linear(block.consumer, hidden), strict=True)]
    last = [norm(x, model.norm.weight, model.norm.bias) for x in stream]
    if model.head is not None:
        return [linear(model.head, x) for x in last]
    return [[sum(float(e) * v for e, v in zip(row, x, strict=True)) for row in model.embedding] for x in last]


def turned(x: list[float], place: int, heads: int, d: int) -> list[float]:
    out = list(x)
    for head in range(heads):
        for i in range(d // 2):
            angle = place * 10000 ** (-2 * i / d)
            a, b = x[head * d + i], x[head * d + i + d // 2]
            out[head * d + i] = a * math.cos(angle) - b * math.sin(angle)
            out[head * d + i + d // 2] = b * math.cos(angle) + a * math.sin(angle)
    return out


@pytest.mark.parametrize(
    "keys",
    [{}, {"positions": "rotary", "tie": True}, {"mlp": []}, {"head_size": 6, "head_counts": [1, 4]}],
    ids=["gpt", "rotary", "empty", "uneven heads"],
)
def test_it_computes_what_a_literal_decoder_computes_in_float64(keys: dict[str, Any]) -> None:
    model = net(**keys).double()
    for block in model.blocks:
        if block.rotary:  # their tables are of float32
            block.cos, block.sin = (
                f(torch.arange(CONTEXT)[:, None].double() * 10000 ** (-torch.arange(0, 4, 2).double() / 4))
                for f in (torch.cos, torch.sin)
            )
    tokens = [17, 3, 255, 0, 17, 99]
    found = model(torch.tensor([tokens]))[0]
    torch.testing.assert_close(found, torch.tensor(literal(model, tokens), dtype=torch.float64), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_no_output_depends_on_a_byte_that_comes_later(positions: str) -> None:
    model = net(positions=positions)
    x = torch.randint(256, (2, CONTEXT))
    other = x.clone()
    other[:, 7:] = (x[:, 7:] + 1) % 256
    a, b = model(x), model(other)
    torch.testing.assert_close(a[:, :7], b[:, :7], rtol=0, atol=1e-6)
    assert (a[:, 7:] - b[:, 7:]).abs().max() > 1e-3
    torch.testing.assert_close(model(x[:, :5]), a[:, :5], rtol=0, atol=1e-6)


def test_what_blocks_add_begins_smaller_by_the_root_of_their_number() -> None:
    def spread(blocks: int) -> tuple[float, float]:
        torch.manual_seed(1)
        built: Any = (
            GPTOption(dim=64, heads=2, blocks=blocks)
            .build(DataSpec("text", "language", (8,), 256))
            .requires_grad_(False)
        )
        return float(built.blocks[0].out.weight.std()), float(built.blocks[0].query.weight.std())

    (one, query), (eight, _) = spread(1), spread(8)
    assert one == pytest.approx((3 * 64) ** -0.5 / 2**0.5, rel=0.05)
    assert query == pytest.approx((3 * 64) ** -0.5, rel=0.05)
    assert eight == pytest.approx(one / 8**0.5, rel=0.05)


def test_a_later_block_counts_itself() -> None:
    grown: GrowableModel = net(mlp=[20] * 7)
    site = grown.depth_sites()[-1]
    new: Any = site.make_block().requires_grad_(False)
    assert float(new.out.weight.abs().max()) <= 12**-0.5 / 16**0.5 + 1e-6
    assert float(new.out.weight.abs().max()) > 0.9 * 12**-0.5 / 16**0.5


def test_blocks_and_mlp_say_the_same_thing_once() -> None:
    assert GPTOption().hidden == [256, 256]
    assert GPTOption(blocks=0).hidden == []
    assert GPTOption(blocks=3, dim=8, heads=2).hidden == [32, 32, 32]
    assert GPTOption(blocks=1, mlp=[5]).hidden == [5]
    with pytest.raises(ValueError, match=r"model.blocks=3: model.mlp=\[5\] has another length"):
        GPTOption(blocks=3, mlp=[5])
    with pytest.raises(ValueError, match=r"model\.heads=5: must divide model\.dim=64"):
        GPTOption(heads=5)
    with pytest.raises(ValueError, match="must be even"):
        GPTOption(dim=12, heads=4, positions="rotary")


def test_a_grown_net_is_rebuilt_from_its_architecture() -> None:
    model = net(positions="rotary", tie=True)
    again = rebuild(model.architecture()).eval()
    again.load_state_dict(model.state_dict())
    x = torch.randint(256, (1, CONTEXT))
    assert torch.equal(again(x), model(x))
    assert [site.name for site in model.width_sites()] == ["block 1 hidden", "block 2 hidden"]
    assert len(model.depth_sites()) == 3
    assert model.depth_sites()[0].units == 20
    assert net(mlp=[]).depth_sites()[0].units == 48


def test_a_block_that_passes_everything_on_changes_no_output_at_all() -> None:
    model = net()
    x = torch.randint(256, (2, CONTEXT))
    before = model(x)
    site = model.depth_sites()[1]
    block = site.make_block()
    block.identity_()
    site.stack.insert(site.index, block)
    assert torch.equal(model(x), before)


def test_flops_are_those_of_the_products() -> None:
    model = net(mlp=[20])
    t, d = CONTEXT, 12
    expected = 2 * t * (4 * d * d + 2 * d * 20) + 2 * 2 * t * t * d + 2 * t * d * 256
    assert flops_per_sample(model, model.input_shape) == expected


def test_angles_begin_at_nothing() -> None:
    cos, sin = angles(4, 6)
    assert cos[0].tolist() == [1, 1, 1]
    assert sin[0].tolist() == [0, 0, 0]
    assert float(sin[1, 0]) == pytest.approx(math.sin(1))
