"""A proposed addition to a net, as tensors; nothing changes until `apply`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from grow_cli.hardware import sent, sent_module
from grow_cli.models.modules.layers import Growable
from grow_cli.models.modules.sites import DepthSite, HeadSite, WidthSite

# A follower's new units, where the proposal is silent: batch norm as at its start, SENN's activation as the identity.
_NEW_UNIT = {
    "weight": 1.0,
    "bias": 0.0,
    "running_mean": 0.0,
    "running_var": 1.0,
    "alpha": 1.0,
    "beta": 0.0,
    "gamma": 0.0,
}


def _match(what: str, found: Tensor, needed: tuple[int, ...]) -> None:
    if tuple(found.shape) != needed:
        raise ValueError(f"{what} has shape {tuple(found.shape)} where {needed} is needed")


@dataclass(frozen=True, eq=False)
class WidthProposal:
    """New units at the end of a hidden dimension."""

    kind: ClassVar[str] = "width"

    site: WidthSite
    incoming: Tensor
    """(k, fan_in), or (k, channels, height, width) of the producer's kernels."""
    incoming_bias: Tensor | None
    """(k,); None for zeros."""
    outgoing: Tensor
    """(consumer's outputs, k · columns_per_unit), or (consumer's channels, k, height, width) of its kernels."""
    details: dict[str, Any] = field(default_factory=dict)
    """The method's own, for the growth log."""
    followers: Mapping[str, Tensor] = field(default_factory=dict)
    """A follower's tensor (`running_mean`, `alpha`, ...) → the new units' values (k,), where not the usual ones."""
    replace: Mapping[nn.Parameter, Tensor] = field(default_factory=dict)
    """An old parameter → what its values become before the units are added (halved copies, a best update, ...)."""

    @property
    def units(self) -> int:
        """k."""
        return self.incoming.shape[0]

    def follower_values(self, follower: nn.Module) -> dict[str, Tensor]:
        """The new units' entries: name of each of the follower's tensors → (k,)."""
        usual = {name: _NEW_UNIT.get(name, 0.0) for name, t in follower.state_dict().items() if t.ndim}
        full = self.incoming.new_full
        return {name: self.followers.get(name, full((self.units,), value)) for name, value in usual.items()}

    def activations(self, x: Tensor) -> Tensor:
        """From the producer's input, what the consumer would read of the new units alone; differentiable."""
        site, producer = self.site, self.site.producer
        if isinstance(producer, nn.Conv2d):
            y = F.conv2d(x, self.incoming, self.incoming_bias, producer.stride, producer.padding)
        else:
            y = F.linear(x, self.incoming, self.incoming_bias)
        for module in site.between:
            # copies: batch norm in training mode counts batches
            own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
            y = functional_call(module, own | self.follower_values(module), (y,)) if own else module(y)
        return y

    def check(self, model: nn.Module) -> None:
        """ValueError unless every tensor fits the site, and every replaced parameter is the net's."""
        site, where, k = self.site, f"the proposal at {self.site.name!r}", self.units
        consumer = site.consumer.weight.shape
        _match(f"incoming of {where}", self.incoming, (k, *site.producer.weight.shape[1:]))
        _match(f"outgoing of {where}", self.outgoing, (consumer[0], k * site.columns_per_unit, *consumer[2:]))
        if self.incoming_bias is not None:
            if site.producer.bias is None:
                raise ValueError(f"{where} has an incoming bias and the producer has none: fold it away or drop it")
            _match(f"incoming bias of {where}", self.incoming_bias, (k,))
        known = {name for follower in site.followers for name in self.follower_values(follower)}
        for name, values in self.followers.items():
            if name not in known:
                raise ValueError(f"{where} gives {name!r}, which no follower has: they have {sorted(known)}")
            _match(f"{name} of {where}", values, (k,))
        _check_replacements(where, self.replace, model)


