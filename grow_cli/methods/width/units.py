"""From directions to a proposal: new units that norms pass on unchanged."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from grow_cli.methods.width.amplitude import preactivations
from grow_cli.models.modules.sites import WidthSite
from grow_cli.surgery.patches import SitePatches
from grow_cli.surgery.proposal import WidthProposal


def make_units(
    site: WidthSite,
    patches: SitePatches,
    alpha: Tensor,
    omega: Tensor,
    *,
    inputs: Tensor | None = None,
    replace: dict[nn.Parameter, Tensor] | None = None,
    details: dict[str, Any],
) -> WidthProposal:
    """Units with fan-in α (k, p) and fan-out ω (m · offsets, k).

    A batch norm between them and the consumer gets for each the statistics of its pre-activations on `inputs`, and the
    scale and shift that undo them: the unit passes as it is, in training as in evaluation. Without inputs it is taken to be 0.
    """
    weight = site.producer.weight
    if inputs is None:
        inputs = weight.new_zeros(1, *weight.shape[1:])
    fan_in = weight[0].numel()
    return WidthProposal(
        site,
        alpha[:, :fan_in].reshape(-1, *weight.shape[1:]),
        alpha[:, -1] if site.producer.bias is not None else None,
        patches.fan_out_weights(omega),
        followers=transparent_norms(site, preactivations(site, inputs, alpha)),
        replace=replace or {},
        details=details,
    )


def transparent_norms(site: WidthSite, z: Tensor) -> dict[str, Tensor]:
    """For each batch norm among the followers, the new units' entries: statistics of z, scale and shift that undo them.

    A unit that is constant passes whatever its scale: that is 1, as those of a new net are.
    """
    values: dict[str, Tensor] = {}
    for norm in site.followers:
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            dims = [d for d in range(z.dim()) if d != 1]
            variance, mean = torch.var_mean(z, dims, correction=0)
            values |= {
                "running_mean": mean,
                "running_var": variance,
                "weight": torch.where(variance > 0, (variance + norm.eps).sqrt(), 1.0),
                "bias": mean,
            }
    return values


def updated(site: WidthSite, update: Tensor) -> dict[nn.Parameter, Tensor]:
    """The consumer's parameters after adding δW (m, q), the bias in its last column."""
    consumer = site.consumer
    weight = consumer.weight
    columns = weight[0].numel()
    replace = {cast(nn.Parameter, weight): weight.detach() + update[:, :columns].reshape(weight.shape)}
    if consumer.bias is not None:
        replace[cast(nn.Parameter, consumer.bias)] = consumer.bias.detach() + update[:, -1]
    return replace
