"""Self-expanding neural networks (Mitchell, Mundt and Kersting): when, where and what from the natural expansion score.

η = gᵀF⁻¹g is the rate at which natural gradient descent lowers the loss. A unit or a layer is added where it raises that of
its layer most, by a fraction above τ − 1 and by more than α, as judged on samples that it was not optimised on; never so
that the function changes: new units are not read at first, and a new layer begins as an invertible map that the next one
undoes. Additions follow one another until nothing qualifies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError, check
from grow_cli.methods.base import Method, MethodOption, Plan
from grow_cli.methods.width import check_widening, limits, no_room, room, units_left
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.methods.expanding.readings import Scored
    from grow_cli.methods.expanding.visit import Candidate, Visit
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.surgery.proposal import DepthProposal, WidthProposal
    from grow_cli.training.state import Run

_RATIONAL = ("rational", "rational_raw")


class Senn(Method):
    """Section 3.4's summary, a visit at a time."""

    kind = "width"
    preserves_function = True

    def __init__(self, option: SennOption) -> None:
        self.option = option
        self.last_layer: int | None = None
        """The step of the last inserted layer."""
        self._seen: tuple[tuple[int, int, int], Visit, list[Candidate]] | None = None
        """A visit whose first look has been taken already, by a trigger, and the moment it holds for."""

    def check(self, model: GrowableModel) -> None:
        if model.width_sites() or not self.option.depth:
            check_widening(model, self.option.name)

    def closed(self, run: Run) -> str:
        if (self.option.depth and units_left(run)) or any(room(run, site) for site in run.model.width_sites()):
            return ""
        return no_room(run)

    def scored(self, run: Run, samples: int) -> tuple[list[Scored], int]:
        """As a visit would judge them, on its own held-out samples: a layer's gain is divided by its penalty."""
        visit, found = self._look(run)
        flops, visit.flops = visit.flops, 0
        return [candidate.scored for candidate in found], flops

    def _look(self, run: Run) -> tuple[Visit, list[Candidate]]:
        import torch

        from grow_cli.methods.expanding.visit import Visit

        limits(run)  # says so if they do not fit the net
        seed = int(torch.randint(2**62, ()))
        now = (run.progress.step, run.progress.firings, seed)
        if self._seen is None or self._seen[0] != now:
            layer_due = self.last_layer is None or run.progress.step >= self.last_layer + self.option.layer_every
            visit = Visit(run, self.option, seed, layers_allowed=layer_due)
            self._seen = (now, visit, visit.look())
        return self._seen[1], self._seen[2]

    def propose(self, run: Run) -> Plan:
        plan = Plan()
        plan.proposals = self._additions(run, plan)
        return plan

    def _additions(self, run: Run, plan: Plan) -> Iterator[DepthProposal | WidthProposal]:
        option = self.option
        visit, found = self._look(run)
        self._seen = None
        plan.details["candidates"] = [candidate.details() for candidate in found]
        while True:
            qualified = [c for c in found if c.scored.qualifies(option.tau, option.alpha)]
            best = max(qualified, key=lambda c: c.scored.gain, default=None)
            if best is None:
                plan.reason = self._nothing(run, visit, found)
                break
            yield best.proposal()
            run.stop_if_interrupted()
            if best.site.kind == "depth":
                self.last_layer = run.progress.step
            visit.added(best.site)
            found = visit.look()
        plan.flops = visit.flops
        if visit.skipped:
            plan.details["skipped"] = visit.skipped

    def state_dict(self) -> dict[str, Any]:
        return {"last_layer": self.last_layer}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last_layer = state["last_layer"]

    def _nothing(self, run: Run, visit: Visit, found: list[Candidate]) -> str:
        option = self.option
        if not found:
            skipped = "; ".join(f"{name}: {why}" for name, why in visit.skipped.items())
            return skipped or self.closed(run) or "there is no site"
        best = max(found, key=lambda c: c.scored.gain)
        return (
            f"the best proposal, at {best.site.name}, has Δη'/η_c = {best.scored.ratio:.3g} "
            f"(tau - 1 = {option.tau - 1:.3g}) and Δη' = {best.scored.gain:.3g} (alpha = {option.alpha:.3g})"
        )


