"""Depth growth: new blocks in a residual stack, shared by `alether`, `copy`, `random`, `deepen` and `replay`.

Their common keys set how many blocks are added per event, where, with which initial output, and whether they are first
trained alone. The default is Alether's protocol (Algorithm 2): one block directly before the frontier block, which
becomes the frontier, is warmed up alone at a reduced rate while everything else is frozen; then everything is trained,
with the learning rate restarted. The methods differ only in the new blocks' weights, which each returns from `starts`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from grow_cli.errors import UserError, check
from grow_cli.keys import key
from grow_cli.methods.base import Method, Settling, WarmUp
from grow_cli.methods.patterns import PATTERNS, Addition, additions
from grow_cli.records.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import DepthSite
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Event, Notes
    from grow_cli.surgery.proposal import DepthProposal, Proposal


class NewBlock(NamedTuple):
    """One that is about to be inserted."""

    site: DepthSite
    source: int | None
    """The place of the block that it is shaped like; None where there is no block yet."""


class Start(NamedTuple):
    """What a new block begins with."""

    state: Mapping[str, Tensor]
    details: dict[str, Any]
    """For the growth log."""


_LOUDNESS = {"as_is": 1.0, "half": 0.5, "zero": 0.0}


@dataclass
class Protocol(Method):
    """The keys of what happens to a new block."""

    warmup_steps: int = key(500, at_least=0, at_most=1_000_000)
    """N_warmup: steps that train only the new blocks."""
    warmup_rate: float = key(0.1, above=0)
    """Learning rate of these steps, as a fraction of the base rate."""
    thaw_steps: int = key(0, at_least=0, at_most=1_000_000)
    """Further steps over which the other tensors join at that rate, nearest first (Remark 14); 0: all at once."""
    output: str = key("as_is", one_of=tuple(_LOUDNESS))
    """Initial output of a new block to the stream: `as_is`, `half` of it, or `zero`, which leaves all outputs of the
    net unchanged."""

    def warm_up(self) -> WarmUp:
        """Phases 1, 3 and 4 of Algorithm 2."""
        return WarmUp(self.warmup_steps, self.warmup_rate, self.thaw_steps)

    def spoken(self, site: DepthSite, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A new block's state with the maps that write to the stream multiplied by what `output` says."""
        factor = _LOUDNESS[self.output]
        if factor == 1:
            return dict(state)
        writers = _writers(site)
        # zeros, and not 0 · w: a weight that is not finite would stay so
        return {n: (t * factor if factor else t.new_zeros(t.shape)) if n in writers else t for n, t in state.items()}


