"""Net2WiderNet: new units are copies of existing ones, and the copies share the outgoing weights (Chen et al., 2016).

The function does not change. Equal shares would keep copies equal forever, so the shares differ by a random vector that
sums to zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from grow_cli.keys import key
from grow_cli.methods.width import WidthMethod, room
from grow_cli.methods.width.offer import NO_ROOM, Offer
from grow_cli.registry import option

if TYPE_CHECKING:
    from torch import Tensor, nn

    from grow_cli.models.modules.sites import WidthSite
    from grow_cli.moment import Moment


@option("method", "net2net")
@dataclass
class Net2Net(WidthMethod):
    """Copies of randomly drawn units, each copied equally often as far as possible."""

    on_several_ranks = True

    noise: float = key(0.1, at_least=0)
    """Size of the random difference between the copies' shares, relative to a share."""

    preserves_function = True
    measures_gain = False
    no_score = "copies of existing units have the score 0"

    def offers(self, now: Moment, sites: list[WidthSite]) -> Iterator[Offer]:
        for site in sites:
            yield self._offer(now, site)

    def _offer(self, now: Moment, site: WidthSite) -> Offer:
        from grow_cli.hardware import sent
        from grow_cli.surgery.proposal import WidthProposal

        producer, consumer = site.producer, site.consumer.weight.detach()
        weight = producer.weight.detach()
        k, units = room(now, site), site.units
        if k == 0:
            return Offer(site, reason=NO_ROOM)
        copied, shares = shared(consumer.reshape(len(consumer), units, -1), k, self.noise)
        source = sent(copied, consumer.device)
        followers = {
            name: tensor[source]
            for follower in site.followers
            for name, tensor in follower.state_dict().items()
            if tensor.ndim
        }
        details = {"site": site.name, "units": k, "copied": copied.tolist()}
        proposal = WidthProposal(
            site,
            weight[source],
            None if producer.bias is None else producer.bias.detach()[source],
            shares[:, units:].reshape(len(consumer), k * site.columns_per_unit, *consumer.shape[2:]),
            followers=followers,
            replace={cast("nn.Parameter", site.consumer.weight): shares[:, :units].reshape(consumer.shape)},
            details=details,
        )
        return Offer(site, proposal)


def shared(columns: Tensor, k: int, noise: float) -> tuple[Tensor, Tensor]:
    """Which units are copied, and what each unit, old or new, hands on, so that all together hand on what they did.

    :param columns: (outputs, units, columns per unit), what each hands on now
    :return: (k,) on the CPU, and (outputs, units + k, columns per unit)
    """
    import torch

    from grow_cli.hardware import sent

    outputs, units, per_unit = columns.shape
    turns = -(-k // units)
    source = torch.cat([torch.randperm(units) for _ in range(turns)])[:k]
    copies = sent(1 + torch.bincount(source, minlength=units), columns.device).view(1, -1, 1).to(columns.dtype)
    group = sent(torch.cat([torch.arange(units), source]), columns.device)
    shares = (columns / copies)[:, group]
    drawn = sent(torch.randn(shares.shape), columns.device).to(shares.dtype)
    drawn = drawn * noise * shares.norm(dim=(0, 2), keepdim=True)
    drawn /= (outputs * per_unit) ** 0.5
    mean = torch.zeros_like(columns).index_add_(1, group, drawn) / copies
    return source, shares + drawn - mean[:, group]  # within a group of copies the noise adds up to zero
