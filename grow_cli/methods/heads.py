"""New attention heads in the blocks of a transformer.

A head reads the stream by its own queries, keys and values and writes to it by its own columns of the block's last
attention map, so heads can be added as hidden units can: copies of present ones that share what they write (Net2WiderNet,
Chen et al., 2016, with heads for units), or fresh ones, which write nothing at first or speak at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.methods.base import Method
from grow_cli.methods.net2net import shared
from grow_cli.methods.width import parameters_left
from grow_cli.registry import option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import HeadSite
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Event, Notes
    from grow_cli.surgery.proposal import HeadProposal, Proposal


@option("method", "heads")
@dataclass
class Heads(Method):
    """Attention heads: more in every block of `model=gpt` or `vit`."""

    kind = "heads"
    no_score = "the natural expansion score is defined for units and layers, and not for attention heads"

    heads: int = key(2, at_least=1, at_most=1024)
    """New heads per block and event."""
    start: str = key("copy", one_of=("copy", "zero", "fresh"))
    """`copy`: copies of heads drawn at random, which share what they write; `zero`: fresh ones that write nothing at
    first; `fresh`: as at the start of training. Only `fresh` changes the net's outputs."""
    noise: float = key(0.1, at_least=0)
    """Of `copy`: size of the random difference between the copies' shares, relative to a share."""
    max_heads: int | None = key(None, at_least=1, null="for no limit")
    """The most heads in a block."""

    @property
    def preserves_function(self) -> bool:  # type: ignore[override]
        return self.start != "fresh"

    def check(self, model: GrowableModel) -> list[str]:
        if not model.head_sites():
            raise UserError(
                f"method=heads cannot grow model={model.name}: it has no block with attention: use model=gpt on text or "
                "model=vit on images, with at least one block"
            )
        return []

    def closed(self, now: Moment) -> str:
        if any(self._room(now, site) for site in now.model.head_sites()):
            return ""
        return (
            f"no block can get another head (method.max_heads={self.max_heads}, "
            f"growth.max_parameters={now.config.growth.max_parameters})"
        )

    def _room(self, now: Moment, site: HeadSite) -> int:
        """The most heads to add there in one event."""
        maps = (*site.producers, site.consumer)
        each = (sum(linear.weight.numel() for linear in maps) + 3 * site.producers[0].out_features) // site.units
        most = min(self.heads, parameters_left(now) // each)
        return most if self.max_heads is None else min(most, max(0, self.max_heads - site.units))

    def candidates(self, now: Moment, notes: Notes) -> list[Proposal]:
        return list(self._proposed(now))

    def add(self, now: Moment, event: Event) -> None:
        for proposal in self._proposed(now):
            event.apply(proposal)
        if not event.applied:
            event.nothing(self.closed(now))

    def _proposed(self, now: Moment) -> Iterator[Proposal]:
        """Block by block, each for the net as it is by then: every head leaves less room."""
        for i in range(len(now.model.head_sites())):
            site = now.model.head_sites()[i]
            k = self._room(now, site)
            if k:
                yield copied_heads(site, k, self.noise) if self.start == "copy" else fresh_heads(site, k, self.start)


def copied_heads(site: HeadSite, k: int, noise: float) -> HeadProposal:
    """Copies of heads drawn at random, each equally often as far as possible; the block's function stays as it is."""
    from grow_cli.hardware import sent
    from grow_cli.surgery.proposal import HeadProposal

    heads, size, out = site.units, site.size, site.consumer.weight.detach()
    copied, shares = shared(out.reshape(len(out), heads, size), k, noise)
    source = sent(copied, out.device)
    return HeadProposal(
        site,
        tuple(p.weight.detach().unflatten(0, (heads, size))[source].flatten(0, 1) for p in site.producers),
        tuple(p.bias.detach().unflatten(0, (heads, size))[source].flatten() for p in site.producers),
        shares[:, heads:].reshape(len(out), k * size),
        details={"site": site.name, "heads": k, "copied": copied.tolist()},
        replace={cast("nn.Parameter", site.consumer.weight): shares[:, :heads].reshape(out.shape)},
    )


def fresh_heads(site: HeadSite, k: int, start: str) -> HeadProposal:
    """The last heads of a new block with so many more; `start="zero"`: with nothing written."""
    from grow_cli.hardware import sent_module
    from grow_cli.surgery.proposal import HeadProposal

    rows, like = k * site.size, site.consumer.weight
    block = sent_module(site.make_block(site.units + k), like)
    new = (block.query, block.key, block.value)
    outgoing = block.out.weight.detach()[:, -rows:]
    return HeadProposal(
        site,
        tuple(p.weight.detach()[-rows:] for p in new),
        tuple(p.bias.detach()[-rows:] for p in new),
        outgoing if start == "fresh" else outgoing.new_zeros(outgoing.shape),
        details={"site": site.name, "heads": k, "start": start},
    )
