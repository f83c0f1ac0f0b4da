"""An offer from directions: the best update first, then the new units on top of it, each at its best amplitude."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grow_cli.data.sample import draw
from grow_cli.hardware import sent
from grow_cli.methods.width.amplitude import Search, plus, search_units
from grow_cli.methods.width.offer import Offer
from grow_cli.methods.width.units import make_units, updated
from grow_cli.models.modules.sites import WidthSite
from grow_cli.records.words import counted
from grow_cli.surgery.patches import SitePatches
from grow_cli.surgery.proposal import WidthProposal
from grow_cli.surgery.signals import Tail

if TYPE_CHECKING:
    from grow_cli.moment import Moment

# Numbers that a consumer puts out for one sample: from here on the search costs as much as the statistics.
_LARGE = 2**14


def offer_of(
    now: Moment,
    site: WidthSite,
    batch: tuple[Tensor, Tensor],
    halvings: int,
    *,
    alpha: Tensor,
    omega: Tensor,
    update: Tensor | None = None,
    details: dict[str, Any],
    reason: str = "",
) -> Offer:
    """Units α (k, p), ω (m · offsets, k), and a change `update` (m, q) of the consumer, as far as they lower the loss.

    `reason` says why there are no units, where k = 0.
    """
    x, y = batch
    patches = SitePatches(site)
    search = Search(now.model, site, x, y, now.loss)
    like = site.consumer.weight
    replace, gain = dict[Any, Tensor](), 0.0
    if update is not None:
        replace, gain = _keep_update(search, site, sent(update, like.device).to(like.dtype), halvings, details)
    if len(alpha):
        alpha, omega = (sent(t, like.device).to(like.dtype) for t in (alpha, omega))
        found, alpha, omega = search_units(search, patches, alpha, omega, halvings)
        loss = search.loss
        details |= {
            "amplitude": found.sign * found.epsilon,
            "loss_without": loss,
            "loss_with": found.loss,
            "loss_predicted": loss - found.predicted,
            "amplitudes_tried": found.tried,
        }
        gain = loss - found.loss or gain
        if found.epsilon == 0:
            reason = f"no amplitude down to 2^-{halvings} lowers the loss on {counted(len(y), 'sample')}"
    if reason:
        proposal = _no_units(site, replace, details) if replace else None
    else:
        proposal = make_units(
            site,
            patches,
            alpha,
            omega,
            inputs=torch.cat([part.inputs for part in search.parts]),
            replace=replace,
            details=details,
        )
    return Offer(site, proposal, reason, gain, details)


def _keep_update(
    search: Search, site: WidthSite, change: Tensor, halvings: int, details: dict[str, Any]
) -> tuple[dict[Any, Tensor], float]:
    """The consumer's parameters moved by δW at its best amplitude, which the search keeps, and by how much it lowers the
    loss; none where nothing is gained."""
    effects = {part: search.update_effect(part, change) for part in search.parts}
    scale = search.scale(effects.__getitem__)
    size = search.later(scale)
    found = search.best(
        lambda part, epsilon, sign: plus(part.outputs, effects[part], epsilon * scale), halvings, both_signs=False
    )
    details["update_amplitude"] = found.epsilon
    if found.epsilon == 0:
        return {}, 0.0
    factor, gain = found.epsilon * size(), search.loss - found.loss
    search.keep(lambda part: factor * effects[part], found.loss)
    return updated(site, factor * change), gain


def search_batch(now: Moment, samples: int | None) -> tuple[Tensor, Tensor]:
    """The minibatch on which amplitudes are judged, drawn anew; inside a growth event. None: as large as it has to be."""
    if samples is None:
        x = now.data.probe(1).x
        samples = samples_for(max(Tail(now.model, s.consumer, x).outputs.numel() for s in now.model.width_sites()))
    return next(iter(draw(now.data, samples, samples)))


def samples_for(numbers: int) -> int:
    """How many samples amplitudes are judged on if a consumer has `numbers` outputs for each sample.

    Half of the usual 500 keeps 97 % of what these gain (docs/results/amplitudes.md), for half of the time and memory.
    """
    return 500 if numbers <= _LARGE else 256


def _no_units(site: WidthSite, replace: dict[Any, Tensor], details: dict[str, Any]) -> WidthProposal:
    """The best update alone."""
    producer, consumer = site.producer.weight, site.consumer.weight
    nothing = torch.empty(0, *producer.shape[1:], device=producer.device, dtype=producer.dtype)
    return WidthProposal(site, nothing, None, consumer.detach()[:, :0], replace=replace, details=details)
