"""Self-expanding neural networks (Mitchell, Mundt and Kersting): when, where and what from the natural expansion score.

η = gᵀF⁻¹g is the rate at which natural gradient descent lowers the loss. A unit or a layer is added where it raises its
layer's score most, by a fraction above τ − 1 and by more than α, judged on samples that it was not optimised on. The
function never changes: new units are not read at first, and a new layer starts as an invertible map that the next one
undoes. Additions continue until nothing qualifies.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError
from grow_cli.methods.depth import on_paper
from grow_cli.methods.senn.settings import Settings
from grow_cli.methods.width import check_widening, limits, no_room, room, units_left
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.methods.senn.visit import Candidate, Visit
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import DepthSite
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Event, Notes
    from grow_cli.theory.expansion import Scored


@option("method", "senn")
@dataclass
class Senn(Settings):
    """Section 3.4's summary, a visit at a time."""

    kind = "width"
    preserves_function = True

    @dataclass
    class State:
        last_layer: int | None = None
        """The step of the last inserted layer."""
        seen: Any = None
        """A visit whose first look has been taken already, by a trigger, and the moment it holds for; not checkpointed."""
        looked: list[int] | None = None
        """The moment of the last first look: counted once, though a resumed run takes it anew."""

    def check_run(self, config: Config) -> list[str]:
        if self.alpha == 0 and config.growth.neurons is None:
            raise UserError(
                "method.alpha=0 and growth.neurons=null: nothing would limit the additions of a visit (Theorem 1): give one "
                "of them"
            )
        limit = config.growth.max_units
        if self.depth and limit is not None and len(limit) > 1:
            raise UserError(
                f"growth.max_units={limit}: inserted layers make a per-layer list ambiguous: give one limit for all layers, "
                "or set method.depth=false"
            )
        return []

    def check(self, model: GrowableModel) -> list[str]:
        if model.width_sites() or not self.depth:
            check_widening(model, self.name)
        if self.depth:
            self._check_insertion(model)
        return []

    def _check_insertion(self, model: GrowableModel) -> None:
        from grow_cli.models.modules.activations import Rational

        chain = [site for site in model.depth_sites() if not site.residual]
        if not chain:
            raise UserError(
                f"method=senn inserts layers into chains, and model={model.name} has no place for one: use model=mlp or cnn, or "
                "set method.depth=false"
            )

        def begins_as_identity(site: DepthSite) -> bool:
            return site.identity and any(isinstance(m, Rational) for m in on_paper(site).modules())

        if not any(map(begins_as_identity, chain)):
            raise UserError(
                f"method=senn cannot insert a layer into model={model.name} without changing the function: its activation "
                "cannot be the identity, or its norm prevents it: use model.activation=rational and model.norm=none, or set "
                "method.depth=false"
            )

    def closed(self, now: Moment) -> str:
        if (self.depth and units_left(now)) or any(room(now, site) for site in now.model.width_sites()):
            return ""
        return no_room(now)

    def scored(self, now: Moment, samples: int, notes: Notes) -> list[Scored]:
        """As a visit would judge them, on its own held-out samples: a layer's gain is divided by its penalty."""
        return [candidate.scored for candidate in self._look(now)[1]]

    def _look(self, now: Moment) -> tuple[Visit, list[Candidate]]:
        import torch

        from grow_cli.methods.senn.visit import Visit
        from grow_cli.surgery.flops import counted_before

        limits(now)  # says so if they do not fit the net
        seed = int(torch.randint(2**62, ()))
        moment = [now.progress.step, now.progress.firings, seed]
        if self.state.seen is None or self.state.seen[0] != moment:
            layer_due = self.state.last_layer is None or now.progress.step >= self.state.last_layer + self.layer_every
            with counted_before() if self.state.looked == moment else nullcontext():
                visit = Visit(now, self, seed, layers_allowed=layer_due)
                self.state.seen, self.state.looked = (moment, visit, visit.look()), moment
        return self.state.seen[1], self.state.seen[2]

    def add(self, now: Moment, event: Event) -> None:
        visit, found = self._look(now)
        self.state.seen = None
        event.details["candidates"] = [candidate.details() for candidate in found]
        while True:
            qualified = [c for c in found if c.scored.qualifies(self.tau, self.alpha)]
            best = max(qualified, key=lambda c: c.scored.gain, default=None)
            if best is None:
                event.nothing(self._nothing(now, visit, found))
                break
            event.apply(best.proposal())
            now.stop_if_interrupted()
            if best.site.kind == "depth":
                self.state.last_layer = now.progress.step
            visit.added(best.site)
            found = visit.look()
        if visit.skipped:
            event.details["skipped"] = visit.skipped

    def state_dict(self) -> dict[str, Any]:
        return {"last_layer": self.state.last_layer, "looked": self.state.looked}

    def _nothing(self, now: Moment, visit: Visit, found: list[Candidate]) -> str:
        if not found:
            skipped = "; ".join(f"{name}: {why}" for name, why in visit.skipped.items())
            return skipped or self.closed(now) or "there is no site"
        best = max(found, key=lambda c: c.scored.gain)
        return (
            f"the best proposal, at {best.site.name}, has Δη'/η_c = {best.scored.ratio:.3g} "
            f"(tau - 1 = {self.tau - 1:.3g}) and Δη' = {best.scored.gain:.3g} (alpha = {self.alpha:.3g})"
        )