@dataclass
class Blocks(Protocol):
    """The keys of how many blocks an event adds, and where."""

    blocks: int = key(1, at_least=1, at_most=1000)
    """New blocks per event."""
    factor: int | None = key(None, at_least=2, at_most=1000, null="for method.blocks of them")
    """Factor by which the stack becomes deeper per event."""
    pattern: str = key("before_frontier", one_of=PATTERNS)
    """Where new blocks go: `before_frontier` (Alether), `stack`, `interleave`, `middle`, `top` or `bottom`
    (docs/depth.md)."""
    first_frontier: int | None = key(None, at_least=1, null="for the last one")
    """For `before_frontier`: which block is the first frontier, counted from 1. Algorithm 2 leaves it open."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.first_frontier is None or self.pattern == "before_frontier",
            f"method.first_frontier={self.first_frontier} and method.pattern={self.pattern}: only before_frontier has a "
            "frontier to begin at: set method.first_frontier=null",
        )
        check(
            self.factor is None or self.blocks == 1,
            f"method.blocks={self.blocks} and method.factor={self.factor}: give one of them, and method.factor=null for blocks",
        )

    def new_blocks(self, present: int) -> int:
        """How many blocks the next event adds to a stack of `present` blocks."""
        return self.blocks if self.factor is None else (self.factor - 1) * present

    def first(self, present: int) -> int:
        """Place of the first frontier in a stack of `present` blocks."""
        return max(0, present - 1) if self.first_frontier is None else self.first_frontier - 1


@dataclass
class DepthMethod(Blocks):
    """Inserts blocks. A method says in `starts` what they begin with."""

    kind = "depth"

    @property
    def needs_source(self) -> bool:
        """Whether a block is made of another one."""
        return True

    @dataclass
    class State:
        frontier: int = 0
        """Its place in the stack."""

    def build(self, model: GrowableModel) -> Method:
        method = self.begin()
        method.state.frontier = method.first(len(stack_of(model)))
        return method

    def check(self, model: GrowableModel) -> list[str]:
        sites = _sites(model)
        if not sites:
            raise UserError(
                f"method={self.name} cannot grow model={model.name}: its hidden layers are not blocks of a residual stream, "
                "so one cannot be made from another: use model=residual_mlp, or residual_cnn or vit on images"
            )
        present = len(sites[0].stack)
        if not present and self.needs_source:
            raise UserError(
                f"method={self.name} needs a block to grow from: give model={model.name} at least one block"
            )
        if not present and self.factor is not None:
            raise UserError(
                f"method.factor={self.factor} times zero blocks is zero: give method.factor=null and method.blocks, or "
                f"model={model.name} at least one block"
            )
        if self.first_frontier is not None and self.first_frontier > present:
            raise UserError(
                f"method.first_frontier={self.first_frontier}: model={model.name} has {counted(present, 'block')}: give one "
                "of them, or null for the last"
            )
        places = {site.index for site in sites}
        wanted = additions(self.pattern, present, self.new_blocks(present), self.first(present))
        for place in sorted({a.place for a in wanted} - places):
            raise UserError(
                f"method.pattern={self.pattern} inserts at place {place + 1} of the stack, and model={model.name} takes a block "
                f"at {', '.join(str(i + 1) for i in sorted(places))} only: choose another pattern"
                + ("" if self.first_frontier is None else ", or another method.first_frontier")
            )
        if self.output != "as_is" and not _writers(sites[0]):
            raise UserError(
                f"method.output={self.output}: the blocks of model={model.name} do not declare which of their maps write to "
                "the stream (Block.outputs): use method.output=as_is"
            )
        return []

    def check_start(self, now: Moment) -> list[str]:
        too_many = self._too_many(now)
        if too_many:
            raise UserError(f"{too_many}: give a larger limit, or fewer blocks (method.blocks, method.factor)")
        return []

    def closed(self, now: Moment) -> str:
        return self._too_many(now)

    def _too_many(self, now: Moment) -> str:
        """Where several blocks come at once, that they would overshoot `growth.max_parameters`; one alone may end above it."""
        from grow_cli.surgery.measure import count_parameters

        limit, new = now.config.growth.max_parameters, self._additions(now.model)
        if limit is None or len(new) == 1:
            return ""
        added = sum(p.numel() for a in new for p in on_paper(shaped(now.model, a)).parameters())
        total = count_parameters(now.model) + added
        if total <= limit:
            return ""
        return (
            f"{counted(len(new), 'more block')} would make {total:,} parameters, above growth.max_parameters={limit:,}"
        )

    def _additions(self, model: GrowableModel) -> list[Addition]:
        present = len(stack_of(model))
        return additions(self.pattern, present, self.new_blocks(present), self.state.frontier)

    def frontier(self, model: GrowableModel) -> nn.Module:
        """Alether's ℓ_front where new blocks go before it, else the top block; all of a net that has no block yet."""
        stack = stack_of(model)
        if not len(stack):
            return super().frontier(model)
        return stack[self.state.frontier if self.pattern == "before_frontier" else len(stack) - 1]

    def site(self, model: GrowableModel) -> DepthSite:
        """Before the frontier, in place of which the new block becomes the frontier."""
        return _site_at(model, self.state.frontier)

    def starts(self, now: Moment, notes: Notes, new: list[NewBlock]) -> list[Start]:
        """What each of them begins with; none where `notes.nothing` says why not."""
        raise NotImplementedError

    def remembered(self, now: Moment, source: int | None) -> dict[str, nn.Parameter]:
        """Name of a new block's parameter → the parameter whose memory in the optimizer it begins with; none as a rule."""
        return {}

    def candidates(self, now: Moment, notes: Notes) -> list[Proposal]:
        from grow_cli.surgery.proposal import DepthProposal

        new = [NewBlock(shaped(now.model, a), a.source) for a in self._additions(now.model)]
        found = self.starts(now, notes, new)
        return [
            DepthProposal(
                block.site, self.spoken(block.site, state), details, moments=self.remembered(now, block.source)
            )
            for block, (state, details) in zip(new, found, strict=bool(found))
        ]

    def add(self, now: Moment, event: Event) -> None:
        """Each place is that of the net before the event: it moves up by what has been inserted below."""
        for below, proposal in enumerate(self.candidates(now, event)):
            event.apply(_moved_up(now.model, proposal, below) if below else proposal)

    def settle(self, now: Moment, flops_per_sample: int) -> Settling:
        return Settling(warm_up=self.warm_up())