@dataclass(frozen=True, eq=False)
class DepthProposal:
    """A new layer in a stack."""

    kind: ClassVar[str] = "depth"

    site: DepthSite
    state: Mapping[str, Tensor] | None = None
    """Of the layer's state dict, the entries that are not as `make_block` initialises them; None: all are."""
    details: dict[str, Any] = field(default_factory=dict)
    """The method's own, for the growth log."""
    replace: Mapping[nn.Parameter, Tensor] = field(default_factory=dict)
    """Old parameter of the net → what its values become (SENN: the consumer's weight, W W_q⁻¹)."""
    moments: Mapping[str, nn.Parameter] = field(default_factory=dict)
    """Name of a parameter of the layer → the net's parameter whose memory in the optimizer it begins with; none of the others."""

    @property
    def units(self) -> int:
        """Hidden units of the new layer."""
        return self.site.units

    def block(self, like: Tensor) -> Growable:
        """The new layer, with `like`'s device and dtype; drawn from the global random stream, then given `state`.

        ValueError unless every tensor of `state` fits.
        """
        block = sent_module(self.site.make_block(), like)
        own, where = block.state_dict(), f"the proposal at {self.site.name!r}"
        for name, values in (self.state or {}).items():
            if name not in own:
                raise ValueError(f"{where} gives {name!r}, which the new layer does not have: it has {sorted(own)}")
            _match(f"{name} of {where}", values, tuple(own[name].shape))
        state = {name: sent(values, like.device) for name, values in (self.state or {}).items()}
        block.load_state_dict(state, strict=False)
        return block

    def activations(self, x: Tensor) -> list[Tensor]:
        """From the layer's input, what is read after its units: a tensor per linear map that reads them."""
        return self.block(x).activations(x)

    def check(self, model: nn.Module) -> None:
        """ValueError unless every parameter named is the net's, those replaced with values that fit; `block` checks the state."""
        where, present = f"the proposal at {self.site.name!r}", {id(parameter) for parameter in model.parameters()}
        _check_replacements(where, self.replace, model)
        for name, parameter in self.moments.items():
            if id(parameter) not in present:
                raise ValueError(
                    f"the memory of {name!r} of {where} is of a parameter that the net does not have: propose anew"
                )


@dataclass(frozen=True, eq=False)
class HeadProposal:
    """New attention heads at the end of a block's."""

    kind: ClassVar[str] = "heads"

    site: HeadSite
    incoming: tuple[Tensor, ...]
    """Of queries, keys and values: (k · size, dim)."""
    incoming_bias: tuple[Tensor, ...]
    """(k · size,) each."""
    outgoing: Tensor
    """(dim, k · size)."""
    details: dict[str, Any] = field(default_factory=dict)
    """The method's own, for the growth log."""
    replace: Mapping[nn.Parameter, Tensor] = field(default_factory=dict)
    """As of `WidthProposal`."""

    @property
    def units(self) -> int:
        """k."""
        return self.outgoing.shape[1] // self.site.size

    def check(self, model: nn.Module) -> None:
        """ValueError unless every tensor fits the site, and every replaced parameter is the net's."""
        where, rows = f"the proposal at {self.site.name!r}", self.units * self.site.size
        for producer, weight, bias in zip(self.site.producers, self.incoming, self.incoming_bias, strict=True):
            _match(f"incoming of {where}", weight, (rows, producer.in_features))
            _match(f"incoming bias of {where}", bias, (rows,))
        _match(f"outgoing of {where}", self.outgoing, (self.site.consumer.out_features, rows))
        _check_replacements(where, self.replace, model)


@dataclass(frozen=True, eq=False)
class UnitRemoval:
    """Hidden units to be taken away."""

    kind: ClassVar[str] = "removal"

    site: WidthSite
    removed: Tensor
    """(k,) their places, ascending; on the CPU, so that looking at them waits for no device."""
    details: dict[str, Any] = field(default_factory=dict)
    """As of `WidthProposal`."""
    replace: Mapping[nn.Parameter, Tensor] = field(default_factory=dict)
    """As of `WidthProposal`: the consumer's bias, which may stand in for what is removed."""

    @property
    def units(self) -> int:
        """−k."""
        return -len(self.removed)

    def check(self, model: nn.Module) -> None:
        """ValueError unless the units are there, and one at least stays."""
        places = self.removed.tolist()
        if sorted(set(places)) != places or not all(0 <= place < self.site.units for place in places):
            raise ValueError(f"{self.site.name!r} has {self.site.units} units, of which {places} cannot be removed")
        if len(places) == self.site.units:
            raise ValueError(f"all units of {self.site.name!r} would be removed: one must stay")
        _check_replacements(f"the removal at {self.site.name!r}", self.replace, model)


@dataclass(frozen=True, eq=False)
class BlockRemoval:
    """A block of a residual stream to be taken away: what passed it goes on as it is."""

    kind: ClassVar[str] = "removal"

    site: DepthSite
    """That of the block, which is `stack[index]`."""
    details: dict[str, Any] = field(default_factory=dict)
    """As of `WidthProposal`."""

    @property
    def units(self) -> int:
        """The block's hidden units, negative."""
        return -self.site.units

    def check(self, model: nn.Module) -> None:
        """ValueError unless there is such a block in a residual stream."""
        if not self.site.residual or not 0 <= self.site.index < len(self.site.stack):
            raise ValueError(f"there is no block of a residual stream at {self.site.name!r}")


Addition = WidthProposal | DepthProposal | HeadProposal
Removal = UnitRemoval | BlockRemoval
Proposal = Addition | Removal


def _check_replacements(where: str, replace: Mapping[nn.Parameter, Tensor], model: nn.Module) -> None:
    present = {id(parameter) for parameter in model.parameters()}
    for parameter, values in replace.items():
        _match(f"a replaced parameter of {where}", values, tuple(parameter.shape))
        if id(parameter) not in present:  # widening makes new ones: the caller holds one from before
            raise ValueError(f"{where} replaces a parameter that the net does not have (any more): propose anew")
