"""GradMax: new neurons that leave the function unchanged and receive the largest gradient (Evci et al., 2022; TINY, B.1).

Fan-in zero, fan-out along the top singular vectors of the gradient that the fan-in will get. Unlike TINY it does not
subtract what existing neurons can already do, and it measures weights instead of activities.

After max-pooling the gradient is that of the window's mean; after a batch norm the units, which are 0, get the scale 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.methods.width import SampledMethod, room
from grow_cli.methods.width.offer import NO_ROOM, Offer
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.methods.width.statistics import Statistics
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import WidthSite
    from grow_cli.moment import Moment


@option("method", "gradmax")
@dataclass
class GradMax(SampledMethod):
    """max ‖N Ω‖² over fan-outs Ω of a given norm, N = Σ B_in V_goalᵀ/n (unprojected)."""

    on_several_ranks = True

    scale: float = key(0.5, above=0)
    """Norm of a new neuron's outgoing weights, as a fraction of the existing ones' mean."""

    preserves_function = True

    @property
    def gathered(self) -> dict[str, Any]:
        return {"update": False, "whiten": False, "significance": False}

    def check(self, model: GrowableModel) -> list[str]:
        from grow_cli.methods.width.activation import at_zero

        warnings = super().check(model)
        for found in at_zero(model):
            if found.value != 0 or found.derivative == 0:
                what = f"is {found.value:g}" if found.value != 0 else "passes no gradient"
                raise UserError(
                    f"method=gradmax adds units with zero incoming weights, and {found.kind} at {found.where!r} {what} "
                    "there: use model.activation=relu_right (ReLU with the derivative 1 at 0), selu, tanh or elu"
                )
        return warnings

    def offers(self, now: Moment, sites: list[WidthSite]) -> Iterator[Offer]:
        for found in self.observed(now, sites):
            yield self._offer(now, found)

    def _offer(self, now: Moment, found: Statistics) -> Offer:
        import torch

        from grow_cli.methods.width.units import make_units

        site = found.site
        limit = room(now, site)
        if limit == 0:
            return Offer(site, reason=NO_ROOM)
        _, singular, right = torch.linalg.svd(found.cross, full_matrices=False)
        # no more than the rank: a neuron beyond it would get no gradient
        right = right[: min(limit, int((singular > 1e-6 * singular[0]).sum()))]
        consumer = site.consumer.weight.detach()
        norm = self.scale * float(consumer.movedim(1, 0).reshape(site.units, -1).norm(dim=1).mean())
        omega = norm * right.T
        details = {
            "site": site.name,
            "singular_values": singular.tolist(),
            "units": len(right),
            "fan_out_norm": norm,
            "samples": found.samples,
        }
        alpha = consumer.new_zeros(len(right), found.patches.fan_in)
        proposal = make_units(site, found.patches, alpha, omega.to(consumer), details=details)
        return Offer(site, proposal, gain=float((found.cross @ omega).square().sum()))