def stack_of(model: GrowableModel) -> nn.ModuleList:
    """The first residual stack, which depth methods grow."""
    return _sites(model)[0].stack


def copied(now: Moment, source: int | None) -> dict[str, Tensor]:
    """The block's own weights and buffers, as they are now."""
    assert source is not None, "a stack without a block is refused before training"
    block = stack_of(now.model)[source]
    return {name: t.clone() for name, t in block.state_dict().items()}


def fresh(new: list[NewBlock]) -> list[Start]:
    """Each as at the start of training."""
    return [Start(block.site.make_block().state_dict(), {}) for block in new]


def named(source: int | None) -> str:
    """How the growth log calls it, by its place before the event."""
    return "" if source is None else f"block {source + 1}"


def shaped(model: GrowableModel, addition: Addition) -> DepthSite:
    """The site of an addition, with a new block like its source, which may be of another width than what stands there."""
    site = _site_at(model, addition.place)
    if addition.source is None or addition.source == addition.place:
        return site
    return like(site, _site_at(model, addition.source))


def like(site: DepthSite, other: DepthSite) -> DepthSite:
    """The site with a new block as the other one has it."""
    return dataclasses.replace(site, make_block=other.make_block, units=other.units)


def _sites(model: GrowableModel) -> list[DepthSite]:
    """Those of the model's first residual stack."""
    residual = [site for site in model.depth_sites() if site.residual]
    return [site for site in residual if site.stack is residual[0].stack]


def _site_at(model: GrowableModel, index: int) -> DepthSite:
    return next(site for site in _sites(model) if site.index == index)


def _moved_up(model: GrowableModel, proposal: Proposal, by: int) -> DepthProposal:
    """The same proposal for the net after `by` blocks have been inserted below its place."""
    from grow_cli.surgery.proposal import DepthProposal

    assert isinstance(proposal, DepthProposal)
    site = like(_site_at(model, proposal.site.index + by), proposal.site)
    return dataclasses.replace(proposal, site=site)


def on_paper(site: DepthSite) -> nn.Module:
    """Its new block without memory; nothing is drawn."""
    import torch

    with torch.device("meta"):
        return site.make_block()


def _writers(site: DepthSite) -> set[str]:
    """The names of the parameters of the maps whose outputs are added to the stream; none where the block does not say."""
    from grow_cli.models.modules.layers import Block

    block = on_paper(site)
    if not isinstance(block, Block):
        return set()
    written = {id(p) for linear in block.outputs() for p in linear.parameters()}
    return {name for name, p in block.named_parameters() if id(p) in written}
