"""The only code that changes a net."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from grow_cli.hardware import sent
from grow_cli.models.modules.layers import set_sizes
from grow_cli.surgery.optimizer import carry, forget, inherit, mark_new, regroup, select
from grow_cli.surgery.proposal import (
    Addition,
    BlockRemoval,
    DepthProposal,
    HeadProposal,
    Proposal,
    UnitRemoval,
    WidthProposal,
)


def apply(
    proposal: Proposal,
    model: nn.Module,
    optimizer: Optimizer | None,
    *,
    optimizer_state: str = "carry",
    lr_factor: float = 1.0,
    lr_warmup: int = 0,
) -> None:
    """Add or remove what is proposed; ValueError, and nothing is changed, if it does not fit.

    Inserting a layer keeps every parameter object. Widening replaces those of producer, followers and consumer by
    longer ones, without gradient, and so does adding heads; removing units replaces them by shorter ones. With
    `optimizer_state="reset"` the optimizer forgets everything, and so does one whose memory is of the `whole_net`; with
    "age" it notes when entries were added, and whose rate has an `lr_factor` or an `lr_warmup`: `follow_new_entries` applies
    all three.
    """
    if optimizer_state not in ("carry", "age", "reset"):
        raise ValueError(f"optimizer_state={optimizer_state!r}: must be carry, age or reset")
    proposal.check(model)
    if isinstance(proposal, BlockRemoval):
        del proposal.site.stack[proposal.site.index]
    elif isinstance(proposal, UnitRemoval):
        _replace(proposal)
        with torch.no_grad():
            _narrow(proposal, optimizer)
    elif isinstance(proposal, DepthProposal):
        block = proposal.block(like=next(model.parameters()))  # refuses a state that does not fit
        _replace(proposal)
        if optimizer is not None:
            forget(optimizer, proposal.replace)  # their moments are those of another basis
            for name, parameter in block.named_parameters():
                if name in proposal.moments:
                    inherit(optimizer, proposal.moments[name], parameter)
            mark_new(optimizer, block.parameters(), lr_factor, lr_warmup)
        stack = proposal.site.stack
        stack.insert(proposal.site.index, block.train(stack.training))
    else:
        _replace(proposal)
        with torch.no_grad():
            ages = optimizer_state == "age"
            add: Any = _widen if isinstance(proposal, WidthProposal) else _add_heads
            add(proposal, optimizer, ages=ages, lr_factor=lr_factor, lr_warmup=lr_warmup)
    if optimizer is not None:
        if optimizer_state == "reset" or getattr(optimizer, "whole_net", False):
            forget(optimizer, optimizer.state)
        regroup(model, optimizer)


def _replace(proposal: Addition | UnitRemoval) -> None:
    with torch.no_grad():
        for parameter, values in proposal.replace.items():
            parameter.copy_(values)


def _widen(proposal: WidthProposal, optimizer: Optimizer | None, **marks: Any) -> None:
    site, k = proposal.site, proposal.units
    producer, consumer = site.producer, site.consumer
    _append(producer, "weight", 0, proposal.incoming, optimizer, **marks)
    if producer.bias is not None:
        bias = proposal.incoming_bias
        _append(producer, "bias", 0, producer.bias.new_zeros(k) if bias is None else bias, optimizer, **marks)
    for follower in site.followers:
        for name, values in proposal.follower_values(follower).items():
            _append(follower, name, 0, values, optimizer, **marks)
    _append(consumer, "weight", 1, proposal.outgoing, optimizer, **marks)
    for module in (producer, *site.followers, consumer):
        set_sizes(module)


def _add_heads(proposal: HeadProposal, optimizer: Optimizer | None, **marks: Any) -> None:
    site = proposal.site
    for producer, weight, bias in zip(site.producers, proposal.incoming, proposal.incoming_bias, strict=True):
        _append(producer, "weight", 0, weight, optimizer, **marks)
        _append(producer, "bias", 0, bias, optimizer, **marks)
    _append(site.consumer, "weight", 1, proposal.outgoing, optimizer, **marks)
    for linear in (*site.producers, site.consumer):
        set_sizes(linear)


def _narrow(proposal: UnitRemoval, optimizer: Optimizer | None) -> None:
    site = proposal.site
    mask = torch.ones(site.units, dtype=torch.bool)
    mask[proposal.removed.cpu()] = False
    device = site.producer.weight.device
    stays = sent(mask.nonzero().flatten(), device)
    read = sent(mask.repeat_interleave(site.columns_per_unit).nonzero().flatten(), device)
    for name in ("weight", "bias"):
        _shorten(site.producer, name, 0, stays, optimizer)
    for follower in site.followers:
        for name, tensor in follower.state_dict().items():
            if tensor.ndim:
                _shorten(follower, name, 0, stays, optimizer)
    _shorten(site.consumer, "weight", 1, read, optimizer)
    for module in (site.producer, *site.followers, site.consumer):
        set_sizes(module)


def _shorten(owner: nn.Module, name: str, dim: int, kept: Tensor, optimizer: Optimizer | None) -> None:
    old = getattr(owner, name)
    if old is None:
        return
    shorter = old.index_select(dim, kept)
    if isinstance(old, nn.Parameter):
        shorter = nn.Parameter(shorter, requires_grad=old.requires_grad)
        if optimizer is not None:
            select(optimizer, old, shorter, dim, kept)
    setattr(owner, name, shorter)


def _append(owner: nn.Module, name: str, dim: int, values: Tensor, optimizer: Optimizer | None, **marks: Any) -> None:
    old = getattr(owner, name)
    longer = torch.cat([old, values.to(old)], dim)
    if isinstance(old, nn.Parameter):
        longer = nn.Parameter(longer, requires_grad=old.requires_grad)
        if optimizer is not None:
            carry(optimizer, old, longer, dim, **marks)
    setattr(owner, name, longer)