@option("method", "senn")
@dataclass
class SennOption(MethodOption):
    """Appendix C; the numbers of proposals are a CPU's."""

    tau: float = 1.03
    """Expansion threshold: an addition must raise its layer's score by more than the fraction tau - 1."""
    alpha: float = 0.0025
    """Stopping criterion: by more than so much of λ = E‖∂L/∂outputs‖², too."""
    width: bool = True
    """Add units."""
    depth: bool = True
    """Insert layers, at most one a visit."""
    layer_every: int = 0
    """Fewest steps from one new layer to the next, beside the one a visit."""
    layer_penalty: float = 60
    """By which a layer's gain is divided when it is compared: about the units that it stands for."""
    widest_layer: int = 128
    """Layers are not inserted where they would have more units: they are as wide as what passes there."""
    search: str = "ascent"
    """`ascent`: monotone gradient ascent, the best is taken; `langevin`: Metropolis-adjusted Langevin, one is drawn."""
    proposals: int = 300
    """New units tried at a site."""
    layer_proposals: int = 30
    """New layers tried at a site."""
    steps: int = 300
    """Of the search; a tenth of it after each addition."""
    step: float = 0.3
    """Its first step."""
    temperature: float = 1
    """Of the Langevin sampler, against Δη' summed over the samples (10 in the paper, whose unit is not known)."""
    samples: int = 1024
    """On which proposals are optimised."""
    held_out: int = 1024
    """Others, on which they are judged; with fewer training samples both shrink in proportion."""
    judged: str = "cross_fitted"
    """`cross_fitted`: the weights on the new activations are those that were best where these were optimised, so that noise
    gains less than nothing; `refitted` (the paper's): those that are best on the held-out samples themselves."""
    residual: str = "layer"
    """`layer` (the paper's): what the layer's own weights cannot reach; `network` (the authors' code): nor the whole net."""

    def __post_init__(self) -> None:
        check(self.tau > 1, f"method.tau={self.tau:g}: must be above 1, or additions might never end (Theorem 1)")
        check(self.alpha >= 0, f"method.alpha={self.alpha:g}: must be 0 or more")
        check(self.width or self.depth, "method.width=false and method.depth=false: one of them must be true")
        check(self.layer_penalty > 0, f"method.layer_penalty={self.layer_penalty:g}: must be above 0")
        check(self.layer_every >= 0, f"method.layer_every={self.layer_every}: must be 0 steps or more")
        for name in ("widest_layer", "proposals", "layer_proposals", "steps"):
            value = getattr(self, name)
            check(value >= 1, f"method.{name}={value}: must be 1 or more")
        check(self.step > 0, f"method.step={self.step:g}: must be above 0")
        check(self.temperature > 0, f"method.temperature={self.temperature:g}: must be above 0")
        check(self.samples >= 2, f"method.samples={self.samples}: must be 2 or more")
        check(
            self.held_out >= 2,
            f"method.held_out={self.held_out}: proposals must be judged on samples that they were not optimised on: "
            "give 2 or more",
        )
        for name, allowed in (
            ("search", ("ascent", "langevin")),
            ("judged", ("cross_fitted", "refitted")),
            ("residual", ("layer", "network")),
        ):
            value = getattr(self, name)
            check(value in allowed, f"method.{name}={value}: must be one of {', '.join(allowed)}")

    def check_run(self, config: Config) -> list[str]:
        if self.alpha == 0 and config.growth.neurons is None:
            raise UserError(
                "method.alpha=0 and growth.neurons=null: nothing would end the additions of a visit (Theorem 1): give one of them"
            )
        if not self.depth:
            return []
        model = config.model
        activation = getattr(model, "activation", None)
        if model.residual or not hasattr(model, "activation"):
            raise UserError(
                f"method=senn inserts layers into chains, and model={model.name} is none: use model=mlp or cnn, or set "
                "method.depth=false"
            )
        if activation not in _RATIONAL:
            raise UserError(
                f"model.activation={activation} cannot be the identity, so that no layer can be inserted without changing "
                "the function: use model.activation=rational, or set method.depth=false"
            )
        if getattr(model, "norm", "none") != "none":
            raise UserError(
                f"model.norm={model.norm} keeps an inserted layer from being the identity: use model.norm=none, or set "
                "method.depth=false"
            )
        limit = config.growth.max_units
        if limit is not None and len(limit) > 1:
            raise UserError(
                f"growth.max_units={limit}: with layers being inserted there is no saying which number is whose: give one "
                "for all, or set method.depth=false"
            )
        return []

    def build(self, model: GrowableModel) -> Method:
        return Senn(self)
