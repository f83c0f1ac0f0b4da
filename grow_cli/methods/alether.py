"""Alether (Rocha, 2025): depth growth by extrapolating the trajectory of the frontier layer's weights.

The paper claims that the path of a layer's weights shows where the next layer should start: at its end, a little
further along its mean velocity and mean acceleration, and outside its dynamic subspace when the path shows stagnation.
Every tensor of the layer is extrapolated separately (Algorithm 1).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from grow_cli.keys import key
from grow_cli.methods.depth import DepthMethod, NewBlock, Start, copied, fresh, named, stack_of
from grow_cli.records.words import counted
from grow_cli.registry import option

if TYPE_CHECKING:
    from torch import Tensor, nn

    from grow_cli.config import Config
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Notes

PERTURBATION = 0.1
"""The part of a standard initialization in `fallback=perturbed`."""


@option("method", "alether")
@dataclass
class Alether(DepthMethod):
    """w_new = w_{S-1} + β V̂_U + γ Â_U + η v_escape (Def. 18), tensor by tensor. The keys are those of Table 1."""

    on_several_ranks = True

    beta0: float = key(0.1, at_least=0)
    """Step along the mean velocity (Def. 15)."""
    gamma0: float = key(0.15, at_least=0)
    """Step along the mean acceleration (Def. 16)."""
    eta0: float = key(0.03, at_least=0)
    """Step along the escape direction (Def. 17)."""
    rank: int | None = key(10, at_least=1, null="for the participation ratio of the modes")
    """k: dimension of the dynamic subspace; null: chosen per tensor by the number of modes that its motion is spread
    over (7.2.2)."""
    escape_modes: int = key(5, at_least=1)
    """ℓ: modes beyond the subspace in the escape direction (Def. 14)."""
    tau_crit: float = key(2.0, at_least=0)
    """The escape term acts above this tau and above kappa_crit (Def. 17)."""
    kappa_crit: float = key(0.5, at_least=0)
    """The same for the trajectory's curvature."""
    eta_max: float | None = key(0.1, at_least=0, null="for no bound")
    """Upper bound of the escape gain, as beta0 and gamma0 bound the other steps; null: unbounded, as in Definition 17."""
    escape_along: str = key("orthogonal", one_of=("orthogonal", "modes"))
    """`orthogonal` (Algorithm 1): the part of the mean velocity outside the subspace; `modes` (Def. 18): the next
    modes."""
    step_scale: str = key("absolute", one_of=("absolute", "velocity"))
    """`absolute` (as in the paper): steps are lengths; `velocity`: steps are multiples of the tensor's mean velocity."""
    eps: float = key(1e-8, above=0)
    """Added to denominators."""
    fallback: str = key("none", one_of=("none", "copy", "random", "perturbed"))
    """What to do if the history is too short or too noisy (Remark 17): `copy` the source, start at `random`, or
    `perturbed`: the source plus a tenth of a random block. `none`: use the history as it is, and add nothing with fewer
    than 3 snapshots."""
    min_snapshots: int = key(10, at_least=3)
    """For `fallback`: a history with fewer snapshots is too short."""
    min_snr: float = key(0.0, at_least=0)
    """For `fallback`: a tensor's history with a lower SNR (Remark 16) is too noisy; 0: never too noisy."""

    needs_trajectory = True

    @property
    def settings(self) -> dict[str, Any]:
        """What is not the protocol's is the extrapolation's, under the same names."""
        protocol = {f.name for f in fields(DepthMethod)} | {"fallback", "min_snapshots", "min_snr"}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in protocol}

    def check_run(self, config: Config) -> list[str]:
        warnings = super().check_run(config)
        velocities = config.trajectory.window - 1
        if self.rank is not None and self.rank >= velocities:
            warnings.append(
                f"method.rank={self.rank} reaches all {velocities} velocities of trajectory.window="
                f"{config.trajectory.window}: no direction is left to escape along: use a rank below {velocities}"
            )
        return warnings + self._unequal_thresholds(config.trigger)

    def _unequal_thresholds(self, trigger: Any) -> list[str]:
        """Definitions 17 and 19 share their thresholds: the escape acts from where the layer counts as stagnant."""
        crit = getattr(trigger, "crit", None)
        if crit is None:
            return []
        mine = f"method.tau_crit={self.tau_crit:g} and method.kappa_crit={self.kappa_crit:g}"
        if getattr(trigger, "scale", "absolute") == "diffusion":
            unbounded = self.eta_max is None and self.eta0 > 0
            told = (
                f"trigger.scale=diffusion fires where tau and kappa are a random walk's, far above {mine}, beyond which the "
                "escape gain is unbounded: set method.eta_max"
            )
            return [told] if unbounded else []
        if crit == (self.tau_crit, self.kappa_crit):
            return []
        return [
            f"the trigger fires above tau={crit[0]:g} and kappa={crit[1]:g}, but new layers escape above {mine}: the paper "
            "uses one pair of thresholds for both, so set the method's equal to the trigger's"
        ]

    @property
    def follows_all(self) -> bool:
        """Whether new blocks are made of several ones, so that the trajectory of every block is recorded."""
        return self.pattern not in ("before_frontier", "top")

    def frontier(self, model: GrowableModel) -> nn.Module:
        """What is watched: the frontier block, or the whole stack, which τ and κ then are of."""
        if self.follows_all:
            return stack_of(model)
        return super().frontier(model)

    def starts(self, now: Moment, notes: Notes, new: list[NewBlock]) -> list[Start]:
        history = now.history
        assert history is not None, "needs_trajectory makes the run record one"
        if self.fallback != "none" and len(history) < self.min_snapshots:
            reason = f"{counted(len(history), 'snapshot')} of method.min_snapshots={self.min_snapshots}"
            return [
                Start(
                    self.fallen_back(now, block),
                    {"fallback": self.fallback, "reason": reason, "source": named(block.source)},
                )
                for block in new
            ]
        if len(history) < 3:
            notes.nothing(
                f"the frontier has {counted(len(history), 'snapshot')} and an extrapolation needs 3: lower "
                "trajectory.every, grow later, or set method.fallback=copy"
            )
            return []
        extrapolated = history.extrapolate(**self.settings)  # Algorithm 1
        metrics = history.metrics()
        logged = ("tau", "kappa", "rho", "rank", "beta", "gamma", "eta", "escape", "snr")
        started = []
        for block in new:
            prefix = f"{block.source}." if self.follows_all else ""
            own = {name.removeprefix(prefix): e for name, e in extrapolated.items() if name.startswith(prefix)}
            state = copied(now, block.source)  # buffers are copied
            state |= {name: e.weights.clone() for name, e in own.items()}
            noisy = [name for name, e in own.items() if self.fallback != "none" and e.snr < self.min_snr]
            if noisy:
                instead = self.fallen_back(now, block)
                state |= {name: instead[name] for name in noisy}
            details = {
                "tau": metrics.tau,
                "kappa": metrics.kappa,
                "rho": metrics.rho,
                "snapshots": list(history.steps),
                "tensors": {
                    name: {field: getattr(e, field) for field in logged}
                    | {"singular_values": e.singular_values.tolist()}
                    for name, e in own.items()
                },
                "source": named(block.source),
            }
            if noisy:
                details |= {"fallback": self.fallback, "noisy": noisy}
            started.append(Start(state, details))
        return started

    def fallen_back(self, now: Moment, block: NewBlock) -> dict[str, Tensor]:
        """What a block begins with where its history is not believed (Remark 17)."""
        if self.fallback == "copy":
            return copied(now, block.source)
        random = dict(fresh([block])[0].state)
        if self.fallback == "random":
            return random
        return {  # of a norm, which begins at constants, nothing is added
            name: t + PERTURBATION * (random[name] - random[name].mean()).to(t) if t.is_floating_point() else t
            for name, t in copied(now, block.source).items()
        }
