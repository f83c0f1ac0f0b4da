"""Attention heads: what is added, what stays as it is, and that a net with uneven heads is a net like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from grow_cli.data.base import DataSpec
from grow_cli.methods.heads import copied_heads, fresh_heads
from grow_cli.models.base import rebuild
from grow_cli.models.gpt import GPTOption
from grow_cli.models.vit import ViTOption
from grow_cli.records.folder import RunFolder
from grow_cli.sizes.ladder import ladder
from grow_cli.surgery.apply import apply
from grow_cli.surgery.proposal import HeadProposal
from grow_cli.training.event import grow as grow_once

VIT = ("model=vit", "model.dim=8", "model.heads=2", "model.mlp=[6,6]", "model.patch=4")
IMAGES = DataSpec("images", "classification", (1, 8, 8), 3)
TEXT = DataSpec("text", "language", (9,), 256)
NETS = {
    "vit": (ViTOption(patch=4, dim=8, heads=2, mlp=[6, 5]), IMAGES),
    "gpt": (GPTOption(dim=8, heads=2, mlp=[6, 5], tie=True), TEXT),
    "gpt, rotary, heads wider than the stream": (
        GPTOption(dim=6, heads=4, head_size=2, mlp=[6], positions="rotary"),
        TEXT,
    ),
}


def build(name: str) -> tuple[Any, Tensor]:
    torch.manual_seed(1)
    option, ends = NETS[name]
    net = option.build(ends)
    return net, net.example(5)


def new(start: str, site: Any, k: int) -> HeadProposal:
    return copied_heads(site, k, 0.1) if start == "copy" else fresh_heads(site, k, start)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("start", ["copy", "zero", "fresh"])
def test_copies_and_silent_heads_change_no_output_and_fresh_ones_do(start: str, name: str) -> None:
    net, x = build(name)
    before = net(x).detach()
    for index, k in ((0, 3), (len(net.blocks) - 1, 1)):
        heads = net.head_counts()[index]
        apply(new(start, net.head_sites()[index], k), net, None)
        assert net.head_counts()[index] == heads + k
    change = float((net(x).detach() - before).abs().max() / before.abs().max())
    assert change < 1e-5 if start != "fresh" else change > 1e-3
    net(x).sum().backward()
    new_rows = net.blocks[0].out.weight.grad[:, -net.blocks[0].head_size :]
    assert new_rows.abs().sum() > 0  # silent ones learn to speak


def test_copies_of_a_head_write_shares_that_differ_and_add_up_to_what_it_wrote() -> None:
    net, _ = build("vit")
    site = net.head_sites()[0]
    proposal = copied_heads(site, 3, 0.1)
    out = site.consumer.weight.detach().clone().unflatten(1, (2, 4))
    apply(proposal, net, None)
    shares = site.consumer.weight.unflatten(1, (5, 4))
    origin = torch.tensor([0, 1, *proposal.details["copied"]])
    for head in (0, 1):
        torch.testing.assert_close(shares[:, origin == head].sum(1), out[:, head])
        first, second = shares[:, origin == head][:, :2].unbind(1)
        assert not torch.allclose(first, second, rtol=1e-3)


def test_present_heads_keep_their_memory_in_the_optimizer_and_new_ones_begin_without() -> None:
    net, x = build("gpt")
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    net(x).square().mean().backward()
    optimizer.step()
    block = net.blocks[0]
    before = {n: optimizer.state[getattr(block, n).weight]["exp_avg"].clone() for n in ("query", "value", "out")}
    apply(fresh_heads(net.head_sites()[0], 2, "fresh"), net, optimizer)
    for name, old in before.items():
        now = optimizer.state[getattr(block, name).weight]["exp_avg"]
        rows, columns = old.shape
        assert torch.equal(now[:rows, :columns], old)
        assert old.abs().sum() > 0
        assert float(now.abs().sum() - old.abs().sum()) == 0
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in net.parameters()}


def test_a_net_with_uneven_heads_is_rebuilt_and_a_block_put_into_it_is_like_its_neighbour() -> None:
    net, x = build("vit")
    assert "head_counts" not in net.sizes()
    apply(fresh_heads(net.head_sites()[1], 3, "fresh"), net, None)
    assert net.sizes()["head_counts"] == [2, 5]
    other = rebuild(net.architecture())
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))
    assert [site.make_block().heads for site in net.depth_sites()] == [2, 5, 5]
    first = {"head_counts": None, "mlp": [6, 5]}
    found = [rung.sizes["head_counts"] for rung in ladder(net.architecture(), net.settings | first, 4)]
    assert found[0] == [2, 2]
    assert all(counts[0] == 2 for counts in found)
    assert found[-1][1] > 5


def test_heads_stop_at_the_limits_and_say_so(make: Any) -> None:
    loop = make("method=heads", *VIT, "method.heads=2", "method.max_heads=3")
    found = grow_once(loop.session).to_json()
    assert found["units_added"] == 2
    assert loop.session.model.head_counts() == [3, 3]
    assert [entry["kind"] for entry in found["added"]] == ["heads", "heads"]
    assert "method.max_heads=3" in loop.method.closed(loop.session.moment())

    # a head of eight numbers' stream: 4 x 4 x 8 weights and 3 x 4 biases
    parameters = sum(p.numel() for p in loop.session.model.parameters())
    loop = make("method=heads", *VIT, "model.heads=2", f"growth.max_parameters={parameters - 1}")
    assert grow_once(loop.session).to_json()["units_added"] == 1
    assert parameters - loop.session.parameters == 4 * 4 * 8 + 3 * 4


def test_heads_are_refused_where_there_is_no_attention_or_nothing_to_trigger_on(grow: Callable) -> None:
    for typed, words in (
        ("model=mlp", "it has no block with attention: use model=gpt on text or model=vit"),
        ("trigger=eta", "not for attention heads: use trigger=every"),
        ("model.heads=3", "model.heads=3: must divide model.dim=64, or give model.head_size"),
        ("model.head_counts=[1]", "must have a number for each of the net's blocks, of which there are 2"),
    ):
        refused = grow("train", "method=heads", typed)
        assert refused.code == 2
        assert words in refused.err


@pytest.mark.slow
def test_random_replay_adds_heads_where_and_when_the_run_did(grow: Callable, tmp_path: Path) -> None:
    assert grow("train", "method=heads", *VIT, "subset=200", "stop.epochs=4", "run_dir=run", "progress=off").code == 0
    outcome = grow("controls", "run", "--only", "random-replay,static-flops,static-parameters", "progress=off")
    assert outcome.code == 0, outcome.err
    summaries = [RunFolder(tmp_path / p).read_summary() for p in ("run", "run/controls/random-replay")]
    summaries.append(RunFolder(tmp_path / "run/controls/static-flops").read_summary())
    assert [s["architecture"]["model"]["head_counts"] for s in summaries] == [[4, 4]] * 3
    assert summaries[2]["training_flops"] == pytest.approx(summaries[0]["training_flops"], rel=0.05)
    scaled = RunFolder(tmp_path / "run/controls/static-parameters").read_summary()
    assert scaled["architecture"]["model"]["mlp"] != [6, 6]  # the initial net, all of it wider
    assert scaled["parameters"] == pytest.approx(summaries[0]["parameters"], rel=0.02)


def test_fresh_heads_begin_as_those_of_the_first_step_did() -> None:
    torch.manual_seed(0)
    net: Any = GPTOption(dim=64, heads=4, blocks=1).build(TEXT)
    begun = float(net.blocks[0].out.weight.detach().std())
    # U(±1/√fan-in) of eight heads instead of four
    assert float(fresh_heads(net.head_sites()[0], 4, "fresh").outgoing.std()) == pytest.approx(begun / 2**0.5, rel=0.05)
